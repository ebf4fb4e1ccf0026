"""uvicorn's HTTP protocol with limits on the size of a head and on the time of a request.

uvicorn has no such limits. A head that never ends, or a request that arrives very slowly, would
keep its connection open forever. Here a head has a maximum size (431) and a request a maximum time
to arrive (408). The same size limits everything else around a body: empty lines, extensions of
chunks, trailers. A client that does not read its replies for that maximum time is disconnected. A
sweep over all connections checks the time once a second, so that no request pays for a timer.

`arrival` is the state machine behind this: which part of a request is arriving, which events may
follow, and when a refusal has its turn. This module connects it to uvicorn and to the parser.

What else differs from uvicorn:

* Trailers are dropped. uvicorn appends them to the headers after the request has begun.
* Nothing is read while requests wait in the pipeline. uvicorn reads on without a bound.
* A client that closes its sending side still gets its replies. uvicorn closes the connection.
* An upgrade that is not offered is ignored: the body and the requests behind it are kept
  (`upgrade`).
* A reply of unknown length to HTTP/1.0 ends with the connection. uvicorn sends chunks, which
  HTTP/1.0 does not know.
* A refusal is sent in its turn, as JSON, and counted by the metrics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import httptools

from financial_data_service.server.connection.arrival import (
    ARRIVING,
    Arrival,
    ArrivalEvent,
    ArrivalState,
    ReplyProgress,
    Turn,
    turn_of_refusal,
)
from financial_data_service.server.connection.internals import (
    FlowControl,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from financial_data_service.server.connection.upgrade import (
    asks_for_websocket,
    new_parser,
    stand_in_head,
)
from financial_data_service.server.connection.websocket_protocol import (
    WebSocketProtocol,
    keep_unsent_small,
)
from financial_data_service.server.middleware.proxy_prefix import ProxyPrefix
from financial_data_service.server.telemetry.metrics import Metrics

__all__ = ["HEAD_BYTES_MAX", "LimitedHttpProtocol", "sweep"]

HEAD_BYTES_MAX = 65536
"""Maximum size of request line and headers, and of trailers, in bytes, give or take one read. Most
servers have a limit between 8 and 64 KiB."""

_EVENTS_END = "/events"  # of the path of a reply that does not end by itself

_REFUSAL = (
    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    "connection: close\r\n\r\n{body}"
)


class _Flow(FlowControl):
    """uvicorn's flow control, which here does not resume reading while requests wait."""

    def __init__(self, transport: Any, pipeline: deque[Any]) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


def _send_without_chunks(cycle: RequestResponseCycle) -> None:
    """Let a reply without a content-length end with the connection."""
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
    """uvicorn's HTTP protocol with limits on the size of a head and the time of a request.

    Attributes
    ----------
    arrival_seconds_max : float
        Maximum time from the first byte of a request to its last; also the maximum time in which a
        client may read nothing of a reply.
    idle_seconds_max : float
        Maximum time without a request, after which the connection is closed.
    metrics : Metrics, optional
        Counts refusals. The middleware counts requests, and a refusal never reaches it.
    """

    arrival_seconds_max: float = 30.0
    idle_seconds_max: float = 75.0
    metrics: Metrics | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrival = Arrival()
        self._refusal = b""  # the reply to send in its turn; empty unless REFUSED
        # Bytes read since the last progress: the begin or end of a head, a piece of a body, the end
        # of a body. Bytes without progress are overhead, and their number is limited.
        self._overhead_bytes = 0
        # The times and counts that the sweep compares, in seconds of the event loop's clock.
        self._arriving_since = 0.0  # valid in the states of ARRIVING
        self._idle_since = self.loop.time()
        self._was_active = False  # since the last sweep
        self._unsent_bytes = 0  # at the last sweep
        self._unsent_since = 0.0

    def connection_made(self, transport: Any) -> None:
        """Begin as uvicorn does, with a flow control that knows the pipeline."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client has closed its sending side.

        Keep the connection open until all replies are sent.

        An event stream never ends. So a client that closes its sending side during one is treated
        as disconnected.
        """
        if self._arrival.state in ARRIVING or self.is_between_requests():
            return None
        if self.cycle.scope["path"].endswith(_EVENTS_END):
            return None
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and refuse a head that has become too large."""
        if self._arrival.state is ArrivalState.REFUSED:
            return
        self._unset_keepalive_if_required()
        # Every step forward within this read resets it.
        self._overhead_bytes += len(data)
        self._feed(data)
        if self._overhead_bytes > HEAD_BYTES_MAX:
            self.refuse(
                "431 Request Header Fields Too Large",
                f"Expected a request head of {HEAD_BYTES_MAX} bytes at most",
            )

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        self._arrival.on(ArrivalEvent.BEGIN)
        if self._arrival.state is ArrivalState.REPLAYING:
            return
        super().on_message_begin()
        self._arriving_since = self.loop.time()
        self._overhead_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target, except of a stand-in head."""
        if self._arrival.state is ArrivalState.HEAD:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, but neither a trailer nor a header of a stand-in head."""
        if self._arrival.state is ArrivalState.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request in uvicorn. A WebSocket handshake is not started here."""
        is_websocket = self._arrival.state is ArrivalState.HEAD and self._may_upgrade()
        self._arrival.on(ArrivalEvent.WEBSOCKET if is_websocket else ArrivalEvent.HEAD_COMPLETE)
        if self._arrival.state is ArrivalState.REPLAYING:
            return
        self._overhead_bytes = 0
        super().on_headers_complete()
        if not is_websocket and self.scope.get("http_version") == "1.0":
            _send_without_chunks(self.cycle)
        if self.scope.get("path", "").endswith(_EVENTS_END):
            keep_unsent_small(self.transport)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._overhead_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock: the whole request is here."""
        self._arrival.on(ArrivalEvent.COMPLETE)
        self._overhead_bytes = 0
        self._was_active = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the next request.

        If a refusal is waiting and the last reply is sent, send the refusal.
        """
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._refusal:
            self._send_refusal()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self.refuse("400 Bad Request", "Expected a valid HTTP request")

    def is_between_requests(self) -> bool:
        """Tell whether every request so far has arrived and been answered."""
        return (
            self._arrival.state is ArrivalState.IDLE
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
        )

    def check_time(self, now: float) -> None:
        """Refuse a request that takes too long to arrive; close an idle or a stalled connection.

        Parameters
        ----------
        now : float
            The event loop's time, in seconds.
        """
        self._check_reader(now)
        if self._arrival.state in ARRIVING:
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
        """Disconnect a client that reads nothing of its replies."""
        unsent_bytes = self.transport.get_write_buffer_size()
        # If the client reads, the number of unsent bytes changes between two sweeps, or is 0.
        if unsent_bytes == 0 or unsent_bytes != self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._unsent_since = now
        elif now - self._unsent_since > self.arrival_seconds_max:
            self.transport.abort()

    def _feed(self, data: bytes) -> None:
        """Feed the parser. If it stops after a request for an upgrade, decide and continue."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._arrival.state is ArrivalState.UPGRADING:
                    if upgrade.args[0] < len(data):
                        # Bytes after the handshake are invalid: a client must wait for the reply
                        # before it sends.
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
        # uvicorn calls this method on every parser event.
        return self._arrival.state is ArrivalState.UPGRADING

    def _may_upgrade(self) -> bool:
        """Tell whether the head asks for a WebSocket that there is, and may have it now.

        The upgrade must wait until all earlier replies are sent. Otherwise they would be mixed with
        the WebSocket frames.
        """
        return (
            asks_for_websocket(
                self.parser, ProxyPrefix(self.root_path).remove(self.url), self.headers
            )
            and super()._should_upgrade()
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
        )

    def _ignore_upgrade(self) -> bool:
        """Continue after a head whose upgrade is ignored. Return False when the body is not valid.

        The parser has called the request complete. Its handler is a task that has not run yet, so
        this can still be undone.
        """
        self.parser = new_parser(self)
        head = stand_in_head(self.headers)
        if head is None or self.cycle.response_complete:
            return True
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        self._arriving_since = self.loop.time()
        self._arrival.on(ArrivalEvent.REPLAY)
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserError:
            return False
        finally:
            self._arrival.on(ArrivalEvent.REPLAYED)
        return True

    def _refuse_invalid(self) -> None:
        message = "Invalid HTTP request received."
        self.logger.warning(message)
        self.send_400_response(message)

    def refuse(self, status: str, detail: str) -> None:
        """Answer with an error of the protocol, in its turn, and close the connection.

        Nothing more is read. See :func:`~.arrival.turn_of_refusal`.

        Parameters
        ----------
        status : str
            Code and reason, such as ``"408 Request Timeout"``.
        detail : str
            What the client reads. No character of it needs an escape in JSON.
        """
        state = self._arrival.state
        if state is ArrivalState.REFUSED or self.transport.is_closing():
            return
        self._arrival.on(ArrivalEvent.REFUSE)
        body = '{"detail":"' + detail + '"}'
        reply = _REFUSAL.format(status=status, length=len(body), body=body)
        self._refusal = reply.encode("ascii")
        if self.metrics is not None:
            self.metrics.count_refused(int(status[:3]))
        match turn_of_refusal(state, self._reply(), is_waiting=bool(self.pipeline)):
            case Turn.NOW:
                self._send_refusal()
            case Turn.REPLACES_NEWEST:
                self.pipeline.popleft()
            case Turn.NEVER:
                self.transport.close()
            case Turn.BEHIND_REPLIES:
                pass  # on_response_complete sends it.

    def _reply(self) -> ReplyProgress:
        """Return what is sent of the reply to the newest request that uvicorn knows."""
        if self.cycle is None or self.cycle.response_complete:
            return ReplyProgress.NONE_DUE
        return ReplyProgress.STARTED if self.cycle.response_started else ReplyProgress.NOT_STARTED

    def _send_refusal(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._refusal)
            self.transport.close()


def sweep(connections: Iterable[object], now: float) -> None:
    """Check the time of every connection, HTTP or WebSocket. O(n).

    Parameters
    ----------
    connections : iterable of object
        uvicorn's set of protocols; a connection that closes meanwhile leaves it.
    now : float
        The event loop's time, in seconds.
    """
    for connection in list(connections):
        if isinstance(connection, (LimitedHttpProtocol, WebSocketProtocol)):
            connection.check_time(now)
