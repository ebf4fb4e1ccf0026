"""Sums and squares recomputed independently of the engine's arithmetic."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

__all__ = []

compiled: Any = njit(cache=True, nogil=True)


@compiled
def add_up(prices):  # type: ignore[no-untyped-def]
    """Add prices in order, without losing a bit. O(n).

    Parameters
    ----------
    prices : float64[n]
        At least one.

    Returns
    -------
    tuple
        ``(min, max, smallest, size, high, middle, low)``: the minimum and the maximum; the smallest
        nonzero magnitude (infinity if all prices are 0); the sum of the magnitudes, in ordinary
        floating-point arithmetic; the sum as three doubles.
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
    """Return the sum of the squared deviations from a mean, added in order.

    The mean is given as a pair of doubles (`mean` + `rest`). O(n).
    """
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
    """Summarise consecutive blocks, each from its prices. O(n).

    Parameters
    ----------
    prices : float64[n * length]
        The prices of the blocks.
    length : int
        Prices per block; a power of two, so that a division by it does not round.
    summaries : float64[6, n]
        Filled with min, max, sum_high, sum_low, m2 and the smallest magnitude other than 0.
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
