"""The algebra of summaries keeps its laws, and its exact steps are exact.

Hypothesis draws prices and cuts. ``fractions.Fraction`` gives the true sums, quotients and moments.
Laws that hold bit for bit are asserted bit for bit, the others within the bounds that the module
states.
"""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction
from functools import reduce

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from financial_data_service.engine.summary import (
    IDENTITY,
    Summary,
    add_pairs,
    combine,
    divide_pair,
    fast_two_sum,
    lift,
    lower,
    summarise,
    two_sum,
)
from financial_data_service.windows import WindowStats
from support.oracle import Oracle
from support.series import ALL, ORDINARY, make

prices = st.floats(-1e150, 1e150, allow_nan=False)
ordinary = st.floats(0.5, 1e6)
counts = st.integers(1, 10**8)
blocks = st.lists(prices, min_size=1, max_size=12).map(summarise)

SUBNORMAL = Fraction(2) ** -1074


@st.composite
def pairs(draw: st.DrawFn) -> tuple[float, float]:
    """A sum as a pair: normalised, and no larger than sums get."""
    high = draw(st.floats(-1e158, 1e158, allow_nan=False))
    return fast_two_sum(high, high * draw(st.floats(-(2.0**-53), 2.0**-53)))


def exact(pair: tuple[float, float]) -> Fraction:
    return Fraction(pair[0]) + Fraction(pair[1])


def as_stats(summary: Summary, last: float) -> WindowStats:
    least, greatest, avg, var = lower(summary)
    count = summary.count
    return WindowStats(count, least, greatest, last, avg, var, count, count)


# Laws


@given(blocks)
def test_identity_changes_nothing(block: Summary) -> None:
    assert combine(IDENTITY, block) == block == combine(block, IDENTITY)
    assert combine(IDENTITY, IDENTITY) == IDENTITY


@given(blocks, blocks)
def test_combine_is_commutative_to_the_bit(left: Summary, right: Summary) -> None:
    assert combine(left, right) == combine(right, left)


@given(*(st.lists(ordinary, min_size=1, max_size=12).map(summarise) for _ in range(3)))
def test_combine_is_associative(first: Summary, second: Summary, third: Summary) -> None:
    """To the bit in all but m2, as long as a sum fits its pair."""
    one = combine(combine(first, second), third)
    other = combine(first, combine(second, third))
    assert one[:5] == other[:5]
    assert one.m2 == pytest.approx(other.m2, rel=1e-14, abs=0)


@given(blocks, blocks)
def test_m2_never_shrinks(left: Summary, right: Summary) -> None:
    both = combine(left, right)
    assert 0.0 <= max(left.m2, right.m2) <= both.m2 < math.inf


@given(blocks, prices)
def test_a_price_at_the_mean_adds_nothing_below_zero(block: Summary, price: float) -> None:
    assert combine(block, lift(lower(block)[2])).m2 >= block.m2 >= 0.0
    assert combine(lift(price), lift(price)).m2 == 0.0


@given(st.lists(prices, min_size=1, max_size=40), st.data())
def test_any_partition_gives_the_same_answer(values: list[float], data: st.DataObject) -> None:
    """In any order of merging, and of blocks of any length; the oracle knows the answer."""
    cuts = data.draw(st.sets(st.integers(0, len(values))))
    edges = [0, *sorted(cuts), len(values)]
    parts = [summarise(values[begin:end]) for begin, end in itertools.pairwise(edges)]
    folded = reduce(combine, parts, IDENTITY)
    shuffled = parts[:]
    random.Random(len(parts)).shuffle(shuffled)
    while len(shuffled) > 1:  # a tree
        shuffled.append(combine(shuffled.pop(0), shuffled.pop(0)))
    for summary in (summarise(values), folded, shuffled[0]):
        Oracle(values).check(as_stats(summary, values[-1]), len(values))


@pytest.mark.parametrize("name", ALL)
def test_partitions_of_named_series(name: str) -> None:
    values = make(name, 700).tolist()
    oracle = Oracle(values)
    for length in (1, 2, 7, 128, 700):
        parts = [summarise(values[begin : begin + length]) for begin in range(0, 700, length)]
        errors = oracle.check(as_stats(reduce(combine, parts), values[-1]), 700)
        if name in ORDINARY:
            assert errors.avg_ulps <= 0.5
            assert errors.var_relative <= 1e-14


@given(prices)
def test_a_price_is_its_own_summary(price: float) -> None:
    assert lower(lift(price)) == (price, price, price, 0.0)
    assert summarise([price]) == lift(price)


@given(prices, st.integers(1, 200))
def test_equal_prices(price: float, count: int) -> None:
    assert lower(summarise([price] * count)) == (price, price, price, 0.0)


# Exact steps


@given(st.floats(-1e300, 1e300, allow_nan=False), st.floats(-1e300, 1e300, allow_nan=False))
def test_two_sum_is_exact(a: float, b: float) -> None:
    total, error = two_sum(a, b)
    assert total == a + b
    assert Fraction(total) + Fraction(error) == Fraction(a) + Fraction(b)
    assert two_sum(b, a) == (total, error)
    assert abs(error) <= math.ulp(total) / 2 or error == 0.0


@given(st.floats(-1e300, 1e300, allow_nan=False), st.floats(-1e300, 1e300, allow_nan=False))
def test_fast_two_sum_is_exact_for_the_larger_first(a: float, b: float) -> None:
    larger, smaller = sorted((a, b), key=abs, reverse=True)
    assert fast_two_sum(larger, smaller) == two_sum(a, b)


@given(pairs(), pairs())
@example((1e150, 1e130), (-1e150, 3e133))
def test_add_pairs_is_nearly_exact_even_when_it_cancels(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    total = add_pairs(*a, *b)
    truth = exact(a) + exact(b)
    assert abs(exact(total) - truth) <= abs(truth) / 2**104
    assert total[0] == sum(total)


@given(pairs(), counts)
@example((1e158, 0.0), 10**8)
@example((5e-324, 0.0), 3)
def test_divide_pair_is_nearly_exact(pair: tuple[float, float], count: int) -> None:
    quotient = divide_pair(*pair, count)
    truth = exact(pair) / count
    assert abs(exact(quotient) - truth) <= abs(truth) / 2**103 + SUBNORMAL
    assert quotient[0] == sum(quotient)


@given(prices, st.integers(1, 10**8))
def test_dividing_what_was_multiplied_is_exact(price: float, count: int) -> None:
    """What keeps the variance of equal prices at zero: the mean of n times x is x."""
    assume(abs(price) > 1e-290 or price == 0)
    product = Fraction(price) * count
    high = float(product)
    assert divide_pair(high, float(product - Fraction(high)), count) == (price, 0.0)


def test_the_largest_possible_summary_is_finite() -> None:
    half = 5 * 10**7
    left = Summary(half, 1e150, 1e150, 1e150 * half, 0.0, 0.0)
    right = Summary(half, -1e150, -1e150, -1e150 * half, 0.0, 0.0)
    *others, var = lower(combine(left, right))
    assert others == [-1e150, 1e150, 0.0]
    assert var == pytest.approx(1e300, rel=1e-15)
