"""Exact answers: rational mean and variance, and how far an answer is from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service import RunningStats
from harness.prices import TICK

__all__ = ["Exact", "Verdict", "avg_error_ulps", "exact_of", "exact_of_grid", "var_error", "verify"]

_CHUNK = 1 << 20
_SPLIT_BITS = 16


class Exact(NamedTuple):
    """Statistics without rounding."""

    min: float
    max: float
    last: float
    avg: Fraction
    var: Fraction


class Verdict(NamedTuple):
    """Largest errors of a set of answers."""

    answers: int
    avg_error_ulps: float
    var_error: float

    def worse(self, other: Verdict) -> Verdict:
        """Return the verdict on both sets together."""
        return Verdict(
            self.answers + other.answers,
            max(self.avg_error_ulps, other.avg_error_ulps),
            max(self.var_error, other.var_error),
        )


def exact_of(prices: Sequence[float]) -> Exact:
    """Return the exact statistics of any doubles, by integers of arbitrary length. O(n)."""
    ratios = [price.as_integer_ratio() for price in prices]
    denominator = max(ratio[1] for ratio in ratios)
    ticks = [numerator * (denominator // below) for numerator, below in ratios]
    count, total = len(ticks), sum(ticks)
    squares = sum(tick * tick for tick in ticks)
    avg, var = _mean_and_variance(count, total, squares, Fraction(1, denominator))
    return Exact(min(prices), max(prices), prices[-1], avg, var)


def exact_of_grid(chunks: Iterable[npt.NDArray[np.float64]]) -> Exact:
    """Return the exact statistics of prices on the grid of ``TICK``, at the speed of NumPy. O(n).

    Deviations from the first price are integers below 2^33; squared in two halves of 16 bits, a
    chunk of them adds up in 64 bits.
    """
    count = total = squares = first = 0
    least, greatest, last = math.inf, -math.inf, math.nan
    for chunk in chunks:
        ticks = (chunk / TICK).astype(np.int64)
        if count == 0:
            first = int(ticks[0])
        ticks -= first
        high, low = ticks >> _SPLIT_BITS, ticks & (2**_SPLIT_BITS - 1)
        total += int(ticks.sum())
        squares += int(high @ high) << (2 * _SPLIT_BITS)
        squares += int(high @ low) << (_SPLIT_BITS + 1)
        squares += int(low @ low)
        count += len(ticks)
        least, greatest = min(least, chunk.min()), max(greatest, chunk.max())
        last = chunk[-1]
    avg, var = _mean_and_variance(count, total, squares, Fraction(TICK))
    return Exact(float(least), float(greatest), float(last), avg + first * Fraction(TICK), var)


def avg_error_ulps(avg: float, exact: Fraction) -> float:
    """Return the error of a mean in units of the last place of the exact one."""
    return float(abs(Fraction(avg) - exact) / Fraction(math.ulp(float(exact))))


def var_error(var: float, exact: Fraction) -> float:
    """Return the relative error of a variance; infinite when only the exact one is 0."""
    if not math.isfinite(var):
        return math.inf
    if exact == 0:
        return 0.0 if var == 0 else math.inf
    return float(abs(Fraction(var) - exact) / exact)


def verify(stats: RunningStats, length: int) -> Verdict:
    """Check an answer against the exact one over the very prices that the ring holds.

    Raises
    ------
    AssertionError
        When it is not what the engine promises.
    """
    answer = stats.window(length)
    end = stats.sequence
    begin = max(0, end - length)
    cuts = [*range(begin, end, _CHUNK), end]
    exact = exact_of_grid(stats.prices(a, b) for a, b in pairwise(cuts))
    assert (answer.min, answer.max, answer.last) == exact[:3], (answer, exact)
    assert (answer.values, answer.sequence) == (end - begin, end), answer
    verdict = Verdict(1, avg_error_ulps(answer.avg, exact.avg), var_error(answer.var, exact.var))
    assert verdict.avg_error_ulps <= 1, (answer, verdict)
    assert verdict.var_error <= 1e-14, (answer, verdict)
    return verdict


def _mean_and_variance(
    count: int, total: int, squares: int, tick: Fraction
) -> tuple[Fraction, Fraction]:
    return Fraction(total, count) * tick, Fraction(
        squares * count - total * total, count * count
    ) * (tick * tick)
