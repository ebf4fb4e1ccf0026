"""Prices recorded at exchanges, brought over HTTP in batches of all sizes: every window, compared
with NumPy over the same prices.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from support.paths import ROOT
from support.raw_http import batch, get, post
from support.service_process import Service, running

EXAMPLE = ROOT / "examples" / "btcusdt-trades.parquet"
SHARED = ROOT.parent / "shared" / "data"

Prices = npt.NDArray[np.float64]


def trades() -> Prices:
    parquet = pytest.importorskip("pyarrow.parquet")
    prices: Prices = parquet.read_table(EXAMPLE)["price"].to_numpy()
    return prices


def jittered(seed: int, repeats: int, tick: float) -> Prices:
    """A longer series made of the trades: each repeat moved by some ticks."""
    moves = np.random.default_rng(seed).integers(-50, 51, size=(repeats, 1)) * tick
    prices: Prices = np.asarray(np.round(trades() + moves, 5), dtype=np.float64).ravel()
    return prices


def quotes() -> Prices:
    """EUR/USD bids; if the file is not there, the trades on the scale of a currency pair."""
    path = SHARED / "eurusd-quotes.csv"
    if path.exists():
        return np.loadtxt(path, delimiter=",", usecols=1)
    return np.round(jittered(1, 5, 0.01) / 4e4, 5)


def bars() -> Prices:
    """Closes of minutes; if the file is not there, many repeats of the trades."""
    path = SHARED / "btc-perp-1m.csv"
    if path.exists():
        with path.open() as lines:
            column = next(lines).strip().split(",").index("close")
            return np.loadtxt(lines, delimiter=",", usecols=column)
    return jittered(2, 23, 0.01)


SERIES: dict[str, Callable[[], Prices]] = {
    "trades": trades,
    "quotes": quotes,
    "bars": bars,
    "110,000 jittered trades": lambda: jittered(3, 55, 0.01),
}


@pytest.fixture(scope="module", params=["slow", "fast"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    lane = str(int(request.param == "fast"))
    flags = ("--port", "0", "--largest-window", "100000000")
    with running(tmp_path_factory.mktemp("real"), flags, FDS_FAST_LANE=lane) as service:
        yield service


def check_every_window(service: Service, symbol: str, prices: Prices) -> None:
    """Compare the eight windows, and some others, with NumPy."""
    asked = [(f"/stats/{symbol}/{k}", 10**k) for k in range(1, 9)]
    asked += [(f"/stats/{symbol}?last={n}", n) for n in (1, 2, 127, 128, 1234, 99_999)]
    for target, length in asked:
        answer = service.get(target)
        window = prices[-length:]
        exact = (np.min(window), np.max(window), window[-1])
        told = (answer["min"], answer["max"], answer["last"])
        assert struct.pack("3d", *told) == struct.pack("3d", *exact)
        assert (answer["values"], answer["sequence"]) == (window.size, prices.size)
        np.testing.assert_allclose(answer["avg"], window.mean(), rtol=1e-12)
        # The mean is taken off first: NumPy's own error would be larger than ours.
        np.testing.assert_allclose(answer["var"], (window - window.mean()).var(), rtol=1e-12)


@pytest.mark.parametrize("name", SERIES)
def test_every_window_of_real_prices(service: Service, name: str) -> None:
    service.empty()
    prices = SERIES[name]()
    rng = random.Random(7)
    sent = 0
    with service.connect() as connection:
        for count in iter(lambda: rng.choice([1, 10, 127, 1000, 2500, 10_000]), None):
            part = prices[sent : sent + count].tolist()
            reply = connection.ask(post(batch("S", part, sent)))
            sent += len(part)
            assert (reply.status, reply.json()["sequence"]) == (201, sent)
            if sent == prices.size:
                break
            if count >= 2500:
                check_every_window(service, "S", prices[:sent])
        check_every_window(service, "S", prices)
        # Nothing was lost or mended on the way: all of it again changes nothing.
        for begin in range(0, prices.size, 10_000):
            part = prices[begin : begin + 10_000].tolist()
            assert connection.ask(post(batch("S", part, begin))).status == 200
        assert connection.ask(get("/stats/S/8")).json()["sequence"] == prices.size
