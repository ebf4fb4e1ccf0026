"""The answers for the windows, recomputed from their prices."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from financial_data_service.engine import kernels
from financial_data_service.engine.ring_view import RingView
from financial_data_service.verify.arithmetic import add_squares, add_up
from financial_data_service.verify.tolerances import (
    CANCELLED,
    CANCELLED_MAX,
    RELATIVE_MAX,
    RUN,
    SMALLEST_DOUBLE,
    SMALLEST_UNITS,
    Advance,
)
from financial_data_service.windows import WindowStats, k_max_of

__all__ = ["Exact", "WindowCheck", "check_window", "check_windows"]


class Exact(NamedTuple):
    """Recomputed statistics of a window.

    Attributes
    ----------
    min, max, last : float
        The prices themselves.
    avg, var : Fraction or None
        The exact mean, and the variance to within a few units in the last place of a double. None
        if a stored value in the window is not a valid price (not finite, or too large).
    values, sequence : int
        Prices in the window, and the number of prices at its end.
    size : float
        Mean magnitude of the prices, for the tolerance of ``avg``.
    """

    min: float
    max: float
    last: float
    avg: Fraction | None
    var: Fraction | None
    values: int
    sequence: int
    size: float

    def rounded(self, length: int) -> WindowStats:
        """Return the statistics in doubles, for a window of `length` prices."""
        avg, var = (math.nan if value is None else float(value) for value in (self.avg, self.var))
        return WindowStats(
            length, self.min, self.max, self.last, avg, var, self.values, self.sequence
        )


class WindowCheck(NamedTuple):
    """The served statistics of a window beside the recomputed ones.

    Attributes
    ----------
    length : int
        Length of the window in prices.
    served, recomputed : WindowStats
        Both at the same sequence.
    differing : list of str
        The fields that differ by more than the tolerance.
    """

    length: int
    served: WindowStats
    recomputed: WindowStats
    differing: list[str]

    def __str__(self) -> str:
        differences = "; ".join(
            f"{field} is served as {getattr(self.served, field)!r}, its prices give "
            f"{getattr(self.recomputed, field)!r}"
            for field in self.differing
        )
        return (
            f"window of {self.length:,} prices at sequence {self.served.sequence:,}: {differences}"
        )


class _Run(NamedTuple):
    """A run of prices, added up."""

    begin: int
    length: int
    min: float
    max: float
    size: float
    total: Fraction | None
    m2: Fraction


def check_window(view: RingView, length: int) -> WindowCheck:
    """Recompute one window that ends at the newest price, and compare it.

    Complexity and errors as for :func:`check_windows`.
    """
    return check_windows(view, [length])[0]


def check_windows(
    view: RingView, lengths: Iterable[int] | None = None, advance: Advance = lambda _prices: None
) -> list[WindowCheck]:
    """Recompute windows and compare them with what is served, all at one sequence.

    O(longest window): every price is read once, from the oldest on. The GIL is released for most of
    the time.

    Parameters
    ----------
    view : RingView
        The symbol.
    lengths : iterable of int, optional
        1 to the largest window each. 10, 100, … if not given.
    advance : callable
        Called with the number of prices processed.

    Raises
    ------
    OverwrittenError
        When newer prices overwrote the window during every attempt.
    SymbolNotFoundError
        When the symbol is deleted meanwhile.
    """
    if lengths is None:
        lengths = (10**k for k in range(1, k_max_of(view.geometry.largest_window) + 1))
    wanted = list(lengths)
    done = 0

    def advance_beyond(prices: int) -> None:
        # A second attempt must not advance a progress bar twice.
        nonlocal done
        done += prices
        if done > 0:
            advance(min(done, prices))

    def recompute(sequence: int) -> list[WindowCheck]:
        nonlocal done
        done = -max(0, done)
        return _checked(view, wanted, sequence, advance_beyond)

    return view.read_newest(recompute)


def _checked(
    view: RingView, lengths: list[int], sequence: int, advance: Advance
) -> list[WindowCheck]:
    if sequence == 0:
        return []
    served = [view.window(length, sequence) for length in lengths]
    exact = _recomputed(view, lengths, sequence, advance)
    return [
        WindowCheck(length, answer, truth.rounded(length), _differing(answer, truth))
        for length, answer, truth in zip(lengths, served, exact, strict=True)
    ]


def _recomputed(view: RingView, lengths: list[int], sequence: int, advance: Advance) -> list[Exact]:
    """Return the recomputed windows that end at a sequence.

    Each is combined from its runs of prices.
    """
    begins = [max(0, sequence - length) for length in lengths]
    runs = []
    for begin, end in _cuts(view.geometry.capacity, begins, sequence):
        runs.append(_add_up(view, begin, end))
        view.check_not_overwritten(begin)
        advance(end - begin)
    last = float(view.run(sequence - 1, sequence)[0])
    view.check_not_overwritten(sequence - 1)
    return [
        _merge_runs([run for run in runs if run.begin >= begin], last, sequence) for begin in begins
    ]


def _cuts(capacity: int, begins: list[int], end: int) -> Iterator[tuple[int, int]]:
    """Divide the longest window into runs.

    A run ends where a window begins and where the ring wraps around.
    """
    start = min(begins)
    wraps = range(-(-start // capacity) * capacity, end, capacity)
    return pairwise(sorted({*begins, end, *range(start, end, RUN), *wraps}))


def _add_up(view: RingView, begin: int, end: int) -> _Run:
    prices = view.run(begin, end)
    least, greatest, _, size, *parts = add_up(prices)
    if math.isnan(size) or max(-least, greatest) > kernels.PRICE_MAX:
        return _Run(begin, end - begin, least, greatest, size, None, Fraction())
    total = sum(map(Fraction, parts), Fraction())
    exact = total / len(prices)
    mean = float(exact)
    m2 = add_squares(prices, mean, float(exact - Fraction(mean)))
    return _Run(begin, end - begin, least, greatest, size, total, Fraction(m2))


def _merge_runs(runs: list[_Run], last: float, sequence: int) -> Exact:
    """Combine runs.

    With exact fractions the textbook formula for the variance has no rounding error.
    """
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
    off_max = Fraction(RELATIVE_MAX) * exact.var + SMALLEST_UNITS * Fraction(SMALLEST_DOUBLE)
    return abs(Fraction(served) - exact.var) <= off_max
