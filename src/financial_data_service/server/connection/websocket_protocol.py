"""uvicorn's WebSocket protocol with close codes that tell the reason, and limits for slow clients.

What differs from uvicorn:

* A server that stops closes with 1001, not 1012 ("restart"), and does not wait for clients that
  read nothing.
* A client that reads nothing for 10 s is closed with 1013. If it does not read the close frame
  within 2 s, the socket is reset.
* Little waits in the kernel to be sent: updates that are there can no longer be conflated.
* A client that does not read gets one pong, for its newest ping. So pongs do not accumulate.
* A handshake that cannot be parsed is answered 431. uvicorn leaves the client waiting.
* Text that is not UTF-8 closes the connection (1007) without a traceback in the log.
* If a client violates the protocol and keeps sending, the socket is not reset. So the client can
  read the close frame.
* Connections are logged by the access log only. uvicorn logs each one, with the query that may hold
  an API key.

Messages are not compressed (``permessage-deflate``). An update has some 250 bytes. Without context
takeover, compression saves little. With it, each client takes 100 KiB. Both take longer than all
other work for an update, because an update is encoded once for all clients.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any

from financial_data_service.server.connection.internals import (
    ClientDisconnected,
    State,
    WebSocketsSansIOProtocol,
)
from financial_data_service.server.stream.lifecycle import CloseCode

__all__ = [
    "CUT_OFF_SECONDS",
    "PING_INTERVAL_SECONDS",
    "PING_TIMEOUT_SECONDS",
    "STALLED_SECONDS_MAX",
    "UNSENT_BYTES_MAX",
    "WebSocketProtocol",
    "keep_unsent_small",
]

PING_INTERVAL_SECONDS = 20.0  # Proxies commonly close connections that are silent for 60 s.
PING_TIMEOUT_SECONDS = 20.0

STALLED_SECONDS_MAX = 10.0
"""How long a client may read nothing.

It is shorter than the ping timeout. So a slow client gets the close code for slow clients, and not
the one for a lost connection.
"""

CUT_OFF_SECONDS = 2.0
"""How long a client has to read what is on its way, the close frame included, before its socket is
reset. Shorter than the time that requests have to finish when the server stops."""

UNSENT_BYTES_MAX = 16384
"""Unsent bytes allowed in the server before updates are conflated.

The kernel may hold as many again. This is about 60 updates.
"""

_NOT_A_HANDSHAKE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)
_NOT_A_HANDSHAKE_DETAIL = (
    b'{"detail":"Expected a handshake of at most 128 headers of 8 KiB each"}'  # websockets' limits
)

# The access log already records connections, so uvicorn's log lines for them are dropped. A filter
# does this, because uvicorn overwrites the levels of its child loggers when it configures logging.
_quiet = logging.getLogger("uvicorn.error.websocket")
_quiet.addFilter(lambda record: record.levelno >= logging.WARNING)


def keep_unsent_small(transport: asyncio.WriteTransport) -> None:
    """Limit what waits to be sent, here and in the kernel, where it can no longer be conflated."""
    transport.set_write_buffer_limits(UNSENT_BYTES_MAX)
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    connection = transport.get_extra_info("socket")
    if option is not None and connection is not None:
        with suppress(OSError):  # Not every kind of socket has it.
            connection.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES_MAX)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """The protocol of a connection from its handshake on.

    Attributes
    ----------
    stalled_seconds_max : float
        How long a client may read nothing.
    handshake_seconds_max : float
        How long the application may take to answer the handshake.
    """

    stalled_seconds_max: float = STALLED_SECONDS_MAX
    handshake_seconds_max: float = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = _quiet
        self._fail = self.conn.fail
        self.conn.fail = self._on_failure  # type: ignore[method-assign]
        self._made_at = self.loop.time()
        self._unsent_bytes = 0  # at the last sweep
        self._unsent_since = self._made_at
        self._pong = b""  # the answer to the newest ping, while the client reads nothing
        self._has_failed = False  # The client broke the protocol; the close frame is sent.

    def _on_failure(self, code: int, reason: str = "") -> None:
        """Close a connection that broke the protocol.

        websockets' reason for a message that is too large names the limit of this connection. That
        is not the limit of the route, which is lower, so the number is left out.
        """
        self._fail(code, "the message is too large" if code == CloseCode.TOO_LARGE else reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin as uvicorn does, with a limit on what waits to be sent."""
        super().connection_made(transport)
        keep_unsent_small(self.transport)

    def data_received(self, data: bytes) -> None:
        """Read frames; refuse a handshake that cannot be parsed."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            detail = _NOT_A_HANDSHAKE_DETAIL
            self.transport.write(_NOT_A_HANDSHAKE % (len(detail), detail))
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        """Hand a message to the application; close with 1007 when its text is not UTF-8."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(CloseCode.UNFIT_DATA)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Close a connection that broke the protocol so that the client can read why.

        Closing a socket with unread data resets the connection, and the close frame is lost. So
        only the sending side is closed. What still comes is read and dropped until the client
        closes the other side, for ``CUT_OFF_SECONDS`` at most.
        """
        if self.close_sent:
            return
        if (close := self.conn.close_sent) is None:  # It broke before the handshake was answered.
            self.transport.close()
            return
        self.stop_keepalive()
        self._has_failed = self.close_sent = True
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CUT_OFF_SECONDS, self.transport.abort)
        self.writable.set()  # Wakes up what waits to send.

    def handle_ping(self) -> None:
        """Answer a ping.

        While the client does not read, pings are not answered. When it reads again, only the newest
        ping is answered.

        A pong answers all earlier pings as well (RFC 6455, 5.5.3). After a close there is none.
        """
        if self.close_sent:
            self.conn.data_to_send()
        elif self.writable.is_set() or self.conn.state is not State.OPEN:
            super().handle_ping()
        elif pongs := self.conn.data_to_send():
            self._pong = pongs[-1]

    def resume_writing(self) -> None:
        """Resume sending, beginning with the waiting pong."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and self.conn.state is State.OPEN and not self.transport.is_closing():
            self.transport.write(pong)

    async def send(self, message: Any) -> None:
        """Send a message of the application once the client has read enough of the earlier ones."""
        await self.writable.wait()
        if self.transport.is_closing() or self._has_failed:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # A refusal; uvicorn would take it for no answer.

    def shutdown(self) -> None:
        """Close with 1001, and reset the socket after ``CUT_OFF_SECONDS`` at most."""
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent:
            self._say_goodbye(CloseCode.GOING_AWAY, "the server stops")
        else:
            super().shutdown()
        self.loop.call_later(CUT_OFF_SECONDS, self.transport.abort)

    def check_time(self, now: float) -> None:
        """Disconnect a client that reads nothing, and a handshake without an answer.

        Parameters
        ----------
        now : float
            The event loop's time, in seconds.
        """
        if not self.handshake_complete:
            if now - self._made_at > self.handshake_seconds_max:
                self.transport.abort()
            self._unsent_since = now  # There is nothing to read before the handshake is answered.
            return
        unsent_bytes = self.transport.get_write_buffer_size()
        if self.writable.is_set() or unsent_bytes < self._unsent_bytes:
            self._unsent_since = now
        elif now - self._unsent_since > self.stalled_seconds_max:
            self._on_stalled()
        self._unsent_bytes = unsent_bytes

    def _on_stalled(self) -> None:
        if self.transport.is_closing():
            return
        self.stop_keepalive()
        if self.close_sent:
            self.transport.abort()
            return
        self._say_goodbye(CloseCode.TRY_AGAIN_LATER, "took nothing for too long")
        self.loop.call_later(CUT_OFF_SECONDS, self.transport.abort)

    def _say_goodbye(self, code: int, reason: str) -> None:
        """Close; the close frame follows what is on its way."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.conn.state is State.OPEN:
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()
        self.writable.set()  # Wakes up what waits to send.
