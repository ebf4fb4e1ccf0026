"""The oracle of the other tests is right, and it refuses wrong answers.

It is compared with ``fractions.Fraction`` summed term by term. Then it is given answers that are
off by a little more than the promise, each of which it must refuse.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.windows import WindowStats
from support.oracle import Oracle, as_units, exact_moments, same_bits

anything = st.floats(-1e150, 1e150, allow_nan=False)


def by_fractions(prices: list[float]) -> tuple[Fraction, Fraction]:
    terms = [Fraction(price) for price in prices]
    mean = sum(terms, Fraction(0)) / len(terms)
    return mean, sum(((term - mean) ** 2 for term in terms), Fraction(0)) / len(terms)


def true_stats(prices: list[float]) -> WindowStats:
    mean, var = by_fractions(prices)
    return WindowStats(
        len(prices),
        min(prices),
        max(prices),
        prices[-1],
        float(mean),
        float(var),
        len(prices),
        len(prices),
    )


@given(st.lists(anything, min_size=1, max_size=20), st.data())
def test_mean_and_var_are_those_of_fractions(prices: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(prices)))
    oracle = Oracle(prices[:cut])
    oracle.append(prices[cut:])
    begin = data.draw(st.integers(0, len(prices) - 1))
    end = data.draw(st.integers(begin + 1, len(prices)))
    mean, var = by_fractions(prices[begin:end])
    assert oracle.mean(begin, end) == mean
    assert oracle.var(begin, end) == var


@given(anything)
def test_as_units_loses_nothing(value: float) -> None:
    assert Fraction(as_units(value), 2**1074) == Fraction(value)


@given(st.lists(anything, min_size=1, max_size=20))
def test_true_answers_pass(prices: list[float]) -> None:
    errors = Oracle(prices).check(true_stats(prices), len(prices))
    assert errors.avg_ulps <= 0.5
    assert errors.var_relative <= 2**-53


PRICES = [1.12001, 1.12005, 1.12003, 1.12009]
TRUE = true_stats(PRICES)
WRONG = {
    "min": TRUE._replace(min=PRICES[1]),
    "max": TRUE._replace(max=math.nextafter(TRUE.max, 2)),
    "last": TRUE._replace(last=PRICES[0]),
    "avg": TRUE._replace(avg=TRUE.avg + 2 * math.ulp(TRUE.avg)),
    "var": TRUE._replace(var=TRUE.var * (1 + 2e-14)),
    "var negative": TRUE._replace(var=-TRUE.var),
    "values": TRUE._replace(values=3),
    "sequence": TRUE._replace(sequence=5),
    "nan": TRUE._replace(avg=math.nan),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_answers_do_not(wrong: WindowStats) -> None:
    oracle = Oracle(PRICES)
    oracle.check(TRUE, len(PRICES))
    with pytest.raises((AssertionError, ValueError)):
        oracle.check(wrong, len(PRICES))


def test_constants_must_have_no_variance_at_all() -> None:
    constant = WindowStats(10, 0.1, 0.1, 0.1, 0.1, 5e-324, 10, 10)
    with pytest.raises(AssertionError):
        Oracle([0.1] * 10).check(constant, 10)


def test_same_bits_tells_zeros_apart() -> None:
    assert same_bits(0.0, 0.0)
    assert not same_bits(0.0, -0.0)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 2000])
@pytest.mark.parametrize("offset", [1.5, -3.0, 1e8])
def test_exact_moments_are_those_of_fractions(count: int, offset: float) -> None:
    prices = offset + np.random.default_rng(count).uniform(-0.4, 0.4, count)
    assert exact_moments(prices) == by_fractions(prices.tolist())
