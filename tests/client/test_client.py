"""``Client`` and ``AsyncClient`` against the real service, which is also killed in a long series.

Each part of the client has tests of its own, with a model of the service below httpx.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import financial_data_service as fds
from financial_data_service import AsyncClient, Client
from financial_data_service.client import Receipt, Retries
from support.client_calls import SYMBOLS, series
from support.client_model import ModelService
from support.service_process import LIGHT, Service, running, started

# A service takes seconds to start on a busy machine; the test need not add waits of its own.
PATIENT = Retries(count=10_000, seconds=60, pause_seconds_max=0.2)


class TestOptions:
    def seen(self, url: str = "http://model", **options: Any) -> httpx.Request:
        requests: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            return httpx.Response(200, json=SYMBOLS)

        with Client(url, transport=httpx.MockTransport(answer), **options) as client:
            client.symbols()
        return requests[0]

    def test_a_client_that_was_closed(self) -> None:
        client = Client("http://model", transport=ModelService().transport)
        client.symbols()
        client.close()
        client.close()
        closed = r"^Client\('http://model'\) is closed: it cannot send requests$"
        for use in (client.symbols, client.alive, lambda: client.subscribe("stats.A.3")):
            with pytest.raises(ValueError, match=closed):
                use()

        async def main() -> None:
            awaited = AsyncClient("http://model", transport=ModelService().transport)
            await awaited.aclose()
            with pytest.raises(ValueError, match="is closed: it cannot send requests"):
                await awaited.symbols()
            with pytest.raises(ValueError, match="is closed: it cannot send requests"):
                async with awaited.ingest("A"):
                    pass
            with pytest.raises(ValueError, match="is closed: it cannot send requests"):
                awaited.subscribe("stats.A.3")

        asyncio.run(main())

    def test_the_client_loads_neither_the_engine_nor_numba(self) -> None:
        code = (
            "import sys\n"
            "from financial_data_service import Client, AsyncClient\n"
            "import financial_data_service.client.subscription\n"
            "names = sys.modules.keys()\n"
            "heavy = {'numba', 'pandas', 'polars', 'pyarrow', 'fastapi', 'pydantic'} & names\n"
            "assert not heavy, heavy\n"
            "assert not [name for name in names if '_service.engine' in name]\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service"), (*LIGHT, "--max-symbols", "50")) as service:
        yield service


AWKWARD = [
    ".",
    "..",
    "a/b",
    "ü",
    "%2F",
    "a b",
    "?",
    "#",
    "BRK.A",
    "a+b&c=d",
    ";",
    "\\",
    "//x",
    "🚀",
]


class TestRealService:
    def test_there_and_back(self, service: Service) -> None:
        prices = np.cumsum(np.random.default_rng(1).normal(size=25_000)) + 1000
        with Client(service.url) as client:
            assert client.add_batch("BACK", prices) == Receipt("BACK", 25_000, 25_000)
            back = client.values("BACK", last=30_000)
            assert back.tobytes() == prices.tobytes()
            assert (back.first, back.sequence) == (0, 25_000)
            last = client.values("BACK", last=10)
            assert (last.first, last.sequence) == (24_990, 25_000)
            assert client.values("BACK").tolist() == prices[-1000:].tolist()
            stats = client.stats("BACK", 3)
            assert (stats.min, stats.max) == (prices[-1000:].min(), prices[-1000:].max())
            assert (stats.values, stats.k, stats.window) == (1000, 3, 1000)
            assert stats.is_full
            assert client.stats("BACK", last=77).window == 77
            assert client.verify("BACK", 3).equal
            assert [each.k for each in client.all_stats("BACK")] == [1, 2, 3, 4, 5]
            assert stats in client.all_stats(k=3)
            assert client.all_stats("BACK", k=3) == (stats,)
            assert {each.symbol for each in client.symbols()} >= {"BACK"}
            assert client.limits().batch_max == 10_000
            assert client.ready()
            assert client.alive()
            assert client.wait_until_ready().refused == ()
            client.delete("BACK")
            with pytest.raises(fds.SymbolNotFoundError):
                client.stats("BACK", 3)

    def test_values_of_a_small_window(self, tmp_path: Path) -> None:
        """Without `last` there is no more asked for than there can be."""
        flags = ("--port", "0", "--largest-window", "100")
        with running(tmp_path, flags) as service, Client(service.url) as client:
            client.add_batch("A", series(200))
            assert client.values("A").tolist() == series(200)[-100:]

    def test_awaited(self, service: Service) -> None:
        async def main() -> None:
            async with AsyncClient(service.url) as client:
                names = [f"ASYNC{index}" for index in range(4)]
                receipts = await asyncio.gather(
                    *(client.add_batch(name, series(12_000)) for name in names)
                )
                assert {receipt.sequence for receipt in receipts} == {12_000}
                assert (await client.stats(names[0], last=1)).last == series(12_000)[-1]
                assert len(await client.all_stats(names[1])) == 5
                assert (await client.values(names[2], 12_000)).tolist() == series(12_000)
                assert (await client.values(names[2])).first == 11_000
                assert (await client.verify(names[3], 2)).equal
                assert await client.ready()
                assert await client.alive()
                assert (await client.wait_until_ready()).is_ready
                assert (await client.limits()).max_symbols == 50
                await asyncio.gather(*map(client.delete, names))
                assert not {each.symbol for each in await client.symbols()} & set(names)

        asyncio.run(main())

    @pytest.mark.parametrize("symbol", AWKWARD)
    def test_awkward_symbols(self, service: Service, symbol: str) -> None:
        with Client(service.url) as client:
            assert client.add_batch(symbol, [1.5, 2.5]).symbol == symbol
            assert client.stats(symbol, 1).symbol == symbol
            assert client.all_stats(symbol)[0].symbol == symbol
            assert client.values(symbol, 2).tolist() == [1.5, 2.5]
            assert client.verify(symbol, 1).symbol == symbol
            client.delete(symbol)

    def test_refusals_are_the_classes_of_the_package(self, service: Service) -> None:
        with Client(service.url) as client:
            client.add_batch("R", [1.0, 2.0])
            with pytest.raises(fds.SequenceConflictError) as info:
                client.add_batch("R", [3.0], from_sequence=1)
            assert info.value.sequence == 2
            refused: list[tuple[type[Exception], Callable[[], object]]] = [
                (fds.WindowSizeError, lambda: client.stats("R", 9)),
                (fds.WindowSizeError, lambda: client.stats("R", last=0)),
                (fds.WindowSizeError, lambda: client.values("R", 0)),
                (fds.WindowSizeError, lambda: client.all_stats(k=0)),
                (fds.WindowSizeError, lambda: client.verify("R", 9)),
                (fds.SymbolNotFoundError, lambda: client.values("NOPE", 1)),
                (fds.SymbolNotFoundError, lambda: client.verify("NOPE", 1)),
                (fds.SymbolNotFoundError, lambda: client.all_stats("NOPE")),
                (fds.SymbolNotFoundError, lambda: client.delete("NOPE")),
            ]
            for kind, ask in refused:
                with pytest.raises(kind) as refusal:
                    ask()
                assert isinstance(refusal.value, fds.ServiceError)

    def test_threads_share_a_client(self, service: Service) -> None:
        failures: list[BaseException] = []
        with Client(service.url) as client:

            def add(name: str) -> None:
                try:
                    for _ in range(20):
                        client.add_batch(name, series(50))
                    assert client.stats(name, 3).sequence == 1000
                except BaseException as error:  # noqa: BLE001 - for the main thread
                    failures.append(error)

            threads = [threading.Thread(target=add, args=(f"T{index}",)) for index in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not failures


class OnRequest:
    """A hook of httpx which does something when the n-th batch is about to be sent."""

    def __init__(self, at: int, then: Callable[[], None]) -> None:
        self.count, self.at, self.then = 0, at, then

    def __call__(self, request: httpx.Request) -> None:
        if request.method == "POST":
            self.count += 1
            if self.count == self.at:
                self.then()


def test_a_service_killed_in_the_middle_of_a_series(tmp_path: Path) -> None:
    """``kill -9`` while batches are under way, and a new start: the series is there, exactly."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    flags = ["--port", port, "--largest-window", "1000000", "--batch-max", "500"]
    flags += ["--data-dir", str(tmp_path / "prices")]
    prices = np.cumsum(np.random.default_rng(7).normal(size=200_000)) + 1e4
    restarted = threading.Event()
    begun = threading.Event()

    def kill_and_restart(first: Service) -> None:
        assert begun.wait(60)
        first.process.kill()
        first.process.wait()
        with started(tmp_path, flags):
            restarted.set()
            assert ended.wait(60)

    ended = threading.Event()
    with started(tmp_path, flags) as first, Client(first.url, retries=PATIENT) as client:
        killer = threading.Thread(target=kill_and_restart, args=(first,))
        killer.start()
        client._http.event_hooks["request"] = [OnRequest(100, begun.set)]
        try:
            receipt = client.add_batch("K", prices)
            assert restarted.is_set()
            assert receipt.sequence == prices.size
            back = client.values("K", last=1_000_000)
            assert back.first == 0
            assert back.tobytes() == prices.tobytes()
        finally:
            begun.set()
            ended.set()
            killer.join()
