"""Protection of connections that uvicorn's httptools protocol lacks: limits on heads and on time.

A head that does not end, or a request that trickles in, would hold a connection for ever. Here a
head has a largest size (431) and a request a time in which it must have arrived (408). The same
size limits all else around a body: empty lines, extensions of chunks, trailers. A client that does
not take its replies is cut off after the same time. Time is checked by a sweep over all connections
once a second, so that no request pays for a timer.

A refusal comes behind the replies to the requests before it, never in their stead or amidst them.

More of uvicorn's ways are mended: trailers are dropped, which it would take for headers, late. It
reads on while a pipeline of requests waits, without bound; here it does not. A client that has
finished sending still gets its replies. And an upgrade that is not offered is ignored with its body
and the requests behind it kept: Java's HTTP client asks for HTTP/2 like that with the first
request, batch or not. A reply of unknown length to HTTP/1.0, which knows no chunks, ends with the
connection.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Any

import httptools

from financial_data_service.server.connection.internals import (
    FlowControl,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from financial_data_service.server.connection.websocket_protocol import (
    WebSocketProtocol,
    keep_unsent_small,
)
from financial_data_service.server.telemetry.metrics import Metrics

__all__ = ["HEAD_BYTES_MAX", "LimitedHttpProtocol", "sweep"]

HEAD_BYTES_MAX = 65536
"""Request line and headers at most, in bytes beyond what one read may hold; so are trailers. The
limit of most servers lies between 8 and 64 KiB."""

_WEBSOCKET_PATH = re.compile(rb"/(stream|ingest/[^/?#]+)([?#]|$)")

_EVENTS_END = "/events"  # of the path of a reply that does not end by itself

_REFUSAL = (
    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    "connection: close\r\n\r\n{body}"
)


class _Flow(FlowControl):
    """Flow control that reads nothing more while requests wait for their turn."""

    def __init__(self, transport: Any, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


def _send_without_chunks(cycle: RequestResponseCycle) -> None:
    """Have a reply that does not say its length end with the connection."""
    send = cycle.send
    ends_with_connection = False

    async def send_unchunked(message: Any) -> None:
        nonlocal ends_with_connection
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", [])}
            ends_with_connection = b"content-length" not in names
            if ends_with_connection:
                cycle.chunked_encoding = False
        elif ends_with_connection:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_unchunked  # type: ignore[method-assign]


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits on the size of a head and the arrival of a request.

    Attributes
    ----------
    arrival_seconds_max : float
        Time from a request's first byte to its last, at most; so long, too, a reply may wait for
        its reader to take any of it.
    idle_seconds_max : float
        Time that a connection may be open without a request, at most.
    metrics : Metrics, optional
        What counts refusals: the middleware counts requests, and a refusal is none yet.
    """

    arrival_seconds_max: float = 30.0
    idle_seconds_max: float = 75.0
    metrics: Metrics | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving_since: float | None = None
        self._in_head = False
        self._in_body = False  # of a request that uvicorn knows; trailers belong to it
        # Read since the last step forward: a head begun or complete, a piece of a body, its end.
        self._overhead_bytes = 0
        self._idle_since = self.loop.time()
        self._was_active = False  # since the last sweep
        self._refusal: tuple[str, str] | None = None  # status and reason, once there is one
        self._is_muted = False
        self._is_upgraded = False  # the request at hand is one for a WebSocket, where there is one
        self._unsent_bytes = 0  # at the last sweep
        self._unsent_since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Take the connection, with a flow control that heeds the pipeline."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the connection for the replies that are due to a client that has done sending.

        Events have no end that it could wait for: who does not send any more has gone.
        """
        if self._arriving_since is not None or self.is_between_requests():
            return None
        if self.cycle.scope["path"].endswith(_EVENTS_END):
            return None
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and refuse a head that has become too large."""
        if self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        # A step forward within this read makes it 0 again.
        self._overhead_bytes += len(data)
        self._feed(data)
        if self._overhead_bytes > HEAD_BYTES_MAX:
            self.refuse(
                "431 Request Header Fields Too Large",
                f"Expected a request head of {HEAD_BYTES_MAX} bytes at most",
            )

    def on_message_begin(self) -> None:
        """Note when a request began to arrive."""
        if self._is_muted:
            return
        super().on_message_begin()
        self._arriving_since = self.loop.time()
        self._in_head = True
        self._overhead_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Note the target."""
        if not self._is_muted:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header, but no trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        if self._is_muted:
            return
        self._is_upgraded = self._asks_for_websocket()
        self._in_head = False
        self._in_body = True
        self._overhead_bytes = 0
        super().on_headers_complete()
        if not self._is_upgraded and self.scope.get("http_version") == "1.0":
            _send_without_chunks(self.cycle)
        if self.scope.get("path", "").endswith(_EVENTS_END):
            keep_unsent_small(self.transport)

    def on_body(self, body: bytes) -> None:
        """Note a piece of the body."""
        self._overhead_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request has arrived."""
        self._arriving_since = None
        self._in_body = False
        self._overhead_bytes = 0
        self._was_active = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or refuse what came behind the last one."""
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._refusal is not None:
            self._send_refusal()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self.refuse("400 Bad Request", "Expected a valid HTTP request")

    def is_between_requests(self) -> bool:
        """Tell whether every request so far has arrived and been answered."""
        return (
            self._arriving_since is None
            and self._refusal is None
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
        )

    def check_time(self, now: float) -> None:
        """Close the connection when a request takes too long to arrive, or none comes.

        Parameters
        ----------
        now : float
            The event loop's time, in seconds.
        """
        self._check_reader(now)
        if self._arriving_since is not None:
            if now - self._arriving_since > self.arrival_seconds_max:
                self.refuse(
                    "408 Request Timeout",
                    f"Expected the whole request within {self.arrival_seconds_max:g} seconds",
                )
        elif self._was_active:
            self._was_active = False
            self._idle_since = now
        elif now - self._idle_since > self.idle_seconds_max and self.is_between_requests():
            self.transport.close()

    def _check_reader(self, now: float) -> None:
        """Cut off a client that takes nothing of its replies."""
        unsent_bytes = self.transport.get_write_buffer_size()
        # While it reads, what is unsent changes from one sweep to the next, or is nothing.
        if unsent_bytes == 0 or unsent_bytes != self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._unsent_since = now
        elif now - self._unsent_since > self.arrival_seconds_max:
            self.transport.abort()

    def _feed(self, data: bytes) -> None:
        """Feed the parser, over the heads that ask for an upgrade."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._is_upgraded:
                    if upgrade.args[0] < len(data):
                        # A client has to wait for the answer to its handshake.
                        self._refuse_invalid()
                    else:
                        self._unset_keepalive_if_required()
                        self.handle_websocket_upgrade()
                    return
                if not self._ignore_upgrade():
                    self._refuse_invalid()
                    return
                data = data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse_invalid()
                return
            else:
                return

    def _should_upgrade(self) -> bool:
        return self._is_upgraded

    def _asks_for_websocket(self) -> bool:
        """Tell whether a head asks for a WebSocket, on a path that has one, and may have it now.

        Not while earlier requests wait for their replies: these would come amidst its frames.
        """
        return (
            self.parser.should_upgrade()
            and super()._should_upgrade()
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and _WEBSOCKET_PATH.match(self.url) is not None
            and not any(
                name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
                for name, value in self.headers
            )
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
        )

    def _ignore_upgrade(self) -> bool:
        """Go on behind a head that asked for an upgrade, where the parser took HTTP for over.

        A new parser is led to where the old one stopped by a head that says of the body what the
        request's own head says, and nothing of an upgrade. False when that is not valid.
        """
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        framing = [
            b"%b: %b\r\n" % (name, value)
            for name, value in self.headers
            if name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
        ]
        if not framing or self.cycle.response_complete:
            return True
        # The old parser had called the request complete; its handler has not run yet.
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        self._arriving_since = self.loop.time()
        self._in_body = True
        self._is_muted = True
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))
        except httptools.HttpParserError:
            return False
        finally:
            self._is_muted = False
        return True

    def _refuse_invalid(self) -> None:
        message = "Invalid HTTP request received."
        self.logger.warning(message)
        self.send_400_response(message)

    def refuse(self, status: str, detail: str) -> None:
        """Answer with an error of the protocol, in its turn, and close the connection.

        A request that has its answer already, or a part of it, gets no second one. Nothing more is
        read of the connection.
        """
        if self._refusal is not None or self.transport.is_closing():
            return
        self._refusal = status, detail
        if self.metrics is not None:
            self.metrics.count_refused(int(status[:3]))
        self._arriving_since = None
        if self._in_body:
            if self.pipeline:
                # The request that is refused waits for its turn; it is the newest.
                self.pipeline.popleft()
            elif self.cycle.response_started:
                self.transport.close()
            else:
                self._send_refusal()
        elif self.cycle is None or self.cycle.response_complete:
            self._send_refusal()

    def _send_refusal(self) -> None:
        if self._refusal is None or self.transport.is_closing():
            return
        status, detail = self._refusal
        body = '{"detail":"' + detail + '"}'
        reply = _REFUSAL.format(status=status, length=len(body), body=body)
        self.transport.write(reply.encode("ascii"))
        self.transport.close()


def sweep(connections: Iterable[object], now: float) -> None:
    """Check the time of every connection, of each kind in its way. O(n)."""
    for connection in list(connections):
        if isinstance(connection, (LimitedHttpProtocol, WebSocketProtocol)):
            connection.check_time(now)
