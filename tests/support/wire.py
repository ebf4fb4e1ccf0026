"""The protocol of the server at the end of a wire that the test holds: no sockets, no clock.

What the test sends is one read of the server; what comes back is there once the event loop has
nothing left to do. The ``date`` of replies stands still until the test changes it.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import uvicorn
from uvicorn.server import ServerState

from financial_data_service.server.app import Service, create_app
from financial_data_service.server.connection.fast_lane import FastLaneProtocol
from financial_data_service.server.connection.head_cache import FastLane
from financial_data_service.server.connection.http_protocol import LimitedHttpProtocol
from financial_data_service.server.processes.uvicorn_setup import http_protocol_for
from financial_data_service.settings import Settings

SETTLED_SECONDS_MAX = 20.0  # a test that hangs fails with it


class FakeTransport(asyncio.Transport):
    """Keeps what is written; can be asked whether it was closed."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 2)})
        self.written = bytearray()
        self.unsent_bytes = 0
        self.reads = True
        self._closing = False

    def write(self, data: Any) -> None:
        assert not self._closing, f"written after the end: {data!r}"
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass  # Nothing waits here.

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


class WireConnection:
    """One connection, from its two sides."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.transport = FakeTransport()
        self.protocol = wire.protocol(wire.config, wire.state, {}, wire.loop)
        self.protocol.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        """Let the server read these bytes at once; nothing else happens yet."""
        self.protocol.data_received(data)

    def receive(self) -> bytes:
        """Return all that the server has to say."""
        self._wire.settle(self.protocol)
        said = bytes(self.transport.written)
        self.transport.written.clear()
        return said

    def ask(self, data: bytes) -> bytes:
        """Send bytes, and return all that the server says to them."""
        self.send(data)
        return self.receive()

    @property
    def is_closed(self) -> bool:
        return self.transport.is_closing()


class Wire:
    """A server, its application and an event loop, from ``with`` to its end."""

    def __init__(self, *, fast_lane: bool = True, **settings: Any) -> None:
        values = {"largest_window": 1000, **settings}
        self.settings = Settings(fast_lane=fast_lane, **values)
        self.app = create_app(self.settings)
        self.service: Service = self.app.state.service
        self.manager = self.service.manager
        self.protocol = http_protocol_for(self.service)
        assert issubclass(self.protocol, FastLaneProtocol) == fast_lane
        self.config = uvicorn.Config(
            self.app,
            lifespan="off",
            ws="none",
            log_config=None,
            root_path=self.settings.root_path,
        )
        self.state = ServerState()
        self.set_date(b"now")

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self.loop = self._runner.get_loop()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.close()
        self.manager.close()

    @property
    def lane(self) -> FastLane:
        """What the connections of the fast lane share."""
        assert issubclass(self.protocol, FastLaneProtocol)
        return self.protocol.lane

    def connect(self) -> WireConnection:
        """Return a new connection."""
        return WireConnection(self)

    def set_date(self, text: bytes) -> None:
        """Begin another second, as uvicorn does."""
        self.state.default_headers = [(b"date", text), (b"server", b"uvicorn")]

    def settle(self, connection: LimitedHttpProtocol) -> None:
        """Run the event loop until no request of a connection gets on without more of its body.

        What a handler waits for takes turns of the loop, so that one is not enough.
        """
        deadline = time.monotonic() + SETTLED_SECONDS_MAX
        self.loop.run_until_complete(asyncio.sleep(0))
        while _is_busy(connection):
            assert time.monotonic() < deadline
            self.loop.run_until_complete(asyncio.sleep(0))


def _is_busy(connection: LimitedHttpProtocol) -> bool:
    if connection.flow.write_paused or connection.transport.is_closing():
        return False
    cycles = [connection.cycle, *(cycle for cycle, _ in connection.pipeline)]
    # An event of asyncio keeps those who wait for it.
    return any(
        cycle is not None and not cycle.response_complete and not cycle.message_event._waiters
        for cycle in cycles
    )
