"""Sums of verification are exact: held against fractions, compiled and as plain Python."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from financial_data_service.verify import arithmetic
from support import series


@pytest.fixture(params=["compiled", "python"])
def kernel(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    def choose(name: str) -> Any:
        function = getattr(arithmetic, name)
        return function if request.param == "compiled" else function.py_func

    return choose


# What it computes


@pytest.mark.parametrize("name", series.ALL)
def test_sums_are_exact(kernel: Callable[[str], Any], name: str) -> None:
    prices = series.make(name, 1000)
    least, greatest, smallest, size, *parts = kernel("add_up")(prices)
    assert (least, greatest) == (prices.min(), prices.max())
    magnitudes = np.abs(prices)
    assert smallest == min((each for each in magnitudes.tolist() if each), default=np.inf)
    assert size == pytest.approx(float(magnitudes.sum()), rel=1e-12)
    off = abs(
        sum(map(Fraction, parts), Fraction()) - sum(map(Fraction, prices.tolist()), Fraction())
    )
    # Three doubles hold 159 bits; what does not fit them is of no account.
    assert off <= Fraction(size) * Fraction(1, 2**140)
    if name in series.ORDINARY:
        assert off == 0


@pytest.mark.parametrize("name", series.ORDINARY)
def test_squares_are_exact_to_a_few_units(kernel: Callable[[str], Any], name: str) -> None:
    prices = series.make(name, 1000)
    exact = list(map(Fraction, prices.tolist()))
    mean = sum(exact, Fraction()) / len(exact)
    m2 = sum(((price - mean) * (price - mean) for price in exact), Fraction())
    high = float(mean)
    computed = kernel("add_squares")(prices, high, float(mean - Fraction(high)))
    assert abs(Fraction(computed) - m2) <= m2 * Fraction(1, 10**15)


@pytest.mark.parametrize("name", series.ALL)
@pytest.mark.parametrize("length", [4, 128])
def test_summaries_of_blocks(kernel: Callable[[str], Any], name: str, length: int) -> None:
    prices = series.make(name, 4 * length)
    summaries = np.empty((6, 4))
    kernel("summarise_each")(prices, length, summaries)
    for block in range(4):
        run = prices[block * length : (block + 1) * length].tolist()
        least, greatest, high, low, _, _ = summaries[:, block].tolist()
        assert (least, greatest) == (min(run), max(run))
        total = sum(map(Fraction, run))
        assert high == float(total)
        size = sum(map(abs, map(Fraction, run)))
        assert abs(Fraction(high) + Fraction(low) - total) <= size / 2**104
        if name in series.ORDINARY:
            assert Fraction(high) + Fraction(low) == total
