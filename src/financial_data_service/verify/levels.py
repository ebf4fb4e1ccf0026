"""Every stored block summary, recomputed from all of its prices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.layout import FIELDS, Geometry
from financial_data_service.engine.ring_view import RingView
from financial_data_service.verify.arithmetic import summarise_each
from financial_data_service.verify.tolerances import (
    CANCELLED_MAX,
    EXACT_BELOW,
    RELATIVE_MAX,
    SMALLEST_DOUBLE,
    SMALLEST_UNITS,
    STEP,
    Advance,
    Floats,
)

__all__ = ["Block", "LevelsReport", "verify_levels", "work_of_levels"]


class Block(NamedTuple):
    """A stored summary that differs from its prices.

    Attributes
    ----------
    level, number : int
        Level, and number of the block within the level, counted from the first ever.
    begin, end : int
        The range of its prices, as numbers counted from the first price ever; `end` is exclusive.
    field : str
        The first field that differs: min, max, sum or m2.
    stored, expected : str
        The stored value, and the value recomputed from the prices.
    verdict : str
        Whether the summary or a price has changed, as far as the other levels allow to tell.
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
            f"{self.end - 1:,}): {self.field} is stored as {self.stored}, its prices give "
            f"{self.expected}: {self.verdict}"
        )


class LevelsReport(NamedTuple):
    """The result of comparing the levels.

    Attributes
    ----------
    blocks : int
        Number of summaries compared.
    wrong : list of Block
        The summaries that differ. A summary above another one that differs is left out.
    """

    blocks: int
    wrong: list[Block]


def work_of_levels(view: RingView) -> int:
    """Return the number of prices that :func:`verify_levels` reads, over all levels."""
    return view.geometry.levels * (view.sequence - view.oldest)


def verify_levels(view: RingView, advance: Advance = lambda _prices: None) -> LevelsReport:
    """Compare every summary of every level with its prices. O(prices × levels).

    It reads from the oldest price onwards, faster than a writer can overwrite.

    Parameters
    ----------
    view : RingView
        The symbol.
    advance : callable
        Called with the number of prices processed, every few milliseconds.

    Raises
    ------
    SymbolNotFoundError
        When the symbol is deleted meanwhile.
    """
    compared = 0
    wrong: list[Block] = []
    for level in range(1, view.geometry.levels + 1):
        for first, end in _steps(view, level, advance):
            wrong += _compare(view, level, first, end)
            compared += end - first
    return LevelsReport(compared, _located(view.geometry, view.sequence, view.oldest, wrong))


def _steps(view: RingView, level: int, advance: Advance) -> Iterator[tuple[int, int]]:
    """Yield ranges of complete blocks of a level.

    Only blocks that are held when the level starts are included.
    """
    geometry = view.geometry
    shift = geometry.fanout_shift * level
    blocks = geometry.capacity >> shift
    begin, end_price = view.oldest, view.sequence
    at_once = max(1, STEP >> shift)
    while True:
        begin = max(begin, view.oldest)
        first = -(-begin >> shift)
        end = min(first + at_once, end_price >> shift, (first // blocks + 1) * blocks)
        if end <= first:
            advance(max(0, end_price - begin))
            return
        yield first, end
        advance((end << shift) - begin)
        begin = end << shift


def _compare(view: RingView, level: int, first: int, end: int) -> list[Block]:
    """Return the blocks of a run that differ from their prices and are still held."""
    geometry = view.geometry
    shift = geometry.fanout_shift * level
    stored = view.summaries(level, first, end)
    expected = np.empty((FIELDS + 1, end - first))
    summarise_each(view.run(first << shift, end << shift), 1 << shift, expected)
    still_held = -(-view.oldest >> shift)
    differs = _differences(stored, expected, 1 << shift, geometry.fanout)
    return [
        _block(level, first + index, shift, stored[:, index], expected[:, index], differs[:, index])
        for index in np.flatnonzero(differs.any(axis=0)).tolist()
        if first + index >= still_held
    ]


def _differences(
    stored: Floats, expected: Floats, count: int, fanout: int
) -> npt.NDArray[np.bool_]:
    """Return where min, max, sum and m2 differ by more than the tolerance, as bool[4, n]."""
    least, greatest, high, low, m2, smallest = expected
    magnitude = np.maximum(np.abs(least), np.abs(greatest))
    # A damaged stored value may be any bits, including NaN. So each test asks whether the value is
    # close enough, which NaN never is.
    with np.errstate(all="ignore"):
        is_exact = magnitude / smallest * count * fanout < EXACT_BELOW
        sum_off = np.abs((stored[2] - high) + (stored[3] - low))
        sum_fits = sum_off <= np.where(is_exact, 0.0, CANCELLED_MAX * count * magnitude)
        m2_off_max = RELATIVE_MAX * m2 + SMALLEST_UNITS * SMALLEST_DOUBLE * count
        m2_fits = np.abs(stored[4] - m2) <= m2_off_max
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


def _located(geometry: Geometry, sequence: int, oldest: int, wrong: list[Block]) -> list[Block]:
    """Return the lowest blocks that differ, each with a verdict on what has changed.

    A summary is computed from the level below when its block is full. So if a price changes later,
    the summaries of all levels above it differ from it. If a summary changes later, only that
    summary differs.
    """
    shift = geometry.fanout_shift
    places = {(block.level, block.number) for block in wrong}
    above_others = {(level + 1, number >> shift) for level, number in places}
    located = []
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
        located.append(block._replace(verdict=verdict))
    return located
