"""How far a stored or served number may be from its recomputed value, and in which steps to read.

* ``min``, ``max``: the same number; zeros of either sign are one number. ``last``: the same bits.
* The sum of a block: the same value of the pair, if its prices are close enough together for the
  sum of the engine to be exact (:data:`EXACT_BELOW`). Otherwise within 2^-80 of the largest price,
  times their count.
* ``m2`` of a block, ``var`` of a window: within 1e-14 of it, plus four times the smallest double
  per price. Squares round, and a processor with other vectors adds them in another order. 1e-14 is
  what the service promises.
* ``avg``: within 1 ulp of the exact mean or, if prices of both signs cancel, within 2^-80 of the
  largest price. That is the promise too.
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
"""Largest absolute error of ``m2``, in smallest doubles per price: smaller squares are lost."""

CANCELLED = 2.0**-40
"""If a mean is below this fraction of the mean magnitude, prices of both signs have cancelled."""

CANCELLED_MAX = 2.0**-80
"""Largest error of such a mean, relative to the largest price."""

EXACT_BELOW = 2.0**50
"""The sum of a block is exact if largest / smallest magnitude × prices × fanout is below this.

Then every price is a multiple of one unit, with so few bits above it that neither the grid of a
level nor the remainders below the grid exceed 53 bits. By the derivation 2^52 would do; a factor of
four is kept for its roundings upwards."""

RUN = 1 << 16  # prices per run; a run is read twice and fits the second-level cache

STEP = 1 << 20  # prices between two checks for overwritten ones, and between two progress calls

SMALLEST_DOUBLE = 5e-324
