"""Prices as exchanges recorded them: every window against NumPy, and exactly against the oracle.

The trades under ``examples/`` are always there. Other recordings are taken from ``../shared/data``
where that lies beside the checkout; elsewhere, series of their length are made of the trades by
repeating and jittering them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.windows import WindowStats
from support.oracle import Oracle
from support.paths import ROOT
from support.series import Prices

SHARED = ROOT.parent / "shared" / "data"


@cache
def trades() -> Prices:
    """2,001 trades of BTC/USDT, 2021-01-08."""
    table = pyarrow.parquet.read_table(ROOT / "examples" / "btcusdt-trades.parquet")
    prices: Prices = table["price"].to_numpy()
    assert prices.shape == (2001,)
    return prices


def jittered(length: int, tick: float) -> Prices:
    """Return the trades, repeated, each moved by up to ten ticks."""
    rng = np.random.default_rng(length)
    moves = tick * rng.integers(-10, 11, length)
    return np.asarray(np.round(np.resize(trades(), length) + moves, 5), dtype=np.float64)


@cache
def quotes(column: int) -> Prices:
    """9,500 quotes of EUR/USD, 2020-01-01: the bid or the ask."""
    path = SHARED / "eurusd-quotes.csv"
    if not path.exists():
        return np.round(jittered(9500, 0.01) / 36_000, 5)  # of the size of the rate
    prices: Prices = np.loadtxt(path, delimiter=",", usecols=column)
    assert prices.shape == (9500,)
    return prices


@cache
def bars() -> Prices:
    """45,031 closes of one minute each, BTC perpetual, 2021-12-31 to 2022-02-01."""
    path = SHARED / "btc-perp-1m.csv"
    if not path.exists():
        return jittered(45_031, 0.5)
    prices: Prices = pyarrow.csv.read_csv(path)["close"].to_numpy().astype(np.float64)
    assert prices.shape == (45_031,)
    return prices


RECORDINGS: dict[str, Callable[[], Prices]] = {
    "BTC/USDT trades": trades,
    "EUR/USD bid": lambda: quotes(1),
    "EUR/USD ask": lambda: quotes(2),
    "BTC perpetual closes": bars,
    "BTC/USDT trades, longer": lambda: jittered(150_000, 0.01),
}


def batches(prices: Prices, length: int) -> list[Prices]:
    return [prices[begin : begin + length] for begin in range(0, len(prices), length)]


def check_against_numpy(stats: WindowStats, prices: Prices, length: int) -> None:
    window = prices[-length:]
    assert stats.values == len(window)
    assert (stats.min, stats.max, stats.last) == (window.min(), window.max(), window[-1])
    assert stats.avg == pytest.approx(window.mean(), rel=1e-12, abs=0)
    # NumPy gives equal prices a variance, because their mean as it finds it is off by a bit.
    assert stats.var == pytest.approx(window.var(), rel=1e-12, abs=(1e-15 * window.mean()) ** 2)


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_window_against_numpy_and_exactly(name: str) -> None:
    """In the sizes of the service: eight windows, the largest of 10^8."""
    prices = RECORDINGS[name]()
    stats = RunningStats()
    for batch in batches(prices, 10_000):
        stats.append(batch)
    oracle = Oracle(prices)
    for k, window in enumerate(stats.all_stats(), start=1):
        check_against_numpy(window, prices, 10**k)
        errors = oracle.check(window, 10**k)
        assert errors.avg_ulps <= 0.5
        assert errors.var_relative <= 2e-15
    stats.close()


@pytest.mark.parametrize("name", RECORDINGS)
def test_windows_that_have_moved_on(name: str) -> None:
    """A ring that the recording goes round several times, asked again and again."""
    prices = RECORDINGS[name]()
    oracle = Oracle(prices)
    largest = len(prices) // 4
    stats = RunningStats(largest, batch_max=307)
    rng = np.random.default_rng(1)
    for number, batch in enumerate(batches(prices, 307)):
        sequence = stats.append(batch)
        if number % max(1, len(prices) // 307 // 20) == 0 or sequence == len(prices):
            for length in (10, 100, largest, *rng.integers(1, largest + 1, 3).tolist()):
                check_against_numpy(stats.window(length), prices[:sequence], length)
                errors = oracle.check(stats.window(length), length, sequence)
                assert errors.var_relative <= 2e-15
    stats.close()


@pytest.mark.parametrize("length", [1, 100, 10_000])
def test_the_length_of_batches_is_not_in_the_answer(length: int) -> None:
    prices = quotes(1)
    one, other = RunningStats(5000), RunningStats(5000)
    one.append(prices)
    for batch in batches(prices, length):
        other.append(batch)
    for window in (10, 100, 999, 5000):
        assert one.window(window) == other.window(window)
