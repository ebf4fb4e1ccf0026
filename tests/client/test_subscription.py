"""Subscriptions: nothing comes twice, nothing goes back, nothing is lost.

A server of a few lines does what the real one cannot be asked to: break off between two messages,
close with each code, refuse a handshake. The real service is asked at the end, and killed once.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

import financial_data_service as fds
from financial_data_service import AsyncClient, Client
from financial_data_service.client import Receipt, Retries, Update, stream_name
from financial_data_service.client.subscription import AsyncSubscription, asked_pause
from support.scripted_streams import QUICK, SECONDS_MAX, Handler, gone, run, scripted, telling, told
from support.service_process import LIGHT, Service, running, started

# A service takes seconds to start on a busy machine; the test need not add waits of its own.
PATIENT = Retries(count=10_000, seconds=60, pause_seconds_max=0.2)


def handlers_of(script: str) -> tuple[list[Handler | int], asyncio.Event, asyncio.Event]:
    """Return a server, an event for when a loop waits in the middle of it, and one for its loss."""
    begun, lost = asyncio.Event(), asyncio.Event()

    async def tell(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(told(1))
        begun.set()
        async for _ in connection:
            pass

    return ([tell], begun, lost) if script == "telling" else ([503], lost, lost)


async def all_of(updates: AsyncSubscription) -> list[int]:
    return [update.sequence async for update in updates]


class TestSubscription:
    @pytest.mark.parametrize("ending", ["break off", 1001, 1011, 1013, 4503])
    def test_it_connects_anew_and_goes_on(self, ending: int | str) -> None:
        async def main() -> None:
            lost: list[str] = []
            restored: list[int] = []
            opened: list[int] = []
            seen: list[int] = []
            first = telling(told(1, "snapshot"), told(2), then=ending)
            second = telling(told(2, "snapshot"), told(3), then=ending)
            third = telling(told(5, "snapshot"))
            async with (
                scripted(first, 503, second, third) as (url, connections),
                AsyncClient(url, retries=QUICK) as client,
            ):
                updates = client.subscribe(
                    "stats.A.3",
                    on_open=lambda: opened.append(len(seen)),
                    on_lost=lost.append,
                    on_restored=lambda: restored.append(1),
                )
                async for update in updates:
                    seen.append(update.sequence)
                    if update.sequence == 5:
                        break
                assert seen == [1, 2, 3, 5]
                assert len(connections) == 3
                assert len(lost) == len(restored) == 2
                assert opened == [0, 2, 3], "before the first update of each connection"
                assert all(reason.startswith(f"{url}/stream: ") for reason in lost)

        run(main)

    def test_leaving_the_loop_closes_the_connection(self) -> None:
        async def main() -> None:
            async with scripted(telling(told(1), told(2))) as (url, connections):
                client = AsyncClient(url)
                async for _ in client.subscribe("stats.A.3"):
                    break
                await connections[0].wait_closed()
                assert connections[0].close_code == 1000

        run(main)

    def test_with_keeps_the_connection_between_loops(self) -> None:
        async def main() -> None:
            async with scripted(telling(told(1), told(2))) as (url, connections):
                async with AsyncClient(url).subscribe("stats.A.3") as updates:
                    for expected in (1, 2):
                        async for update in updates:
                            assert update.sequence == expected
                            break
                        await asyncio.sleep(0)
                await connections[0].wait_closed()
                assert len(connections) == 1

        run(main)

    def test_cancelling_closes_the_connection(self) -> None:
        async def main() -> None:
            async with scripted(telling(told(1))) as (url, connections):
                begun = asyncio.Event()

                async def listen() -> None:
                    async for _ in AsyncClient(url).subscribe("stats.A.3"):
                        begun.set()

                task = asyncio.create_task(listen())
                await begun.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await connections[0].wait_closed()

        run(main)

    @pytest.mark.parametrize("by", ["the block", "aclose", "the client"])
    @pytest.mark.parametrize("script", ["telling", "pausing"])
    def test_a_loop_in_another_task_ends_when_it_is_closed(self, by: str, script: str) -> None:
        async def main() -> None:
            handlers, begun, lost = handlers_of(script)
            # Too patient for the test: what waits for the next try must be woken.
            patient = Retries(pause_seconds=SECONDS_MAX * 4, pause_seconds_max=SECONDS_MAX * 4)
            async with scripted(*handlers) as (url, connections):
                client = AsyncClient(url, retries=patient)
                updates = client.subscribe("stats.A.3", on_lost=lambda _: lost.set())
                async with updates:
                    listening = asyncio.create_task(all_of(updates))
                    await begun.wait()
                    if by != "the block":
                        await (updates if by == "aclose" else client).aclose()
                        await listening
                assert await listening == ([1] if script == "telling" else [])
                assert await all_of(updates) == []
                assert len(connections) == (1 if script == "telling" else 0)
                assert lost.is_set() == (script == "pausing")

        run(main)

    def test_a_loop_that_is_closed_while_it_connects_ends(self) -> None:
        async def main() -> None:
            asked, go_on = asyncio.Event(), asyncio.Event()

            async def hesitate(_: ServerConnection, __: Request) -> None:
                asked.set()
                await go_on.wait()

            handle = telling(told(1))
            async with serve(handle, "127.0.0.1", 0, process_request=hesitate) as server:
                port = server.sockets[0].getsockname()[1]
                updates = AsyncClient(f"http://127.0.0.1:{port}").subscribe("stats.A.3")
                listening = asyncio.create_task(all_of(updates))
                await asked.wait()
                await updates.aclose()
                go_on.set()
                assert await listening == []

        run(main)

    @pytest.mark.parametrize("by", ["the block", "close", "the client"])
    @pytest.mark.parametrize("script", ["telling", "pausing"])
    def test_a_loop_in_another_thread_ends_when_it_is_closed(self, by: str, script: str) -> None:
        async def main() -> None:
            handlers, begun, lost = handlers_of(script)
            loop = asyncio.get_running_loop()
            patient = Retries(pause_seconds=SECONDS_MAX * 4, pause_seconds_max=SECONDS_MAX * 4)
            async with scripted(*handlers) as (url, _):
                client = Client(url, retries=patient)
                updates = client.subscribe(
                    "stats.A.3", on_lost=lambda _: loop.call_soon_threadsafe(lost.set)
                )
                updates.__enter__()
                listening = asyncio.create_task(asyncio.to_thread(list, updates))
                await begun.wait()
                if by == "the block":
                    await asyncio.to_thread(updates.__exit__)
                else:
                    await asyncio.to_thread((updates if by == "close" else client).close)
                seen = [update.sequence for update in await listening]
                assert seen == ([1] if script == "telling" else [])
                assert await asyncio.to_thread(list, updates) == []

        run(main)

    def test_a_server_that_comes_later(self) -> None:
        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            lost = asyncio.Event()
            client = AsyncClient(f"http://127.0.0.1:{port}", retries=QUICK)
            updates = client.subscribe("stats.A.3", on_lost=lambda _: lost.set())

            async def first() -> Update:
                async for update in updates:
                    return update
                raise AssertionError

            waiting = asyncio.create_task(first())
            await lost.wait()
            async with serve(telling(told(4)), "127.0.0.1", port):
                assert (await waiting).sequence == 4

        run(main)

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_refused_handshake_says_how_long_to_wait(self, status: int) -> None:
        async def main() -> None:
            async with scripted(status, telling(told(1)), retry_after="1") as (url, _):
                started = time.monotonic()
                async for _ in AsyncClient(url, retries=QUICK).subscribe("stats.A.3"):
                    break
                assert time.monotonic() - started >= 1

        run(main)

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ([], 0),
            ([("Retry-After", "5")], 5),
            ([("retry-after", "7"), ("retry-after", "7")], 7),
            ([("Retry-After", "9" * 400)], 86_400),
        ],
    )
    def test_waits_that_are_asked_for(self, headers: list[tuple[str, str]], seconds: float) -> None:
        response = Response(503, "Service Unavailable", Headers(headers), b"")
        assert asked_pause(InvalidStatus(response)) == seconds
        assert asked_pause(OSError()) == 0

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_wrong_key_is_told(self, status: int) -> None:
        async def main() -> None:
            async with scripted(status) as (url, _):
                with pytest.raises(fds.UnauthorizedError, match="Expected an API key"):
                    async for _ in AsyncClient(url).subscribe("stats.A.3"):
                        pass

        run(main)

    def test_the_key_goes_with_the_handshake(self) -> None:
        async def main() -> None:
            async with scripted(telling(told(1))) as (url, connections):
                async for _ in AsyncClient(url + "/fds", api_key="k" * 16).subscribe("stats.A.3"):
                    break
                request = connections[0].request
                assert request is not None
                assert request.headers["x-api-key"] == "k" * 16
                assert request.path == "/fds/stream"

        run(main)

    def test_a_refused_stream_is_told(self) -> None:
        async def main() -> None:
            error = '{"error":{"code":422,"msg":"Expected a stream"},"id":1}'
            async with scripted(telling(error)) as (url, connections):
                with pytest.raises(fds.ServiceError, match="Expected a stream") as info:
                    async for _ in AsyncClient(url).subscribe("x"):
                        pass
                assert info.value.status == 422
                await connections[0].wait_closed()

        run(main)

    def test_a_final_close_is_told(self) -> None:
        async def main() -> None:
            async with scripted(telling(then=1008)) as (url, _):
                with pytest.raises(fds.ServiceError, match="why"):
                    async for _ in AsyncClient(url).subscribe("stats.A.3"):
                        pass

        run(main)

    def test_deletions_are_called_out(self) -> None:
        async def main() -> None:
            deleted: list[str] = []
            script = telling(told(5), gone(), told(1, "snapshot"))
            async with scripted(script) as (url, _):
                seen = []
                updates = AsyncClient(url).subscribe("stats.A.3", on_deleted=deleted.append)
                async for update in updates:
                    seen.append(update.sequence)
                    if len(seen) == 2:
                        break
                assert (seen, deleted) == ([5, 1], ["A"])

        run(main)

    def test_streams_may_be_added_and_dropped_on_the_way(self) -> None:
        async def main() -> None:
            heard: list[Any] = []

            async def handle(connection: ServerConnection) -> None:
                async for message in connection:
                    heard.append(json.loads(message))
                    await connection.send(told(len(heard)))

            async with scripted(handle) as (url, _):
                async with AsyncClient(url).subscribe("stats.A.3") as updates:
                    async for update in updates:
                        if update.sequence == 1:
                            await updates.subscribe("stats.B.1")
                        elif update.sequence == 2:
                            await updates.unsubscribe("stats.A.3")
                        else:
                            break
                assert [each["method"] for each in heard] == [
                    "SUBSCRIBE",
                    "SUBSCRIBE",
                    "UNSUBSCRIBE",
                ]
                assert updates.streams == ["stats.B.1"]

        run(main)

    def test_no_streams(self) -> None:
        with pytest.raises(ValueError, match="Expected a stream or more"):
            Client().subscribe()
        with pytest.raises(ValueError, match="Expected a stream or more"):
            Client().subscribe([])

    def test_names_may_be_given_together(self) -> None:
        async def main() -> None:
            for kind in (Client, AsyncClient):
                updates = kind().subscribe(["stats.A.3", "stats.B.3"], "stats.C.3")
                assert updates.streams == ["stats.A.3", "stats.B.3", "stats.C.3"]
            assert isinstance(updates, AsyncSubscription)
            await updates.subscribe(f"stats.{symbol}.3" for symbol in "DE")
            await updates.unsubscribe(["stats.A.3", "stats.B.3"], "stats.C.3")
            assert updates.streams == ["stats.D.3", "stats.E.3"]

        run(main)

    @pytest.mark.parametrize(("streams", "kind"), [((3,), "int"), ((["a", None],), "NoneType")])
    def test_what_is_no_name_of_a_stream(self, streams: Any, kind: str) -> None:
        with pytest.raises(TypeError, match=f"name of a stream as `str`, got `{kind}`"):
            Client().subscribe(*streams)


KEY = "a-key-of-the-tests"


class Secured(NamedTuple):
    """A service that wants a key and speaks TLS, by a certificate that only `trust` knows."""

    url: str
    trust: ssl.SSLContext

    def client(self) -> Client:
        return Client(self.url, api_key=KEY, verify=self.trust)

    def async_client(self) -> AsyncClient:
        return AsyncClient(self.url, api_key=KEY, verify=self.trust)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory, authority = tmp_path_factory.mktemp("service"), trustme.CA()
    chain = directory / "chain.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(chain)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    flags = (*LIGHT, "--ssl-certfile", str(chain))
    with running(directory, flags, FDS_API_KEY=KEY) as service:
        yield Secured(service.url, trust)


class TestRealService:
    """Over TLS and with a key, so that both are seen to reach every way in."""

    @pytest.mark.parametrize("key", [None, "b" * 16])
    def test_without_the_key(self, service: Secured, key: str | None) -> None:
        async def main() -> None:
            async with AsyncClient(service.url, api_key=key, verify=service.trust) as client:
                assert await client.alive()
                with pytest.raises(fds.UnauthorizedError):
                    await client.symbols()
                with pytest.raises(fds.UnauthorizedError):
                    await anext(aiter(client.subscribe("stats.A.1")))

        run(main)

    def test_without_the_certificate(self, service: Secured) -> None:
        message = "CERTIFICATE_VERIFY_FAILED.* in the environment: SSL_CERT_FILE=ca.pem$"
        with Client(service.url, api_key=KEY) as client:
            with pytest.raises(fds.ServiceUnavailableError, match=message):
                client.symbols()
            with pytest.raises(fds.ServiceUnavailableError, match=message):
                next(iter(client.subscribe("stats.A.1")))

        async def ingest() -> None:
            async with AsyncClient(service.url, api_key=KEY) as client:
                with pytest.raises(fds.ServiceUnavailableError, match=message):
                    async with client.ingest("A", from_sequence=0) as ingest:
                        await ingest.send(np.array([1.0]))

        run(ingest)

    def test_the_certificate_of_another_host_is_no_matter_of_trust(self, service: Secured) -> None:
        url = service.url.replace("127.0.0.1", "localhost")
        with (
            Client(url, api_key=KEY, verify=service.trust) as client,
            pytest.raises(fds.ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED") as caught,
        ):
            client.symbols()
        assert "SSL_CERT_FILE" not in str(caught.value)

    def test_tls_where_none_is_spoken_is_no_matter_of_trust(self, tmp_path: Path) -> None:
        with running(tmp_path, LIGHT) as plain:
            url = plain.url.replace("http:", "https:")
            with Client(url) as client, pytest.raises(fds.ServiceUnavailableError) as caught:
                client.symbols()
        assert "Cannot reach" in str(caught.value)
        assert "SSL_CERT_FILE" not in str(caught.value)

    def test_every_batch_is_told_and_a_delete_too(self, service: Secured) -> None:
        async def main() -> None:
            deleted = asyncio.Event()
            async with service.async_client() as client:
                await client.add_batch("BRK.A", [0.0])
                stream = stream_name("BRK.A", 2, interval_ms=0)
                sequences = []
                async with client.subscribe(stream, on_deleted=lambda _: deleted.set()) as updates:
                    async for update in updates:
                        sequences.append(update.sequence)
                        assert update.last == update.sequence - 1
                        if update.sequence == 20:
                            break
                        await client.add_batch("BRK.A", [float(update.sequence)])
                    assert sequences == list(range(1, 21))
                    await client.delete("BRK.A")
                    await client.add_batch("BRK.A", [7.0])
                    async for update in updates:
                        assert (update.sequence, update.last) == (1, 7.0)
                        assert deleted.is_set()
                        break

        run(main)

    def test_blocking(self, service: Secured) -> None:
        with service.client() as client:
            client.add_batch("BLOCK", [1.0, 2.0])
            for update in client.subscribe("stats.BLOCK.1"):
                assert (update.sequence, update.avg, update.is_snapshot) == (2, 1.5, True)
                break
            with client.subscribe("stats.BLOCK.1@0ms", "stats.BLOCK.2") as updates:
                for update in updates:
                    if update.k == 1:
                        break
                client.add_batch("BLOCK", [3.0])
                for update in updates:
                    if (update.k, update.sequence) == (1, 3):
                        break
            with pytest.raises(fds.ServiceError, match="Window size exponent"):
                next(iter(client.subscribe("stats.BLOCK.9")))

    def test_intervals_and_ends_of_streams_are_as_the_service_has_them(
        self, service: Secured
    ) -> None:
        async def main() -> None:
            slow, fast = "stats.INTERVAL.1@9999ms", "stats.INTERVAL.1@0ms"
            async with (
                service.async_client() as client,
                client.subscribe(slow) as updates,
            ):
                await client.add_batch("MARK", [5.0])
                await client.add_batch("INTERVAL", [1.0])
                await anext(aiter(updates))
                await updates.subscribe(fast)
                for expected in (2, 3):  # Soon, not in ten seconds.
                    await client.add_batch("INTERVAL", [float(expected)])
                    assert (await anext(aiter(updates))).sequence == expected
                await updates.unsubscribe("stats.INTERVAL.1")
                await updates.subscribe("stats.MARK.1@0ms")
                assert updates.streams == ["stats.MARK.1@0ms"]
                # Its snapshot says that the service has taken both commands.
                assert (await anext(aiter(updates))).symbol == "MARK"
                await client.add_batch("INTERVAL", [4.0])
                await client.add_batch("MARK", [6.0])
                assert (await anext(aiter(updates))).symbol == "MARK"

        run(main)

    def test_ingest_is_pipelined_and_arrives_whole(self, service: Secured) -> None:
        async def main() -> None:
            prices = np.cumsum(np.ones(60_000))
            async with service.async_client() as client:
                await client.add_batch("IN/1", [0.0])
                async with client.ingest("IN/1") as ingest:
                    await ingest.send(prices[:25_000])  # More than the service takes at once.
                    assert await ingest.flush() == Receipt("IN/1", 25_000, 25_001)
                    for begin in range(25_000, 60_000, 100):
                        await ingest.send(prices[begin : begin + 100].tolist())
                assert ingest.receipt == Receipt("IN/1", 60_000, 60_001)
                assert (await client.values("IN/1", 60_000)).tobytes() == prices.tobytes()
                async with client.ingest("IN/1", from_sequence=1) as ingest:
                    await ingest.send(prices)
                assert ingest.receipt == Receipt("IN/1", 0, 60_001)

        run(main)

    def test_ingest_tells_of_a_conflict(self, service: Secured) -> None:
        async def main() -> None:
            async with service.async_client() as client:
                await client.add_batch("IN2", [1.0, 2.0])
                with pytest.raises(fds.SequenceConflictError) as info:
                    async with client.ingest("IN2", from_sequence=1) as ingest:
                        await ingest.send([5.0])
                assert info.value.sequence == 2
                with pytest.raises(fds.InvalidBatchError):
                    async with client.ingest("IN2") as ingest:
                        await ingest.send([float("nan")])

        run(main)


@pytest.mark.deep
def test_a_service_killed_under_a_stream_and_its_listener(tmp_path: Path) -> None:
    """``kill -9`` and a new start: streamed prices are stored once, updates go on, none go back."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    flags = ["--port", port, "--largest-window", "100000", "--data-dir", str(tmp_path / "prices")]
    prices = np.cumsum(np.random.default_rng(5).normal(size=40_000)) + 1e4
    ended = threading.Event()

    def kill_and_restart(first: Service) -> None:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        with started(tmp_path, flags):
            assert ended.wait(SECONDS_MAX)

    async def listen(client: AsyncClient, lost: list[str]) -> list[int]:
        sequences = []
        async for update in client.subscribe("stats.K.3@0ms", on_lost=lost.append):
            sequences.append(update.sequence)
            if update.sequence == prices.size:
                break
        return sequences

    async def main(first: Service) -> None:
        lost: list[str] = []
        killer: asyncio.Future[None] | None = None
        async with AsyncClient(first.url, retries=PATIENT) as client:
            listener = asyncio.create_task(listen(client, lost))
            async with client.ingest("K") as ingest:
                for begin in range(0, prices.size, 100):
                    await ingest.send(prices[begin : begin + 100])
                    if begin == 20_000:
                        killer = asyncio.ensure_future(asyncio.to_thread(kill_and_restart, first))
            assert ingest.receipt.sequence == prices.size
            sequences = await listener
            assert sequences == sorted(set(sequences))
            assert lost
            assert (await client.values("K", prices.size)).tobytes() == prices.tobytes()
        ended.set()
        assert killer is not None
        await killer

    with started(tmp_path, flags) as first:
        try:
            asyncio.run(asyncio.wait_for(main(first), 60))
        finally:
            ended.set()
