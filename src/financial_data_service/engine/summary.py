"""The algebra of a block of prices, in plain Python: the reference for the kernels.

A :class:`Summary` contains the data about a block of prices from which window statistics are
computed. Summaries form a commutative monoid under :func:`combine` with :data:`IDENTITY`, so a
window can be answered from any partition of it into blocks (FlatFAT: Tangwongsan, Hirzel,
Schneider, Wu: General incremental sliding-window aggregation, PVLDB 8(7), 2015,
doi:10.14778/2752939.2752940). ``min`` and ``max`` are exactly associative. The sum is exactly
associative if it fits in the 106 bits of its pair. ``m2`` is associative within a few units in the
last place.

Numerics
--------
The sum is an unevaluated pair of doubles, ``sum_high + sum_low`` ("double-double": Dekker 1971,
doi:10.1007/BF01397083). The textbook formulas keep one double for the sum or the mean (Chan, Golub,
LeVeque 1983, doi:10.1080/00031305.1983.10483115; Pébay 2008, doi:10.2172/1028931). It loses what
lies below its last bit, and with that the variance of prices that are large compared with their
spread. With the pair, the difference of two block means keeps its relative accuracy. Every term of
``m2`` is a square, so nothing cancels and the variance cannot be negative.

No price is ever subtracted from a running sum. So the statistics depend only on the prices in the
window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

__all__ = [
    "IDENTITY",
    "Summary",
    "combine",
    "divide_pair",
    "fast_two_sum",
    "lift",
    "lower",
    "summarise",
    "two_sum",
]


class Summary(NamedTuple):
    """The summary of a block of prices.

    Attributes
    ----------
    count : int
        Number of prices in the block, at most 10^8 (so that it has at most 27 bits).
    min, max : float
        Smallest and largest price, bit for bit.
    sum_high, sum_low : float
        Sum of the prices as an unevaluated pair: ``|sum_low| <= ulp(sum_high) / 2``.
    m2 : float
        Sum of the squared deviations from the mean.
    """

    count: int  # type: ignore[assignment]  # hides tuple.count, which a summary does not need
    min: float
    max: float
    sum_high: float
    sum_low: float
    m2: float


IDENTITY = Summary(0, math.inf, -math.inf, 0.0, 0.0, 0.0)
"""The summary of no prices: ``combine(IDENTITY, s) == s == combine(s, IDENTITY)``."""


def lift(price: float) -> Summary:
    """Return the summary of a single price."""
    return Summary(1, price, price, price, 0.0, 0.0)


def combine(left: Summary, right: Summary) -> Summary:
    """Return the summary of two disjoint blocks together. Commutative; O(1)."""
    if left.count == 0:
        return right
    if right.count == 0:
        return left
    count = left.count + right.count
    sum_high, sum_low = add_pairs(left.sum_high, left.sum_low, right.sum_high, right.sum_low)
    left_mean, left_rest = divide_pair(left.sum_high, left.sum_low, left.count)
    right_mean, right_rest = divide_pair(right.sum_high, right.sum_low, right.count)
    distance = (right_mean - left_mean) + (right_rest - left_rest)
    # The weight is at most 2.5e7 and the distance at most 2e150, so the product stays finite.
    weight = left.count * right.count / count
    return Summary(
        count,
        min(left.min, right.min),
        max(left.max, right.max),
        sum_high,
        sum_low,
        left.m2 + right.m2 + distance * distance * weight,
    )


def lower(summary: Summary) -> tuple[float, float, float, float]:
    """Return ``(min, max, avg, var)`` of a block of at least one price.

    ``avg`` is the sum, a pair, divided by the count and rounded once. ``var`` is the population
    variance.
    """
    avg, _ = divide_pair(summary.sum_high, summary.sum_low, summary.count)
    return summary.min, summary.max, avg, summary.m2 / summary.count


def summarise(prices: Iterable[float]) -> Summary:
    """Return the summary of `prices`, combined one at a time. O(n)."""
    return reduce(combine, map(lift, prices), IDENTITY)


def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return ``(s, e)`` with ``s = fl(a + b)`` and ``s + e == a + b`` exactly (Knuth)."""
    s = a + b
    shadow = s - a
    return s, (a - (s - shadow)) + (b - shadow)


def fast_two_sum(a: float, b: float) -> tuple[float, float]:
    """Return the same as :func:`two_sum`, faster, for ``|a| >= |b|`` (Dekker)."""
    s = a + b
    return s, b - (s - a)


def add_pairs(a_high: float, a_low: float, b_high: float, b_low: float) -> tuple[float, float]:
    """Return the sum of two pairs as a pair.

    The relative error is below 2^-104, even if the pairs cancel.
    """
    high, error = two_sum(a_high, b_high)
    low, rest = two_sum(a_low, b_low)
    high, error = fast_two_sum(high, error + low)
    return fast_two_sum(high, error + rest)


def divide_pair(high: float, low: float, count: int) -> tuple[float, float]:
    """Return ``(high + low) / count`` as a pair, for a count of at most 27 bits.

    The remainder of the first quotient is exact. The quotient is split into two halves of 26 bits
    (Veltkamp). The product of a half and a count of 27 bits fits in a double.
    """
    quotient = high / count
    scaled = quotient * 134217729.0  # 2^27 + 1
    upper = scaled - (scaled - quotient)
    product = quotient * count
    error = (upper * count - product) + (quotient - upper) * count
    return fast_two_sum(quotient, (((high - product) - error) + low) / count)
