"""RunningStats answers every window exactly as promised, whatever prices came before.

The oracle (``tests/support/oracle.py``) keeps all prices and their sums as whole numbers. It is
compared with every named series at every stage of filling and wrapping; in lockstep, one price at a
time; for every way to cut a short series into batches, and every short series of an alphabet; with
a state machine that mixes valid and invalid batches with queries; and after a spike that must leave
no trace.
"""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from financial_data_service.engine.layout import FANOUT_MAX
from financial_data_service.engine.running_stats import RunningStats, warm_up
from financial_data_service.errors import InvalidBatchError, WindowSizeError
from financial_data_service.windows import WindowStats, k_max_of
from support.oracle import Errors, Oracle, exact_moments, same_bits
from support.series import ALL, CONSTANTS, ORDINARY, Prices, make

ORDINARY_VAR = 2e-15
"""Relative error of a variance of ordinary prices: tighter than the promise."""

LARGEST_WINDOWS = [10, 11, 16, 17, 100, 127, 128, 129, 1000, 12345]


def append_all(stats: RunningStats, prices: Prices, rng: np.random.Generator, most: int) -> None:
    """Append prices in batches of random length."""
    begin = 0
    while begin < len(prices):
        end = min(len(prices), begin + int(rng.integers(1, most + 1)))
        stats.append(prices[begin:end])
        begin = end


def some_windows(stats: RunningStats, rng: np.random.Generator, count: int) -> Iterator[int]:
    """Every window of a power of ten, the edges, and some at random."""
    yield from (10**k for k in range(1, stats.k_max + 1))
    yield from (1, 2, stats.largest_window - 1, stats.largest_window)
    yield from rng.integers(1, stats.largest_window + 1, count).tolist()


def worst(errors: list[Errors]) -> Errors:
    return Errors(*(max(column) for column in zip(*errors, strict=True)))


# What there is before and after the first price


def test_running_stats_initialization() -> None:
    stats = RunningStats()
    assert (stats.sequence, stats.oldest) == (0, 0)
    assert (stats.largest_window, stats.k_max) == (10**8, 8)
    assert 8 * 10**8 < stats.size_bytes <= 8.5 * 10**8
    for k in range(1, 9):
        empty = stats.stats(k)
        assert (empty.window, empty.values, empty.sequence) == (10**k, 0, 0)
        assert all(map(math.isnan, empty[1:6]))
    assert len(stats.all_stats()) == 8
    assert stats.values(10).tolist() == []
    stats.close()


def test_first_price_is_every_statistic() -> None:
    stats = RunningStats()
    assert stats.append([42.5]) == 1
    for k, window in enumerate(stats.all_stats(), 1):
        assert window == WindowStats(10**k, 42.5, 42.5, 42.5, 42.5, 0.0, 1, 1)
        assert [type(value) for value in window] == [int] + [float] * 5 + [int] * 2


def test_answers_can_be_pickled_and_unpacked() -> None:
    stats = RunningStats(10)
    stats.append([1.0, 3.0])
    window = stats.window(10)
    assert pickle.loads(pickle.dumps(window)) == window == (10, 1.0, 3.0, 3.0, 2.0, 1.0, 2, 2)


def test_warm_up_can_be_repeated() -> None:
    warm_up()
    warm_up()


# Which windows there are


@pytest.mark.parametrize(
    ("largest", "k_max"),
    [(10, 1), (99, 1), (100, 2), (999, 2), (1000, 3), (10**6, 6), (10**8 - 1, 7), (10**8, 8)],
)
def test_k_max_counts_the_powers_of_ten_that_fit(largest: int, k_max: int) -> None:
    assert k_max_of(largest) == k_max
    stats = RunningStats(largest)
    assert len(stats.all_stats()) == k_max
    with pytest.raises(WindowSizeError, match=rf"\(k={k_max + 1}\) must be between 1 and {k_max}$"):
        stats.stats(k_max + 1)


@pytest.mark.parametrize("k", [0, -1, 9, 10**9])
def test_exponents_out_of_range_are_refused(k: int) -> None:
    with pytest.raises(WindowSizeError, match=rf"^Window size exponent \(k={k}\) must be between"):
        RunningStats().stats(k)


@pytest.mark.parametrize("k", ["a", 2.0, None])
def test_exponents_that_are_no_integers_are_refused(k: Any) -> None:
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        RunningStats().stats(k)


@pytest.mark.parametrize("length", [0, -1, 101, 2**63, -(2**63)])
def test_lengths_out_of_range_are_refused(length: int) -> None:
    stats = RunningStats(100)
    with pytest.raises(WindowSizeError, match=rf"\(last={length}\) must be between 1 and 100$"):
        stats.window(length)
    with pytest.raises(WindowSizeError, match=rf"\(last={length}\) must be between 1 and 100$"):
        stats.values(length)


def test_lengths_are_integers_of_any_kind_and_nothing_else() -> None:
    stats = RunningStats(100)
    stats.append(np.arange(50.0))
    kinds: list[Any] = [np.int8, np.uint8, np.int32, np.uint64, np.int64]
    for kind in kinds:
        assert stats.window(kind(7)) == stats.window(7)
        assert stats.stats(kind(2)) == stats.stats(2)
    for other in (7.0, 7.5, "7", None, math.nan):
        with pytest.raises(TypeError):
            stats.window(other)  # type: ignore[arg-type]


def test_prices_out_of_reach_are_refused() -> None:
    stats = RunningStats(10, fanout=2, batch_max=4)
    for _ in range(10):
        stats.append([1.0, 2.0, 3.0])
    assert 0 < stats.oldest <= stats.sequence - stats.largest_window
    for begin, end in ((stats.oldest - 1, 25), (-1, 2), (29, 31), (25, 24)):
        with pytest.raises(WindowSizeError, match="Expected prices between"):
            stats.prices(begin, end)


def test_close_leaves_nothing_to_read() -> None:
    stats = RunningStats(10)
    stats.append([1.0])
    view = stats.prices(0, 1)
    stats.close()
    stats.close()
    assert view.tolist() == [1.0]
    assert math.isnan(stats.window(10).avg)
    with pytest.raises(ZeroDivisionError):
        stats.append([2.0])


# Accuracy


@pytest.mark.parametrize("fanout", [2, 128])
@pytest.mark.parametrize("name", ALL)
def test_accuracy_at_every_stage(name: str, fanout: int) -> None:
    """Not full, just full, just over, wrapped once and several times; answers of every length."""
    rng = np.random.default_rng(fanout)
    largest = 1000
    prices = make(name, 4500)
    oracle = Oracle(prices)
    stats = RunningStats(largest, fanout=fanout, batch_max=300)
    errors: list[Errors] = []
    stages = [7, 500, 999, 1000, 1001, 1300, 2049, 3900, 4500]
    for begin, end in itertools.pairwise([0, *stages]):
        append_all(stats, prices[begin:end], rng, 300)
        lengths = some_windows(stats, rng, 40)
        errors += [oracle.check(stats.window(length), length, end) for length in lengths]
    if name in ORDINARY:
        assert worst(errors).var_relative <= ORDINARY_VAR
        assert worst(errors).avg_ulps <= 0.5
    if name in CONSTANTS:
        assert worst(errors) == (0.0, 0.0)


@pytest.mark.parametrize("fanout", [2, 8, 128, 1024])
@pytest.mark.parametrize("largest", LARGEST_WINDOWS)
def test_accuracy_at_every_largest_window(largest: int, fanout: int) -> None:
    rng = np.random.default_rng(largest)
    prices = make("walk", 3 * largest + 41)
    oracle = Oracle(prices)
    stats = RunningStats(largest, fanout=fanout, batch_max=largest)
    done = 0
    for end in (largest // 2, largest, largest + 1, 2 * largest + 3, len(prices)):
        append_all(stats, prices[done:end], rng, largest)
        done = end
        for length in some_windows(stats, rng, 20):
            errors = oracle.check(stats.window(length), length, end)
            assert errors.var_relative <= ORDINARY_VAR
        assert stats.values(largest).tolist() == oracle.prices[max(0, end - largest) : end]


@pytest.mark.parametrize("fanout", [2, 128])
def test_the_windows_of_powers_of_ten_are_the_windows_of_their_length(fanout: int) -> None:
    stats = RunningStats(10_000, fanout=fanout)
    for batch in np.array_split(make("ticks", 25_000), 7):
        stats.append(batch)
        windows = [stats.window(10**k) for k in (1, 2, 3, 4)]
        assert stats.all_stats() == [stats.stats(k) for k in (1, 2, 3, 4)] == windows


@pytest.mark.parametrize("fanout", [2, 128])
def test_a_spike_that_has_left_leaves_no_trace(fanout: int) -> None:
    """The answers are, to the bit, those of a symbol that never saw the spike.

    A running sum, or one of squares, would keep the 1e9 it once held in its roundings for good.
    """
    calm = make("ticks", 6000)
    spiked = calm.copy()
    spiked[[100, 1700, 2500]] = 1e9, -1e9, 1e150
    never, once = (RunningStats(1000, fanout=fanout) for _ in range(2))
    oracle = Oracle(spiked)
    for begin in range(0, len(calm), 50):
        never.append(calm[begin : begin + 50])
        sequence = once.append(spiked[begin : begin + 50])
        for length in (10, 100, 333, 1000):
            inside = set(spiked[max(0, sequence - length) : sequence]) & {1e9, -1e9, 1e150}
            if inside:
                oracle.check(once.window(length), length, sequence)
            else:
                assert once.window(length) == never.window(length)


def test_close_prices_keep_their_variance() -> None:
    """2,000,000.001 … .009: the mean of squares minus the square of the mean gives garbage here.

    The squares are 4e12, whose last bit is 0.0005, a hundred times the variance.
    """
    prices = [2_000_000 + 0.001 * i for i in range(1, 10)]
    stats = RunningStats(10)
    stats.append(prices)
    naive = sum(p * p for p in prices) / 9 - (sum(prices) / 9) ** 2
    true = float(Oracle(prices).var(0, 9))
    assert abs(naive - true) > true
    assert stats.window(10).var == pytest.approx(true, rel=1e-15)


@pytest.mark.parametrize("count", [3, 5, 7, 10, 20, 100, 127, 128, 1000])
@pytest.mark.parametrize("price", [0.1, 0.7, 1 / 3, 1.1, 3.3, 65536.0, 1e22, 1e-5])
def test_equal_prices_have_no_variance(price: float, count: int) -> None:
    """0.1 * 20 rounds to a power of two: bounds on sums that are one need care of their own."""
    stats = RunningStats(1000)
    for _ in range(count):
        stats.append([price])
    assert stats.window(1000) == WindowStats(1000, price, price, price, price, 0.0, count, count)


def test_no_variance_is_negative_or_overflows_at_the_limit() -> None:
    stats = RunningStats(10_000, fanout=2)
    prices = np.tile([1e150, -1e150], 5000)
    stats.append(prices)
    window = stats.window(10_000)
    Oracle(prices).check(window, 10_000)
    assert window.avg == 0.0
    assert window.var == pytest.approx(1e300, rel=1e-15)


@pytest.mark.parametrize("fanout", [2, 128, FANOUT_MAX])
@pytest.mark.parametrize("prices", [(1.1, 1.7), (1.001, 1.0013), (1.2, 1.21)])
def test_alternating_prices(prices: tuple[float, float], fanout: int) -> None:
    """Every squared deviation is the same, and so is the rounding each time one is added."""
    series = np.resize(prices, 10_000)
    oracle = Oracle(series)
    stats = RunningStats(10_000, fanout=fanout)
    stats.append(series)
    for length in (2 * fanout - 1, 9_999, 10_000):
        errors = oracle.check(stats.window(length), length)
        assert errors.var_relative <= 5e-15


def test_zeros_keep_their_sign_in_last() -> None:
    stats = RunningStats(10)
    stats.append([0.0, -0.0])
    assert same_bits(stats.window(2).last, -0.0)
    stats.append([0.0])
    assert same_bits(stats.window(2).last, 0.0)
    assert [math.copysign(1, value) for value in stats.values(3)] == [1, -1, 1]


# Lockstep, one price at a time


@pytest.mark.parametrize(
    "name", ["walk", "rising", "falling", "sawtooth", "constant 0.1", "spikes"]
)
@pytest.mark.parametrize(("largest", "fanout"), [(10, 2), (17, 4), (100, 2), (129, 128)])
def test_lockstep_after_every_price(name: str, largest: int, fanout: int) -> None:
    stats = RunningStats(largest, fanout=fanout, batch_max=1)
    oracle = Oracle()
    lengths = sorted({1, 2, 3, 9, 10, largest // 2, largest - 1, largest})
    for price in make(name, 4 * largest).tolist():
        assert stats.append([price]) == len(oracle) + 1
        oracle.append([price])
        for length in lengths:
            errors = oracle.check(stats.window(length), length)
            assert errors.var_relative <= ORDINARY_VAR
        for k, window in enumerate(stats.all_stats(), start=1):
            oracle.check(window, 10**k)


# Exhaustive small scope: largest window 10, fanout 2, so a ring of 16 prices and three levels


def compositions(total: int, most: int) -> Iterator[tuple[int, ...]]:
    """Every way to write a total as a sum of parts, order counting."""
    if total == 0:
        yield ()
    for part in range(1, min(total, most) + 1):
        for rest in compositions(total - part, most):
            yield (part, *rest)


def test_every_way_to_cut_a_series_into_batches() -> None:
    """From every slot of the ring on, and through its end."""
    most = 4
    prices = make("walk", 60)
    oracle = Oracle(prices)

    @cache
    def checked(sequence: int, length: int, answer: WindowStats) -> bool:
        oracle.check(answer, length, sequence)
        return True

    cuts = list(compositions(8, most))
    assert len(cuts) == 108
    for start, cut in itertools.product(range(34), cuts):
        stats = RunningStats(10, fanout=2, batch_max=most)
        sequence = start
        for begin in range(0, start, most):
            stats.append(prices[begin : min(start, begin + most)])
        for length in cut:
            sequence = stats.append(prices[sequence : sequence + length])
            for window in range(1, 11):
                assert checked(sequence, window, stats.window(window))
        stats.close()


ALPHABET = (0.1, 1e9, -0.3)


def test_every_series_of_an_alphabet() -> None:
    """All 3^7 of them, behind a start that puts the wrap into the middle; every window."""

    @cache
    def checked(prices: tuple[float, ...], answer: WindowStats) -> bool:
        Oracle(prices).check(answer._replace(sequence=len(prices)), len(prices))
        return True

    start = [0.1] * 12
    for series in itertools.product(ALPHABET, repeat=7):
        stats = RunningStats(10, fanout=2, batch_max=4)
        for begin in range(0, 12, 4):
            stats.append(start[begin : begin + 4])
        stats.append(series[:3])
        stats.append(series[3:])
        everything = (*start, *series)
        for window in range(1, 11):
            assert checked(everything[-window:], stats.window(window))
        stats.close()


# Hypothesis

anything = st.one_of(
    st.floats(-1e150, 1e150, allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e9, -1e9, 1e150, -1e150, 5e-324, 65536.0, 1e-160]),
    st.integers(0, 1000).map(lambda tick: 1.12 + tick / 1e5),
)
invalid = st.sampled_from([math.nan, math.inf, -math.inf, 1.0000001e150, -1.7e308])


@given(
    st.lists(anything, min_size=1, max_size=300),
    st.sampled_from([2, 4, 16, 128]),
    st.integers(10, 64),
    st.integers(1, 64),
)
def test_any_prices_in_any_batches(
    prices: list[float], fanout: int, largest: int, batch_max: int
) -> None:
    stats = RunningStats(largest, fanout=fanout, batch_max=batch_max)
    for begin in range(0, len(prices), batch_max):
        stats.append(prices[begin : begin + batch_max])
    oracle = Oracle(prices)
    for length in (1, 2, 3, 5, 10, largest // 2, largest):
        oracle.check(stats.window(length), length)
    stats.close()


class RunningStatsMachine(RuleBasedStateMachine):
    """Batches fit and invalid, and questions, on a small ring; the oracle answers all of them."""

    @initialize(
        largest=st.integers(10, 40),
        fanout=st.sampled_from([2, 4, 32]),
        batch_max=st.integers(1, 24),
    )
    def create(self, largest: int, fanout: int, batch_max: int) -> None:
        self.stats = RunningStats(largest, fanout=fanout, batch_max=batch_max)
        self.oracle = Oracle()
        self.batch_max = batch_max

    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        batch = data.draw(st.lists(anything, min_size=1, max_size=self.batch_max))
        self.oracle.append(batch)
        assert self.stats.append(batch) == len(self.oracle)

    @rule(price=anything, data=st.data())
    def append_constant(self, price: float, data: st.DataObject) -> None:
        batch = np.full(data.draw(st.integers(1, self.batch_max)), price)
        self.oracle.append(batch)
        assert self.stats.append(batch) == len(self.oracle)

    @rule(value=invalid, data=st.data())
    def append_unfit(self, value: float, data: st.DataObject) -> None:
        batch = data.draw(st.lists(anything, min_size=1, max_size=self.batch_max))
        position = data.draw(st.integers(0, len(batch) - 1))
        batch[position] = value
        before = self.state()
        with pytest.raises(InvalidBatchError, match=rf"`values\[{position}\]`") as caught:
            self.stats.append(batch)
        assert caught.value.index == position
        assert self.state() == before

    @rule()
    def append_too_many(self) -> None:
        before = self.state()
        with pytest.raises(InvalidBatchError, match=f"got {self.batch_max + 1} "):
            self.stats.append(np.ones(self.batch_max + 1))
        assert self.state() == before

    @precondition(lambda self: len(self.oracle) > 0)
    @rule(data=st.data())
    def prices(self, data: st.DataObject) -> None:
        begin = data.draw(st.integers(self.stats.oldest, len(self.oracle)))
        end = data.draw(st.integers(begin, len(self.oracle)))
        assert self.stats.prices(begin, end).tolist() == self.oracle.prices[begin:end]

    @invariant()
    def every_window(self) -> None:
        largest = self.stats.largest_window
        for length in range(1, largest + 1):
            self.oracle.check(self.stats.window(length), length)
        assert repr(self.stats.all_stats()) == repr([self.stats.window(10)])  # NaN when empty
        assert self.stats.sequence == len(self.oracle)
        assert self.stats.window(largest).values == min(len(self.oracle), largest)
        assert self.stats.values(largest).tolist() == self.oracle.prices[-largest:]
        assert self.stats.oldest <= max(0, len(self.oracle) - largest)
        held = self.stats.prices(self.stats.oldest, len(self.oracle)).tolist()
        assert held == self.oracle.prices[self.stats.oldest :]

    def state(self) -> tuple[int, bytes, list[str]]:
        windows = [repr(self.stats.window(n)) for n in range(1, self.stats.largest_window + 1)]
        held = self.stats.prices(self.stats.oldest, self.stats.sequence)
        return self.stats.sequence, held.tobytes(), windows

    def teardown(self) -> None:
        if hasattr(self, "stats"):
            self.stats.close()


TestRunningStatsMachine = RunningStatsMachine.TestCase


# Long forms


@pytest.mark.deep
@pytest.mark.parametrize("name", ["uniform 1..2", "walk"])
def test_the_largest_ring_of_all(name: str) -> None:
    """10^8 prices and half as many again, against exact sums over all of a window's prices."""
    rng = np.random.default_rng(3)
    stats = RunningStats()
    prices = np.empty(0)
    for stage in range(3):
        fresh = rng.uniform(1, 2, 50_000_000)
        if name == "walk":
            fresh = 40_000 + np.round(0.01 * np.cumsum(rng.integers(-1, 2, len(fresh))), 2)
            assert 32768 < fresh.min() <= fresh.max() < 65536
        prices = np.concatenate((prices[-50_000_000:], fresh))
        for begin in range(0, len(fresh), 10_000):
            stats.append(fresh[begin : begin + 10_000])
        assert stats.sequence == (stage + 1) * 50_000_000
        for length in (10, 12_345, 10**6, 10**7, 12_345_678, 50_000_001, 10**8):
            held = prices[-length:]
            mean, var = exact_moments(held)
            window = stats.window(length)
            assert (window.min, window.max) == (held.min(), held.max())
            assert (window.last, window.values) == (held[-1], len(held))
            assert 2 * abs(Fraction(window.avg) - mean) <= Fraction(math.ulp(mean))
            assert abs(window.var / var - 1) <= ORDINARY_VAR
    stats.close()


@pytest.mark.deep
@pytest.mark.parametrize("fanout", [2, 16, 128])
@pytest.mark.parametrize("name", ALL)
def test_accuracy_over_long_windows(name: str, fanout: int) -> None:
    rng = np.random.default_rng(11)
    prices = make(name, 60_000)
    oracle = Oracle(prices)
    stats = RunningStats(20_000, fanout=fanout)
    errors: list[Errors] = []
    for begin in range(0, len(prices), 7_500):
        append_all(stats, prices[begin : begin + 7_500], rng, 10_000)
        end, lengths = begin + 7_500, some_windows(stats, rng, 100)
        errors += [oracle.check(stats.window(length), length, end) for length in lengths]
    if name in ORDINARY:
        assert worst(errors).var_relative <= ORDINARY_VAR
        assert worst(errors).avg_ulps <= 0.5
    if name in CONSTANTS:
        assert worst(errors) == (0.0, 0.0)
