"""Exact answers to compare with: sums of prices and of their squares as whole numbers.

Every double is a whole multiple of 2^-1074. So the sums of prices and of squares up to each price
are Python integers, and the exact mean and variance of any window follow from two differences of
them. Only building the sums is slow; a window is O(1) apart from its extremes, which are searched
one by one. ``tests/support/test_oracle.py`` checks this file against ``fractions.Fraction``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from fractions import Fraction
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service.windows import WindowStats

UNIT_BITS = 1074
"""The least positive double is 2^-1074."""

VAR_PROMISED = 1e-14
"""Relative error of a variance that is promised."""

VAR_UNITS = 4
"""Absolute error of a variance on top, in units of 2^-1074: squares below it cannot be told."""


class Errors(NamedTuple):
    """How far an answer is from the exact one: avg in ulps, var relative."""

    avg_ulps: float
    var_relative: float


def as_units(value: float, bits: int = UNIT_BITS) -> int:
    """Return a double as a multiple of ``2**-bits``."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (bits - (denominator.bit_length() - 1))


def same_bits(a: float, b: float) -> bool:
    """Return whether two doubles are the same to the bit, sign of zero and all."""
    return struct.pack("<d", a) == struct.pack("<d", b)


class Oracle:
    """All prices ever appended, with exact sums up to each of them."""

    def __init__(self, prices: Iterable[float] = ()) -> None:
        self.prices: list[float] = []
        self._sums = [0]
        self._squares = [0]
        self._magnitudes = [0]
        self.append(prices)

    def __len__(self) -> int:
        return len(self.prices)

    def append(self, prices: Iterable[float]) -> None:
        """Take in further prices, oldest first."""
        new = [float(price) for price in prices]
        units = [as_units(price) for price in new]
        self.prices += new
        for sums, terms in (
            (self._sums, units),
            (self._squares, [unit * unit for unit in units]),
            (self._magnitudes, [abs(unit) for unit in units]),
        ):
            sums.extend(list(accumulate(terms, initial=sums[-1]))[1:])

    def mean(self, begin: int, end: int) -> Fraction:
        """Return the exact mean of prices number ``begin`` to ``end``."""
        return Fraction(self._sums[end] - self._sums[begin], (end - begin) << UNIT_BITS)

    def var(self, begin: int, end: int) -> Fraction:
        """Return the exact population variance of prices number ``begin`` to ``end``."""
        count = end - begin
        return Fraction(self._scaled_var(begin, end), count**2 << (2 * UNIT_BITS))

    def check(self, stats: WindowStats, length: int, sequence: int | None = None) -> Errors:
        """Assert that statistics are those of the last `length` of the first `sequence` prices."""
        end = len(self.prices) if sequence is None else sequence
        begin = max(0, end - length)
        assert stats.window == length
        assert stats.sequence == end
        assert stats.values == end - begin
        if end == 0:
            assert all(math.isnan(value) for value in stats[1:6])
            return Errors(0.0, 0.0)
        window = self.prices[begin:end]
        assert stats.min == min(window)
        assert stats.max == max(window)
        assert same_bits(stats.last, window[-1])
        return Errors(
            self._check_avg(stats.avg, begin, end), self._check_var(stats.var, begin, end)
        )

    def _scaled_var(self, begin: int, end: int) -> int:
        total = self._sums[end] - self._sums[begin]
        return (end - begin) * (self._squares[end] - self._squares[begin]) - total * total

    def _check_avg(self, avg: float, begin: int, end: int) -> float:
        """Assert the promise on avg: 1 ulp, or 2^-80 of the largest price where prices cancel."""
        count = end - begin
        total = self._sums[end] - self._sums[begin]
        error = abs(as_units(avg) * count - total)
        if abs(total) << 40 < self._magnitudes[end] - self._magnitudes[begin]:
            largest = max(map(abs, self.prices[begin:end]))
            slack = count  # one unit of 2^-1074: no double is nearer
            assert error << 80 <= count * as_units(largest) + (slack << 80)
            return 0.0
        ulps = error / (count * as_units(math.ulp(total / (count << UNIT_BITS))))
        assert ulps <= 1.0, f"avg {avg!r} of {count} prices is {ulps} ulp off"
        return ulps

    def _check_var(self, var: float, begin: int, end: int) -> float:
        """Assert the promise on var, and that it is exactly 0 when all prices are equal."""
        exact = self._scaled_var(begin, end)
        if exact == 0:
            assert var == 0.0
            return 0.0
        square = (end - begin) ** 2
        error = abs(as_units(var, 2 * UNIT_BITS) * square - exact)
        error = max(0, error - VAR_UNITS * square * (1 << UNIT_BITS))
        relative = error / exact
        assert var >= 0.0
        assert relative <= VAR_PROMISED, f"var {var!r} of {end - begin} prices: {relative} off"
        return relative


def exact_moments(prices: npt.NDArray[np.float64]) -> tuple[Fraction, Fraction]:
    """Return the exact mean and population variance of very many prices of like size.

    The prices must be multiples of one power of two, less than 2^53 of it each, as prices of one
    binary order of magnitude are. Whole numbers of 53 bits are cut in halves, whose products add
    up in int64 over runs of 256; the sums of the runs are added as Python integers.
    """
    _, exponent = math.frexp(float(np.abs(prices).max()))
    unit = exponent - 53
    units = np.ldexp(prices, -unit)
    whole = units.astype(np.int64)
    assert (whole == units).all()
    upper, lower = whole >> 27, whole & (2**27 - 1)
    total = (_exact_sum(upper) << 27) + _exact_sum(lower)
    squares = (
        (_exact_sum(upper * upper) << 54)
        + (_exact_sum(upper * lower) << 28)
        + _exact_sum(lower * lower)
    )
    count = len(prices)
    scale = Fraction(2) ** unit
    return scale * Fraction(total, count), scale**2 * Fraction(
        count * squares - total * total, count * count
    )


def _exact_sum(terms: npt.NDArray[np.int64]) -> int:
    """Return the sum of whole numbers below 2^55."""
    return sum(np.add.reduceat(terms, np.arange(0, len(terms), 256)).tolist())
