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

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import FIELDS, Geometry
from financial_data_service.engine.running_stats import WindowStats, k_max_of
from financial_data_service.errors import OverwrittenError
from financial_data_service.storage.held import Held

__all__ = [
    "Block",
    "Exact",
    "LevelsReport",
    "WindowCheck",
    "check_window",
    "check_windows",
    "verify_levels",
    "work_of_levels",
]

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

compiled: Any = njit(cache=True, nogil=True)


@compiled
def add_up(prices):  # type: ignore[no-untyped-def]
    """Add prices up, in order.

    Parameters
    ----------
    prices : float64[n]
        At least one.

    Returns
    -------
    tuple
        ``(min, max, smallest, size, high, middle, low)``: bounds, the smallest magnitude but 0
        (infinite if there is none), the plain sum of magnitudes, and the sum in three doubles.
    """
    least = prices[0]
    greatest = prices[0]
    smallest = math.inf
    size = high = middle = low = 0.0
    for index in range(len(prices)):
        price = prices[index]
        magnitude = abs(price)
        least = min(least, price)
        greatest = max(greatest, price)
        if 0.0 < magnitude < smallest:
            smallest = magnitude
        size += magnitude
        total = high + price
        shadow = total - high
        error = (high - (total - shadow)) + (price - shadow)
        high = total
        total = middle + error
        shadow = total - middle
        low += (middle - (total - shadow)) + (error - shadow)
        middle = total
    return least, greatest, smallest, size, high, middle, low


@compiled
def add_squares(prices, mean, rest):  # type: ignore[no-untyped-def]
    """Return the sum of the squared deviations from a mean given as a pair, added in order."""
    high = low = 0.0
    for index in range(len(prices)):
        deviation = (prices[index] - mean) - rest
        square = deviation * deviation
        total = high + square
        shadow = total - high
        low += (high - (total - shadow)) + (square - shadow)
        high = total
    return high + low


@compiled
def two_sum(a, b):  # type: ignore[no-untyped-def]
    """Return ``(s, e)`` with ``s = fl(a + b)`` and ``s + e == a + b`` exactly (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


@compiled
def summarise_each(prices, length, summaries):  # type: ignore[no-untyped-def]
    """Summarise neighbouring blocks, each from its prices.

    Parameters
    ----------
    prices : float64[n * length]
        The prices of the blocks.
    length : int
        Prices to a block; a power of two, so that its mean is a mere scaling.
    summaries : float64[6, n]
        Is filled with min, max, sum_high, sum_low, m2 and the smallest magnitude but 0.
    """
    for block in range(len(prices) // length):
        run = prices[block * length : (block + 1) * length]
        least, greatest, smallest, _, high, middle, low = add_up(run)
        high, middle = two_sum(high, middle)
        middle, low = two_sum(middle, low)
        high, middle = two_sum(high, middle)
        middle += low
        summaries[0, block] = least
        summaries[1, block] = greatest
        summaries[2, block] = high
        summaries[3, block] = middle
        summaries[4, block] = add_squares(run, high / length, middle / length)
        summaries[5, block] = smallest


# Levels


class Block(NamedTuple):
    """A stored summary that differs from its prices.

    Attributes
    ----------
    level, number : int
        Which: block ``number`` of a level, counted from the first ever.
    begin, end : int
        The numbers of its prices.
    field : str
        The first field that differs: min, max, sum or m2.
    stored, expected : str
        What stands there, and what its prices say.
    verdict : str
        What has changed, as far as the other levels tell.
    """

    level: int
    number: int
    begin: int
    end: int
    field: str
    stored: str
    expected: str
    verdict: str = ""

    def __str__(self) -> str:
        return (
            f"level {self.level}, block {self.number:,} (prices {self.begin:,} to "
            f"{self.end - 1:,}): {self.field} is stored as {self.stored}, by its prices it is "
            f"{self.expected}: {self.verdict}"
        )


class LevelsReport(NamedTuple):
    """What came of comparing the levels.

    Attributes
    ----------
    blocks : int
        Summaries compared.
    wrong : list of Block
        Those that differ, without those that only contain another one's fault.
    """

    blocks: int
    wrong: list[Block]


def work_of_levels(held: Held) -> int:
    """Return how many prices :func:`verify_levels` will read, over all levels."""
    return held.geometry.levels * (held.sequence - held.oldest)


def verify_levels(held: Held, advance: Advance = lambda _prices: None) -> LevelsReport:
    """Compare every summary of every level with its prices. O(prices × levels).

    Reads from the oldest price on, faster than any writer follows.

    Parameters
    ----------
    held : Held
        The symbol.
    advance : callable
        Is told of prices dealt with, every few milliseconds.

    Raises
    ------
    SymbolNotFoundError
        When the symbol is deleted meanwhile.
    """
    compared = 0
    wrong: list[Block] = []
    for level in range(1, held.geometry.levels + 1):
        for first, end in _steps(held, level, advance):
            wrong += _compare(held, level, first, end)
            compared += end - first
    return LevelsReport(compared, _judged(held.geometry, held.sequence, held.oldest, wrong))


def _steps(held: Held, level: int, advance: Advance) -> Iterator[tuple[int, int]]:
    """Yield the runs of whole blocks of a level which are there, as of when the level is begun."""
    geometry = held.geometry
    shift = geometry.fanout_shift * level
    blocks = geometry.capacity >> shift
    begin, end_price = held.oldest, held.sequence
    at_once = max(1, STEP >> shift)
    while True:
        begin = max(begin, held.oldest)
        first = -(-begin >> shift)
        end = min(first + at_once, end_price >> shift, (first // blocks + 1) * blocks)
        if end <= first:
            advance(max(0, end_price - begin))
            return
        yield first, end
        advance((end << shift) - begin)
        begin = end << shift


def _compare(held: Held, level: int, first: int, end: int) -> list[Block]:
    """Return the blocks of a run that differ from their prices, and are still there."""
    geometry = held.geometry
    shift = geometry.fanout_shift * level
    stored = held.summaries(level, first, end)
    expected = np.empty((FIELDS + 1, end - first))
    summarise_each(held.run(first << shift, end << shift), 1 << shift, expected)
    still_there = -(-held.oldest >> shift)
    differs = _differences(stored, expected, 1 << shift, geometry.fanout)
    return [
        _block(level, first + index, shift, stored[:, index], expected[:, index], differs[:, index])
        for index in np.flatnonzero(differs.any(axis=0)).tolist()
        if first + index >= still_there
    ]


def _differences(
    stored: Floats, expected: Floats, count: int, fanout: int
) -> npt.NDArray[np.bool_]:
    """Return which of min, max, sum and m2 differ by more than they may, as bool[4, n]."""
    least, greatest, high, low, m2, smallest = expected
    magnitude = np.maximum(np.abs(least), np.abs(greatest))
    # What is stored may be anything, NaN included: what is not close enough is wrong.
    with np.errstate(all="ignore"):
        is_exact = magnitude / smallest * count * fanout < EXACT_BELOW
        sum_off = np.abs((stored[2] - high) + (stored[3] - low))
        sum_fits = sum_off <= np.where(is_exact, 0.0, CANCELLED_MAX * count * magnitude)
        m2_fits = np.abs(stored[4] - m2) <= RELATIVE_MAX * m2 + SMALLEST_UNITS * _SMALLEST * count
    return ~np.stack((stored[0] == least, stored[1] == greatest, sum_fits, m2_fits))


def _block(
    level: int,
    number: int,
    shift: int,
    stored: Floats,
    expected: Floats,
    differs: npt.NDArray[np.bool_],
) -> Block:
    field = int(differs.argmax())
    shown = [
        f"{values[2]!r} + {values[3]!r}" if field == 2 else repr(values[4 if field == 3 else field])
        for values in (stored.tolist(), expected.tolist())
    ]
    name = ("min", "max", "sum", "m2")[field]
    return Block(level, number, number << shift, (number + 1) << shift, name, *shown)


def _judged(geometry: Geometry, sequence: int, oldest: int, wrong: list[Block]) -> list[Block]:
    """Return the blocks where a fault lies, each with what must have changed.

    A summary is made from the level below when its block is full. So a price that changes later
    contradicts every level above it, a summary that changes later only itself.
    """
    shift = geometry.fanout_shift
    places = {(block.level, block.number) for block in wrong}
    above_others = {(level + 1, number >> shift) for level, number in places}
    judged = []
    for block in wrong:
        if (block.level, block.number) in above_others:
            continue
        above = block.level + 1, block.number >> shift
        begin, end = (number << (shift * above[0]) for number in (above[1], above[1] + 1))
        is_above = above[0] <= geometry.levels and oldest <= begin and end <= sequence
        if block.level > 1 or (is_above and above not in places):
            verdict = "the summary has changed, its prices have not"
        elif is_above:
            verdict = "one of these prices has changed, for the level above does not fit either"
        else:
            verdict = "the summary or one of these prices has changed"
        judged.append(block._replace(verdict=verdict))
    return judged


# Windows


class Exact(NamedTuple):
    """Statistics of a window, recomputed.

    Attributes
    ----------
    min, max, last : float
        As they come.
    avg, var : Fraction or None
        The exact mean; the variance to within a few units in the last place of a double. None
        when something in the window is not a price.
    values, sequence : int
        Prices in the window, and the number of prices at its end.
    size : float
        Mean of the magnitudes, for the tolerance of ``avg``.
    """

    min: float
    max: float
    last: float
    avg: Fraction | None
    var: Fraction | None
    values: int
    sequence: int
    size: float

    def rounded(self) -> WindowStats:
        """Return it in doubles."""
        avg, var = (math.nan if value is None else float(value) for value in (self.avg, self.var))
        return WindowStats(self.min, self.max, self.last, avg, var, self.values, self.sequence)


class WindowCheck(NamedTuple):
    """A window as it is served and as its prices say.

    Attributes
    ----------
    length : int
        Of the window.
    served, recomputed : WindowStats
        The two answers, as of the same moment.
    differing : list of str
        Fields that differ by more than they may.
    """

    length: int
    served: WindowStats
    recomputed: WindowStats
    differing: list[str]

    def __str__(self) -> str:
        said = "; ".join(
            f"{field} is answered {getattr(self.served, field)!r}, by its prices it is "
            f"{getattr(self.recomputed, field)!r}"
            for field in self.differing
        )
        return f"window of {self.length:,} prices as of {self.served.sequence:,}: {said}"


class _Run(NamedTuple):
    """Prices added up."""

    begin: int
    length: int
    min: float
    max: float
    size: float
    total: Fraction | None
    m2: Fraction


def check_window(held: Held, length: int) -> WindowCheck:
    """Recompute one window, as of the newest price, and compare it; errors as of several."""
    return check_windows(held, [length])[0]


def check_windows(
    held: Held, lengths: Iterable[int] | None = None, advance: Advance = lambda _prices: None
) -> list[WindowCheck]:
    """Recompute windows and compare them with what is served, all as of one moment.

    O(longest window): one price after the other, from the oldest on, each once. Releases the GIL
    for most of the time.

    Parameters
    ----------
    held : Held
        The symbol.
    lengths : iterable of int, optional
        1 to the largest window each; 10, 100, … if not given.
    advance : callable
        Is told of prices dealt with.

    Raises
    ------
    OverwrittenError
        When newer prices ran over the window again and again.
    SymbolNotFoundError
        When the symbol is deleted meanwhile.
    """
    if lengths is None:
        lengths = (10**k for k in range(1, k_max_of(held.geometry.largest_window) + 1))
    wanted = list(lengths)
    done = 0

    def advance_beyond(prices: int) -> None:
        # A window that is begun anew must not move a bar twice.
        nonlocal done
        done += prices
        if done > 0:
            advance(min(done, prices))

    for remaining in range(TRIES - 1, -1, -1):
        try:
            return _checked(held, wanted, held.sequence, advance_beyond)
        except OverwrittenError:
            if not remaining:
                raise
            done = -max(0, done)
    raise AssertionError("unreachable")


def _checked(held: Held, lengths: list[int], sequence: int, advance: Advance) -> list[WindowCheck]:
    if sequence == 0:
        return []
    served = [held.window(length, sequence) for length in lengths]
    exact = _recomputed(held, lengths, sequence, advance)
    return [
        WindowCheck(length, answer, truth.rounded(), _differing(answer, truth))
        for length, answer, truth in zip(lengths, served, exact, strict=True)
    ]


def _recomputed(held: Held, lengths: list[int], sequence: int, advance: Advance) -> list[Exact]:
    """Return windows that end at a price, each from the runs of prices it consists of."""
    begins = [max(0, sequence - length) for length in lengths]
    runs = []
    for begin, end in _cuts(held.geometry.capacity, begins, sequence):
        runs.append(_add_up(held, begin, end))
        held.must_hold(begin)
        advance(end - begin)
    last = float(held.run(sequence - 1, sequence)[0])
    held.must_hold(sequence - 1)
    return [
        _together([run for run in runs if run.begin >= begin], last, sequence) for begin in begins
    ]


def _cuts(capacity: int, begins: list[int], end: int) -> Iterator[tuple[int, int]]:
    """Cut the longest window into runs: where a window begins, and where the ring does."""
    start = min(begins)
    wraps = range(-(-start // capacity) * capacity, end, capacity)
    return pairwise(sorted({*begins, end, *range(start, end, RUN), *wraps}))


def _add_up(held: Held, begin: int, end: int) -> _Run:
    prices = held.run(begin, end)
    least, greatest, _, size, *parts = add_up(prices)
    if math.isnan(size) or max(-least, greatest) > kernels.PRICE_MAX:
        return _Run(begin, end - begin, least, greatest, size, None, Fraction())
    total = sum(map(Fraction, parts), Fraction())
    exact = total / len(prices)
    mean = float(exact)
    m2 = add_squares(prices, mean, float(exact - Fraction(mean)))
    return _Run(begin, end - begin, least, greatest, size, total, Fraction(m2))


def _together(runs: list[_Run], last: float, sequence: int) -> Exact:
    """Put runs together: in fractions, the textbook formula for the variance is as good as any."""
    count = sum(run.length for run in runs)
    avg, var = _moments(runs, count)
    return Exact(
        min(run.min for run in runs),
        max(run.max for run in runs),
        last,
        avg,
        var,
        count,
        sequence,
        sum(run.size for run in runs) / count,
    )


def _moments(runs: list[_Run], count: int) -> tuple[Fraction, Fraction] | tuple[None, None]:
    total = about_zero = Fraction()
    for run in runs:
        if run.total is None:
            return None, None
        total += run.total
        about_zero += run.m2 + run.total**2 / run.length
    return total / count, (about_zero - total**2 / count) / count


def _differing(served: WindowStats, exact: Exact) -> list[str]:
    fits = {
        "min": served.min == exact.min,
        "max": served.max == exact.max,
        "last": struct.pack("<d", served.last) == struct.pack("<d", exact.last),
        "avg": _is_close_avg(served.avg, exact),
        "var": _is_close_var(served.var, exact),
        "values": served.values == exact.values,
    }
    return [field for field, fit in fits.items() if not fit]


def _is_close_avg(served: float, exact: Exact) -> bool:
    if exact.avg is None or not math.isfinite(served):
        return False
    avg = float(exact.avg)
    largest = max(abs(exact.min), abs(exact.max))
    cancelled = CANCELLED_MAX * largest if abs(avg) < CANCELLED * exact.size else 0.0
    return abs(Fraction(served) - exact.avg) <= max(math.ulp(avg), cancelled)


def _is_close_var(served: float, exact: Exact) -> bool:
    if exact.var is None or not math.isfinite(served):
        return False
    off_max = Fraction(RELATIVE_MAX) * exact.var + SMALLEST_UNITS * Fraction(_SMALLEST)
    return abs(Fraction(served) - exact.var) <= off_max
