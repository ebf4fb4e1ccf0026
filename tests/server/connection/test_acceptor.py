"""Connections shared out among processes: who holds back, for how long, and what is never lost.

Two acceptors of one event loop stand for two workers; the counts they share are the real ones.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from financial_data_service.server.connection import acceptor as acceptor_module
from financial_data_service.server.connection.acceptor import Acceptor, WorkerLoad


class Listener(socket.socket):
    """A listener whose first calls of ``accept`` fail."""

    failures = 0

    def accept(self) -> Any:
        if Listener.failures:
            Listener.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


class Protocol(asyncio.Protocol):
    """A connection that says who has it."""

    def __init__(self, name: bytes, acceptor: Acceptor) -> None:
        self._name = name
        self._acceptor = acceptor

    def connection_made(self, transport: Any) -> None:
        transport.write(self._name)

    def connection_lost(self, exc: Exception | None) -> None:
        self._acceptor.forget()


class Workers:
    """Two acceptors, "a" and "b", that listen on one address."""

    def __init__(self) -> None:
        self.counts = WorkerLoad(2)
        listener = Listener()
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        self.address = listener.getsockname()
        self.a = Acceptor(listener, self.counts, 0)
        self.b = Acceptor(listener.dup(), self.counts, 1)

    def start(self, acceptor: Acceptor) -> None:
        name = b"a" if acceptor is self.a else b"b"
        acceptor.start(lambda: Protocol(name, acceptor), 100)

    async def connect(self) -> tuple[str, asyncio.StreamWriter]:
        """Return who has taken a new connection, and a way to end it."""
        reader, writer = await asyncio.open_connection(*self.address)
        return (await reader.readexactly(1)).decode(), writer


@asynccontextmanager
async def workers() -> AsyncIterator[Workers]:
    both = Workers()
    try:
        yield both
    finally:
        await both.a.stop()
        await both.b.stop()


def run(test: Callable[[Workers], Awaitable[None]]) -> None:
    async def main() -> None:
        async with workers() as both:
            await asyncio.wait_for(test(both), 20)

    asyncio.run(main())


def test_who_has_more_connections_than_another_holds_back() -> None:
    counts = WorkerLoad(3)
    counts.set(1, 5)
    assert counts.may_accept(1), "the others do not serve"
    counts.set(0, 4)
    assert [counts.may_accept(i) for i in (0, 1)] == [True, False]
    counts.set(0, 5)
    assert [counts.may_accept(i) for i in (0, 1)] == [True, True]
    for index, connections in enumerate((16, 18, 19)):
        counts.set(index, connections)
    assert [counts.may_accept(i) for i in range(3)] == [True, True, False]
    counts.retire(0)
    assert counts.may_accept(2)


def test_connections_are_shared_out() -> None:
    async def test(both: Workers) -> None:
        both.start(both.a)
        both.start(both.b)
        taken = [await both.connect() for _ in range(20)]
        assert 8 <= [name for name, _ in taken].count("a") <= 12
        for _, writer in taken:
            writer.close()

    run(test)


def test_who_holds_back_takes_what_no_other_does() -> None:
    """The other seems to serve and does not: stopped, stuck, or slow."""

    async def test(both: Workers) -> None:
        both.start(both.a)
        both.counts.set(1, 0)
        began = time.monotonic()
        taken = [await both.connect() for _ in range(20)]
        assert [name for name, _ in taken] == ["a"] * 20
        assert time.monotonic() - began < 5
        for _, writer in taken:
            writer.close()

    run(test)


def test_an_end_of_a_connection_is_counted_once() -> None:
    async def test(both: Workers) -> None:
        both.start(both.a)
        for _ in range(3):
            taken = [await both.connect() for _ in range(3)]
            both.counts.set(1, 2)
            assert not both.counts.may_accept(0)
            for _, writer in taken:
                writer.close()
            both.counts.set(1, 0)
            while not both.counts.may_accept(0):  # noqa: ASYNC110  # Memory tells of no change.
                await asyncio.sleep(0.001)
            both.counts.retire(1)

    run(test)


def test_a_process_out_of_descriptors_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor_module, "EXHAUSTED_SECONDS", 0.01)
    Listener.failures = 2

    async def test(both: Workers) -> None:
        both.start(both.a)
        name, writer = await both.connect()
        assert name == "a"
        writer.close()

    run(test)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["Cannot accept connections for now: Too many open files"] * 2


def test_what_was_accepted_is_connected_before_the_end() -> None:
    async def test(both: Workers) -> None:
        both.start(both.a)
        both.start(both.b)
        connecting = [asyncio.ensure_future(both.connect()) for _ in range(10)]
        await asyncio.sleep(0)
        await both.a.stop()
        # Whatever "a" had not accepted by then is there for "b".
        taken = [await each for each in connecting]
        taken.append(await both.connect())
        assert taken[-1][0] == "b"
        for _, writer in taken:
            writer.close()

    run(test)
