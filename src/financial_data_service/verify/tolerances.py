"""Recompute what is stored above the prices, and what is answered, from the prices alone.

Two things are compared. *Levels*: every summary of every level that still has all its prices, each
from all of them and not from the level below. *Windows*: the answers for the last ``10**k`` prices
as they are served, with the prices of the window read one by one.

Nothing of the engine's arithmetic is used. It splits sums at a grid, adds in any order, and
combines summaries in doubles (:mod:`~financial_data_service.engine.kernels`); here the prices are
added up in order, in three doubles that carry each other's roundings (Ogita, Rump, Oishi: Accurate
sum and dot product, SIAM J. Sci. Comput. 26(6), 2005, doi:10.1137/030601818), squares in two, and
runs of prices are put together in exact fractions. So a fault of the engine's arithmetic, of its
tree, or of the processor's vector unit does not repeat itself here.

What counts as equal
--------------------
* ``min``, ``max``: the same number (zeros of either sign are one number); ``last``: the same bits.
* the sum of a block: the very same value of the pair, as long as its prices lie close enough
  together for the engine's sum to be exact (:data:`EXACT_BELOW`); beyond that within 2^-80 of the
  largest price, times their count.
* ``m2`` of a block, ``var`` of a window: within 1e-14, or four times the smallest double a price.
  Squares round, and a processor with other vectors adds them in another order; 1e-14 is what the
  service promises.
* ``avg``: within 1 ulp of the exact mean, or where prices of both signs cancel, 2^-80 of the
  largest: again the promise.

What cannot be found: a change of the newest prices, which are in no block yet (fewer than the
fanout); of the last few bits of an ``m2``; of prices that have left every whole block.

All of it reads without a lock, while others may append. What was overwritten while it was read is
read again as of a later moment, or left out where it no longer exists; it is never compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = []

Floats: TypeAlias = npt.NDArray[np.float64]
Advance: TypeAlias = Callable[[int], None]

RELATIVE_MAX = 1e-14
"""How far ``m2`` and ``var`` may be off, relative to their size."""

SMALLEST_UNITS = 4
"""And besides, in units of the smallest double a price: squares below it cannot be told."""

CANCELLED = 2.0**-40
"""A mean below this part of the prices' size is what cancellation has left."""

CANCELLED_MAX = 2.0**-80
"""How far such a mean may be off, relative to the largest price."""

EXACT_BELOW = 2.0**50
"""A block's sum is exact if largest / smallest magnitude × prices × fanout is below it. Then every
price is a multiple of one unit, and so few bits above it that neither the grid of a level nor what
the split leaves below the grid exceeds 53 bits: 2^52 would do by the derivation, a quarter is kept
for its roundings up."""

RUN = 1 << 16  # prices added up at once: they fit the second-level cache, which is read twice

STEP = 1 << 20  # prices between two looks at whether they are still there, and moves of a bar

TRIES = 5
"""How often a window is begun anew because newer prices ran over it."""

_SMALLEST = 5e-324
