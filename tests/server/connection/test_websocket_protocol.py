"""The WebSocket protocol without sockets: time limits, slow clients, the end.

The test sets the time, and how many of the written bytes are unsent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.frames import Opcode

from financial_data_service.server.connection import websocket_protocol as protocol_module
from financial_data_service.server.connection.http_protocol import sweep
from financial_data_service.server.connection.websocket_protocol import (
    STALLED_SECONDS_MAX,
    UNSENT_BYTES_MAX,
    WebSocketProtocol,
)
from support.stream_client import frame, handshake
from support.wire import FakeTransport


class SlowTransport(FakeTransport):
    """Lets the test say what is unsent, and tells whether the connection was closed or cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 0
        self.is_aborted = self.has_ended = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    def write(self, data: Any) -> None:
        assert not self.has_ended, data
        super().write(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limit = high or 0

    def abort(self) -> None:
        self.is_aborted = True
        super().abort()


class Line:
    """A connection, its application, and what it was told."""

    def __init__(self, *, accept: bool = True) -> None:
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.told: list[Any] = []
        self._accept = accept
        self.replies: asyncio.Queue[Any] = asyncio.Queue()
        config = uvicorn.Config(
            self._app, interface="asgi3", lifespan="off", ws=WebSocketProtocol, log_config=None
        )
        self.state = ServerState()
        self.transport = SlowTransport()
        self.protocol = WebSocketProtocol(config, self.state, {}, self.loop)
        self.protocol.connection_made(self.transport)
        self.send(handshake("/stream"))

    async def _app(self, _scope: Any, receive: Any, send: Any) -> None:
        self.told.append((await receive())["type"])
        if self._accept:
            await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.told.append(message["text"])
            await send({"type": "websocket.send", "text": message["text"]})
        self.told.append((message["type"], message["code"]))

    def send(self, data: bytes) -> None:
        self.protocol.data_received(data)
        self.turn()

    def turn(self) -> None:
        for _ in range(10):
            self.loop.run_until_complete(asyncio.sleep(0))

    def sweep(self, seconds: float) -> None:
        sweep(self.state.connections, self.loop.time() + seconds)
        self.turn()

    def close(self) -> None:
        if self.protocol in self.state.connections:
            self.protocol.connection_lost(None)
        self.turn()
        self.runner.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def close_frame(code: int, reason: bytes) -> bytes:
    return bytes([0x88, 2 + len(reason)]) + code.to_bytes(2, "big") + reason


def test_a_quiet_connection_is_left_alone(line: Line) -> None:
    assert line.transport.written.startswith(b"HTTP/1.1 101 ")
    assert line.transport.limit == UNSENT_BYTES_MAX
    for seconds in (100.0, 1000.0, 10_000.0):
        line.sweep(seconds)
    assert not line.transport.is_closing()
    line.send(frame(Opcode.TEXT, b"hello"))
    assert line.transport.written.endswith(b"\x81\x05hello")


def test_a_client_that_takes_nothing_is_told_and_cut_off(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_module, "CUT_OFF_SECONDS", 0.01)
    line.sweep(0.0)
    line.transport.unsent_bytes = 50_000
    line.protocol.pause_writing()
    line.send(frame(Opcode.TEXT, b"waits"))
    assert not line.transport.written.endswith(b"waits")
    line.sweep(1.0)
    line.sweep(STALLED_SECONDS_MAX - 0.1)
    line.transport.unsent_bytes = 49_999  # It takes a little.
    line.sweep(STALLED_SECONDS_MAX)
    line.sweep(2 * STALLED_SECONDS_MAX - 0.1)
    assert not line.transport.is_closing()
    line.sweep(2 * STALLED_SECONDS_MAX + 0.1)
    assert line.transport.written.endswith(close_frame(1013, b"took nothing for too long"))
    assert line.transport.is_closing()
    assert not line.transport.is_aborted
    # The application has heard of it, be it by what it sends.
    assert line.told[-1] == "waits"
    line.loop.run_until_complete(asyncio.sleep(0.02))
    assert line.transport.is_aborted


@pytest.mark.parametrize("seconds_before", [0.0, 20.0])
def test_a_young_connection_has_as_long_as_any_other(seconds_before: float) -> None:
    """Though the first sweep finds it unwritable, and its handshake took its time."""
    line = Line(accept=False)
    line.sweep(seconds_before)
    line.loop.run_until_complete(line.protocol.send({"type": "websocket.accept"}))
    line.transport.unsent_bytes = 50_000
    line.protocol.pause_writing()
    line.sweep(seconds_before + 1.0)
    line.sweep(seconds_before + STALLED_SECONDS_MAX - 0.1)
    assert not line.transport.is_closing()
    line.sweep(seconds_before + STALLED_SECONDS_MAX + 1.1)
    assert line.transport.written.endswith(close_frame(1013, b"took nothing for too long"))
    line.close()


def test_pings_of_a_client_that_takes_nothing_have_one_answer(line: Line) -> None:
    line.send(frame(Opcode.PING, b"0") + frame(Opcode.PING, b"1"))
    assert line.transport.written.endswith(b"\x8a\x010\x8a\x011")
    before = len(line.transport.written)
    line.protocol.pause_writing()
    for number in range(1000):
        line.send(frame(Opcode.PING, b"%d" % number) * 3)
    assert len(line.transport.written) == before
    line.protocol.resume_writing()
    assert line.transport.written[before:] == b"\x8a\x03999"
    line.protocol.pause_writing()
    line.protocol.resume_writing()
    assert line.transport.written[before:] == b"\x8a\x03999"


def test_a_farewell_behind_pings_is_answered(line: Line) -> None:
    line.protocol.pause_writing()
    line.send(frame(Opcode.PING, b"0"))
    line.send(frame(Opcode.PING, b"1") + frame(Opcode.CLOSE, b"\x03\xe8"))
    assert line.transport.written.endswith(close_frame(1000, b""))
    assert line.transport.is_closing()
    line.protocol.resume_writing()


def test_a_client_that_breaks_the_protocol_is_heard_to_the_end(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_module, "CUT_OFF_SECONDS", 0.01)
    line.send(frame(Opcode.TEXT, b"whole"))
    line.protocol.pause_writing()
    line.send(frame(Opcode.TEXT, b"waits"))
    line.send(b"\x81\x02{}")  # not masked
    assert line.transport.written.endswith(close_frame(1002, b"incorrect masking"))
    # The application has heard of it by what it sends.
    assert line.told[1:] == ["whole", "waits"]
    assert not line.state.tasks
    # It is reset if it is not read on; what it says now is dropped, and not answered.
    said = len(line.transport.written)
    line.send(frame(Opcode.PING, b"1") + frame(Opcode.TEXT, b"more"))
    line.send(b"\xff" * 100)
    assert line.transport.has_ended
    assert not line.transport.is_closing()
    assert len(line.transport.written) == said
    line.loop.run_until_complete(asyncio.sleep(0.02))
    assert line.transport.is_aborted
    assert len(line.told) == 3


def test_text_that_is_none_is_heard_to_the_end(line: Line) -> None:
    line.send(frame(Opcode.TEXT, b"\xff"))
    assert line.transport.written.endswith(close_frame(1007, b""))
    said = len(line.transport.written)
    line.send(frame(Opcode.PING, b"1") + frame(Opcode.TEXT, b"more"))
    assert not line.transport.is_closing()
    line.send(frame(Opcode.CLOSE, b"\x03\xef"))
    assert line.transport.is_closing()
    assert len(line.transport.written) == said
    assert line.told[1:] == [("websocket.disconnect", 1007)]


def test_what_breaks_the_protocol_before_there_is_an_answer() -> None:
    line = Line(accept=False)
    fresh = WebSocketProtocol(line.protocol.config, line.state, {}, line.loop)
    transport = SlowTransport()
    fresh.connection_made(transport)
    fresh.data_received(handshake("/stream") + b"\x81\x02{}")
    assert transport.is_closing()
    assert not transport.written
    fresh.connection_lost(None)
    line.close()


def test_a_client_that_was_told_to_go_and_takes_nothing(line: Line) -> None:
    line.protocol.close_sent = True
    line.transport.unsent_bytes = 50_000
    line.protocol.pause_writing()
    line.sweep(1.0)
    line.sweep(3 * STALLED_SECONDS_MAX)
    assert line.transport.is_aborted


def test_the_server_goes_away(line: Line) -> None:
    line.protocol.shutdown()
    assert line.transport.written.endswith(close_frame(1001, b"the server stops"))
    assert line.transport.is_closing()
    line.turn()
    assert line.told == ["websocket.connect", ("websocket.disconnect", 1001)]
    line.protocol.shutdown()


def test_a_handshake_that_nobody_answers_is_cut_off() -> None:
    line = Line(accept=False)
    line.sweep(29.0)
    assert not line.transport.is_closing()
    line.sweep(31.0)
    assert line.transport.is_aborted
    line.close()


@pytest.mark.parametrize("headers", [200, 129])
def test_a_handshake_of_too_many_headers_is_answered(headers: int) -> None:
    line = Line()
    fresh = WebSocketProtocol(line.protocol.config, line.state, {}, line.loop)
    transport = SlowTransport()
    fresh.connection_made(transport)
    fresh.data_received(handshake("/stream", *(f"X-{i}: x" for i in range(headers))))
    assert transport.written.startswith(b"HTTP/1.1 431 ")
    assert transport.written.endswith(b'8 KiB each"}')
    assert transport.is_closing()
    fresh.connection_lost(None)
    line.close()
