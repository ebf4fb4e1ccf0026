"""Subscriptions and streamed batches: nothing comes twice, nothing goes back, nothing is lost.

What is news is tested without a socket, by tables and by Hypothesis. A server of a few lines does
what the real one cannot be asked to: break off between two messages, close with each code, refuse a
handshake, answer half of what was sent. The real service is asked at the end, and killed once.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

import financial_data_service as fds
from financial_data_service import AsyncClient, Client
from financial_data_service.client import Receipt, Retries, Update, stream_name
from financial_data_service.client.ingest import Frames
from financial_data_service.client.stream_state import StreamState, closing_error
from financial_data_service.client.subscription import AsyncSubscription, asked_pause
from support.service_process import LIGHT, Service, running, started

QUICK = Retries(count=50, seconds=20, pause_seconds=0.001, pause_seconds_max=0.05)
# A service takes seconds to start on a busy machine; the test need not add waits of its own.
PATIENT = Retries(count=10_000, seconds=60, pause_seconds_max=0.2)
SECONDS_MAX = 30.0

Handler = Callable[[ServerConnection], Awaitable[None]]


def told(sequence: int, event: str = "update", symbol: str = "A", k: int = 3) -> str:
    numbers = dict.fromkeys(("min", "max", "last", "avg"), 1.5)
    message = {"stream": stream_name(symbol, k), "symbol": symbol, "k": k, "window": 10**k}
    rest = {"var": 0.0, "values": sequence, "sequence": sequence, "event": event}
    return json.dumps(message | numbers | rest)


def gone(symbol: str = "A", k: int = 3) -> str:
    return json.dumps({"stream": stream_name(symbol, k), "symbol": symbol, "event": "deleted"})


class TestNews:
    def state(self, *streams: str) -> StreamState:
        return StreamState(streams or ("stats.A.3",), "ws://model/stream")

    def test_a_snapshot_that_repeats_what_is_known_is_no_news(self) -> None:
        state = self.state()
        sequences = []
        for message in [
            '{"result":null,"id":1}',
            told(5, "snapshot"),
            told(6),
            told(6, "snapshot"),  # connected anew
            told(7, "snapshot"),  # and once more
            told(7),
        ]:
            update = state.receive(message).update
            sequences += [update.sequence] if update else []
        assert sequences == [5, 6, 7]

    def test_an_update_is_the_statistics_and_where_they_come_from(self) -> None:
        update = self.state().receive(told(5, "snapshot")).update
        assert update == Update("A", 3, 1000, 1.5, 1.5, 1.5, 1.5, 0.0, 5, 5, "stats.A.3", True)
        assert isinstance(update, fds.client.Stats)

    def test_windows_and_symbols_are_apart(self) -> None:
        state = self.state()
        messages = [told(5, symbol=symbol, k=k) for symbol in "AB" for k in (1, 2)]
        assert all(state.receive(message).update for message in messages)
        assert not any(state.receive(message).update for message in messages)

    def test_a_deletion_is_told_once_and_what_comes_then_is_new(self) -> None:
        state = self.state()
        state.receive(told(5))
        state.receive(told(5, k=2))
        assert state.receive(gone()).deleted == "A"
        assert state.receive(gone(k=2)).deleted is None
        assert state.receive(told(1, "snapshot")) == (state_update(1), None)

    def test_a_symbol_that_began_anew_unseen_was_deleted(self) -> None:
        state = self.state()
        state.receive(told(5))
        assert state.receive(told(3, "snapshot")) == (state_update(3), "A")

    @given(
        st.lists(
            st.tuples(st.sampled_from("AB"), st.integers(1, 2), st.integers(0, 5), st.booleans())
        )
    )
    def test_sequences_only_grow_until_a_deletion_is_told(
        self, messages: list[tuple[str, int, int, bool]]
    ) -> None:
        state = self.state()
        seen: dict[tuple[str, int], int] = {}
        for symbol, k, sequence, is_deletion in messages:
            news = state.receive(gone(symbol, k) if is_deletion else told(sequence, "", symbol, k))
            assert not news.update
            news = state.receive(told(sequence, "update", symbol, k))
            if is_deletion or news.deleted:
                seen = {key: value for key, value in seen.items() if key[0] != symbol}
            if news.update:
                assert news.update.sequence > seen.get((symbol, k), -1)
                seen[symbol, k] = news.update.sequence
            assert seen[symbol, k] == sequence  # Nothing is kept back either.

    def test_commands(self) -> None:
        state = self.state("stats.A.3", "stats.*.8@0ms", "stats.A.3")
        assert [json.loads(command) for command in state.opening()] == [
            {"method": "SUBSCRIBE", "params": ["stats.A.3", "stats.*.8@0ms"], "id": 1}
        ]
        assert json.loads(*state.subscribe(["stats.A.3", "stats.B.1"]))["params"] == ["stats.B.1"]
        assert json.loads(*state.unsubscribe(["stats.A.3", "stats.C.1"]))["params"] == ["stats.A.3"]
        assert state.streams == ["stats.*.8@0ms", "stats.B.1"]
        assert state.unsubscribe(["stats.C.1"]) == []

    def test_an_interval_is_no_part_of_a_stream(self) -> None:
        state = self.state("stats.A.3@500ms", "stats.A.3@0ms")
        assert state.streams == ["stats.A.3@0ms"]
        assert state.subscribe(["stats.A.3@0ms"]) == []
        command = json.loads(*state.subscribe(["stats.A.3", "stats.A.3@500ms"]))
        assert (command["method"], command["params"]) == ("SUBSCRIBE", ["stats.A.3@500ms"])
        assert state.streams == ["stats.A.3@500ms"]
        command = json.loads(*state.unsubscribe(["stats.A.3", "stats.A.3@0ms"]))
        assert (command["method"], command["params"]) == ("UNSUBSCRIBE", ["stats.A.3@500ms"])
        assert state.streams == []

    def test_a_symbol_is_the_same_however_it_is_encoded(self) -> None:
        state = self.state("stats.BRK%2eA.3@0ms", "stats.*.3", "stats.%2A.3")
        state.receive(told(5, symbol="BRK.A"))
        assert state.subscribe(["stats.%42RK%2EA.3"])
        assert state.unsubscribe(["stats.BRK%2EA.3"])
        assert state.receive(told(5, symbol="BRK.A")).update
        assert state.streams == ["stats.*.3", "stats.%2A.3"]

    def test_what_is_subscribed_to_again_begins_with_its_snapshot(self) -> None:
        state = self.state("stats.A.3@0ms", "stats.*.2")
        state.receive(told(5))
        state.receive(told(5, k=2))
        state.unsubscribe(["stats.A.3@0ms"])
        assert state.receive(told(5, "snapshot")).update
        assert not state.receive(told(5, "snapshot", k=2)).update

    def test_many_streams_are_subscribed_to_in_several_messages(self) -> None:
        names = [f"stats.{'%2E' * 128}{index}.3" for index in range(150)]
        commands = self.state(*names).opening()
        assert max(map(len, commands)) < 65_536
        assert [name for command in commands for name in json.loads(command)["params"]] == names

    @pytest.mark.parametrize("message", ["", "[]", "hello", b"\xff", '{"sequence":"x"}'])
    def test_what_is_no_message_of_the_service(self, message: str | bytes) -> None:
        with pytest.raises(fds.ServiceError, match="not one of a financial-data-service"):
            self.state().receive(message)

    @pytest.mark.parametrize(
        ("code", "is_final"),
        [
            *((code, False) for code in (1000, 1001, 1006, 1011, 1012, 1013, 4429, 4503)),
            *((code, True) for code in (1003, 1007, 1008, 1009, 4401, 4409, 4422)),
        ],
    )
    def test_close_codes(self, code: int, is_final: bool) -> None:
        assert (closing_error(code, "why", "ws://model") is not None) == is_final

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (("AAPL", 3), "stats.AAPL.3"),
            (("BRK.A", 3, 0), "stats.BRK%2EA.3@0ms"),
            (("a@b*%", 1, 250), "stats.a%40b%2A%25.1@250ms"),
            ((None, 8), "stats.*.8"),
        ],
    )
    def test_names(self, arguments: Any, name: str) -> None:
        assert stream_name(*arguments) == name


def state_update(sequence: int) -> Update:
    return Update(
        "A", 3, 1000, 1.5, 1.5, 1.5, 1.5, 0.0, sequence, sequence, "stats.A.3", sequence < 5
    )


@asynccontextmanager
async def scripted(
    *handlers: Handler | int, retry_after: str | None = None
) -> AsyncIterator[tuple[str, list[ServerConnection]]]:
    """Serve each connection by the next handler, the last one from then on.

    A number is the status by which a handshake is refused, with `retry_after` if it is given.
    """
    connections: list[ServerConnection] = []
    rest = list(handlers)

    def following() -> Handler | int:
        return rest.pop(0) if len(rest) > 1 else rest[0]

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        handler = following()
        if isinstance(handler, int):
            body = json.dumps({"detail": "Expected an API key"})
            response = connection.respond(HTTPStatus(handler), body)
            if retry_after is not None:
                response.headers["Retry-After"] = retry_after
            return response
        connection.handler_of_test = handler  # type: ignore[attr-defined]
        return None

    async def handle(connection: ServerConnection) -> None:
        connections.append(connection)
        await connection.handler_of_test(connection)  # type: ignore[attr-defined]

    async with serve(handle, "127.0.0.1", 0, process_request=answer, close_timeout=1) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", connections


def telling(*messages: str, then: int | str = "wait") -> Handler:
    """Return a handler that waits for a command, tells, and closes, breaks off or waits."""

    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        for message in messages:
            await connection.send(message)
        if then == "break off":
            connection.transport.abort()
        elif isinstance(then, int):
            await connection.close(then, "why")
        else:
            await connection.wait_closed()

    return handle


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


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), SECONDS_MAX)

    asyncio.run(bounded())


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


class TestFrames:
    def frames(self, is_asked: bool = True) -> Frames:
        frames = Frames("A", 10, is_asked, "ws://model/ingest/A")
        for size in (2, 3, 1):
            frames.put(np.ones(size))
        return frames

    def test_all_is_sent_again_that_was_not_answered(self) -> None:
        frames = self.frames()
        assert [len(frames.next() or b"") for _ in range(4)] == [16, 24, 8, 0]
        frames.answered('{"sequence":12,"added":2}')
        assert frames.receipt == Receipt("A", 2, 12)
        frames.begin_anew()
        assert [len(frames.next() or b"") for _ in range(3)] == [24, 8, 0]
        frames.answered('{"sequence":16,"added":0}')  # It was stored, the answer lost.
        frames.answered('{"sequence":16,"added":1}')
        assert frames.receipt == Receipt("A", 6, 16)
        assert len(frames) == 0

    def test_the_same_prices_of_another_are_a_conflict(self) -> None:
        frames = self.frames()
        frames.next()
        with pytest.raises(fds.SequenceConflictError, match="nobody else"):
            frames.answered('{"sequence":12,"added":1}')

    def test_a_place_given_may_be_filled(self) -> None:
        frames = self.frames(is_asked=False)
        frames.next()
        frames.answered('{"sequence":16,"added":0}')
        assert frames.receipt == Receipt("A", 0, 12)

    @pytest.mark.parametrize(
        ("message", "kind"),
        [
            ('{"error":{"code":409,"msg":"they differ"},"sequence":4}', fds.SequenceConflictError),
            ('{"error":{"code":503,"msg":"no file"}}', fds.ServiceUnavailableError),
            ('{"error":{"code":422,"msg":"no price"}}', fds.ServiceError),
            ("hello", fds.ServiceError),
        ],
    )
    def test_refusals(self, message: str, kind: type[Exception]) -> None:
        with pytest.raises(kind):
            self.frames().answered(message)


class Intake:
    """The other end of a way in: it stores, and breaks off as often as it is told to.

    Parameters
    ----------
    breaks : sequence of int
        After how many frames of each connection it breaks off; of the last one its answer is lost.
    """

    def __init__(self, *breaks: int) -> None:
        self.prices: list[float] = []
        self.breaks = list(breaks)
        self.repeated = 0

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        position = int(connection.request.path.partition("from_sequence=")[2])
        frames_max = self.breaks.pop(0) if self.breaks else 10**9
        async for frame in connection:
            values = np.frombuffer(bytes(frame), "<f8").tolist()  # type: ignore[arg-type]
            known = self.prices[position : position + len(values)]
            assert position <= len(self.prices)
            assert known == values[: len(known)]
            self.prices += values[len(known) :]
            self.repeated += len(known)
            position += len(values)
            frames_max -= 1
            if frames_max <= 0:
                connection.transport.abort()
                return
            answer = {"sequence": len(self.prices), "added": len(values) - len(known)}
            await connection.send(json.dumps(answer))


class TestIngest:
    def client(self, url: str) -> AsyncClient:
        client = AsyncClient(url, retries=QUICK)
        client._session.limits = fds.client.Limits(10, 10**8, 4)
        return client

    @pytest.mark.parametrize("breaks", [(), (1,), (3, 1, 1, 7), (1, 503, 2)])
    def test_what_was_not_answered_is_sent_again_and_stored_once(
        self, breaks: tuple[int, ...]
    ) -> None:
        async def main() -> None:
            intake = Intake(*(count for count in breaks if count != 503))
            handlers = [503 if count == 503 else intake for count in breaks]
            async with scripted(*handlers, intake) as (url, connections):
                async with self.client(url).ingest("A", from_sequence=0) as ingest:
                    for begin in range(0, 100, 10):
                        await ingest.send(range(begin, begin + 10))
                    assert await ingest.flush() == ingest.receipt
                assert intake.prices == list(range(100))
                assert ingest.receipt.sequence == 100
                assert (intake.repeated > 0) == (len(connections) > 1) == bool(breaks)

        run(main)

    def test_batches_do_not_wait_for_answers(self) -> None:
        async def main() -> None:
            arrived: list[str | bytes] = []
            enough = asyncio.Event()

            async def never_answer(connection: ServerConnection) -> None:
                while True:
                    arrived.append(await connection.recv())
                    if len(arrived) == 64:
                        enough.set()

            async with scripted(never_answer) as (url, _):
                sending = asyncio.create_task(self.send_all(self.client(url)))
                await enough.wait()
                await asyncio.sleep(0.02)
                assert len(arrived) == 64  # More are not handed over without an answer.
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending

        run(main)

    async def send_all(self, client: AsyncClient) -> None:
        async with client.ingest("A", from_sequence=0) as ingest:
            await ingest.send(np.ones(400))

    def test_a_service_that_stays_away(self) -> None:
        async def main() -> None:
            intake = Intake(3)
            async with scripted(intake, 503) as (url, _):
                client = self.client(url)
                client._session.retries = Retries(count=3, pause_seconds=0.001)
                with pytest.raises(fds.ServiceUnavailableError) as info:
                    await self.send_all(client)
                assert info.value.receipt == Receipt("A", 8, 8)

        run(main)

    def test_a_refused_handshake_says_how_long_to_wait(self) -> None:
        async def main() -> None:
            async with scripted(503, Intake(), retry_after="1") as (url, _):
                started = time.monotonic()
                await self.send_all(self.client(url))
                assert time.monotonic() - started >= 1

        run(main)

    def test_outside_its_block(self) -> None:
        async def main() -> None:
            async with scripted(Intake()) as (url, _):
                ingest = self.client(url).ingest("A", from_sequence=0)
                for use in (lambda: ingest.send([1.0]), ingest.flush):
                    with pytest.raises(ValueError, match="async with client"):
                        await use()
                with pytest.raises(ValueError, match="async with client"):
                    _ = ingest.receipt
                async with ingest:
                    await ingest.send([1.0])
                assert ingest.receipt == Receipt("A", 1, 1)
                for use in (lambda: ingest.send([1.0]), ingest.flush):
                    with pytest.raises(ValueError, match="async with client"):
                        await asyncio.wait_for(use(), 5)

        run(main)

    @pytest.mark.parametrize("ending", [401, telling(then=1008), telling(then=4413)])
    def test_a_final_refusal(self, ending: Handler | int) -> None:
        async def main() -> None:
            async with scripted(ending) as (url, _):
                with pytest.raises(fds.ServiceError):
                    await self.send_all(self.client(url))

        run(main)


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
        with Client(service.url, api_key=KEY) as client:
            with pytest.raises(fds.ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                client.symbols()
            with pytest.raises(fds.ServiceUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                next(iter(client.subscribe("stats.A.1")))

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
