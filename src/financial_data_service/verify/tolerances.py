"""How far a stored or served number may be from its recomputed value, and in which steps to read.

* ``min`` and ``max`` must be equal; 0.0 and -0.0 are equal. ``last`` must have the same bits.
* The sum of a block must be equal if the magnitudes of its prices are close enough for the engine's
  sum to be exact (:data:`EXACT_BELOW`). The two doubles are compared by their sum. Otherwise the
  error is at most 2^-80 times the largest magnitude times the number of prices.
* ``m2`` of a block, ``var`` of a window: within 1e-14 of it, plus four times the smallest double
  per price. Squares are rounded, and processors with other vector sizes add them in another order.
  The service guarantees 1e-14.
* ``avg`` must be within 1 ulp of the exact mean. If prices of both signs cancel, it must be within
  2^-80 times the largest magnitude. The service guarantees this too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Advance: TypeAlias = Callable[[int], None]

RELATIVE_MAX = 1e-14
"""Largest relative error of ``m2`` and ``var``."""

SMALLEST_UNITS = 4
"""Largest absolute error of ``m2``, in units of the smallest double per price.

Smaller squares underflow.
"""

CANCELLED = 2.0**-40
"""If a mean is below this fraction of the mean magnitude, prices of both signs have cancelled."""

CANCELLED_MAX = 2.0**-80
"""Largest error of such a mean, relative to the largest price."""

EXACT_BELOW = 2.0**50
"""The sum of a block is exact if largest / smallest magnitude × prices × fanout is below this.

In that case every price is a multiple of one unit. The prices have so few bits above that unit that
both the part on the grid of a level and the remainder below the grid fit 53 bits. The derivation
allows 2^52. The bound is four times smaller, as a margin for rounding up."""

RUN = 1 << 16  # prices per run; a run is read twice and fits the second-level cache

STEP = 1 << 20  # prices between two checks for overwritten ones, and between two progress calls

SMALLEST_DOUBLE = 5e-324
