"""uvicorn's WebSocket protocol, mended: ends that say why, clients that take nothing, quiet logs.

* A server that stops says so (1001, not 1012 "restart"), and does not wait for clients that do not
  read.
* A client that takes nothing is told to try again later (1013), and cut off.
* What waits in the kernel to be sent is kept small: there it could no longer be conflated.
* Pings of a client that does not take what waits for it have one answer; they do not pile up.
* A handshake that cannot be read is answered, where uvicorn would leave the client waiting.
* Text that is no UTF-8 ends a connection (1007) without a traceback in the log.
* A client that breaks the protocol while it still sends gets to read why, not a reset.
* uvicorn logs each connection, with the query that may hold a key; here that is left to the access
  log.

Messages are not compressed (``permessage-deflate``): updates are some 250 bytes, of which a
compressor that begins anew saves little, one that remembers takes 100 KiB a client, and either
takes longer than all else that is done for an update, which is encoded once for all clients.
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

PING_INTERVAL_SECONDS = 20.0  # proxies commonly end what is silent for 60
PING_TIMEOUT_SECONDS = 20.0

STALLED_SECONDS_MAX = 10.0
"""How long a client may take nothing of what waits for it. Shorter than the time in which a ping
must be answered: the client hears that it was slow, and not that it was gone."""

CUT_OFF_SECONDS = 2.0
"""How long a client that was told to go has to take what is on its way to it, the word itself
included. Shorter than requests have to finish when the server stops."""

UNSENT_BYTES_MAX = 16384
"""What may wait in the server, and again in the kernel, before updates are conflated: some 60."""

_NOT_A_HANDSHAKE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)
_NOT_A_HANDSHAKE_DETAIL = (
    b'{"detail":"Expected a handshake of at most 128 headers of 8 KiB each"}'  # websockets' limits
)

# Connections that come and go are told by the access log, if at all. A filter, because uvicorn sets
# the levels of loggers below its own when it sets up its log.
_quiet = logging.getLogger("uvicorn.error.websocket")
_quiet.addFilter(lambda record: record.levelno >= logging.WARNING)


def keep_unsent_small(transport: asyncio.WriteTransport) -> None:
    """Have little wait to be sent, here and in the kernel: there it can no longer be conflated."""
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
        How long a client may take nothing.
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
        self._pong = b""  # the answer to the newest ping, while the client takes nothing
        self._has_failed = False  # The client broke the protocol, and has been told so.

    def _on_failure(self, code: int, reason: str = "") -> None:
        """End a connection that broke the protocol.

        What is too large to be taken in is larger than what its route allows: a number here would
        not be the limit that the client has to keep.
        """
        self._fail(code, "the message is too large" if code == CloseCode.TOO_LARGE else reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, and keep what waits to be sent small."""
        super().connection_made(transport)
        keep_unsent_small(self.transport)

    def data_received(self, data: bytes) -> None:
        """Take in frames; refuse a handshake that cannot be read."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            detail = _NOT_A_HANDSHAKE_DETAIL
            self.transport.write(_NOT_A_HANDSHAKE % (len(detail), detail))
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        """Hand a message over; text that is none is the client's error, not one to be logged."""
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
        """End a connection that broke the protocol, and let the client read why.

        To close a socket while there is more to be read from it resets the connection, and what
        was said last is lost. So only this side of it is closed, and whatever still comes is read
        and dropped until the client has closed the other, or its time is over.
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
        self.writable.set()  # Whoever waits to send learns of the end.

    def handle_ping(self) -> None:
        """Answer pings; the newest alone, and later, where the client does not take the answers.

        The answer to a ping answers those before it as well (RFC 6455, 5.5.3). After a close there
        is none.
        """
        if self.close_sent:
            self.conn.data_to_send()
        elif self.writable.is_set() or self.conn.state is not State.OPEN:
            super().handle_ping()
        elif pongs := self.conn.data_to_send():
            self._pong = pongs[-1]

    def resume_writing(self) -> None:
        """Send on, beginning with the answer to a ping."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and self.conn.state is State.OPEN and not self.transport.is_closing():
            self.transport.write(pong)

    async def send(self, message: Any) -> None:
        """Send what the application says, once the client has taken enough of what was said."""
        await self.writable.wait()
        if self.transport.is_closing() or self._has_failed:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # Refused, which uvicorn would take for unanswered.

    def shutdown(self) -> None:
        """Tell the client that the server goes away, and wait no longer than a moment for it."""
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent:
            self._say_goodbye(CloseCode.GOING_AWAY, "the server stops")
        else:
            super().shutdown()
        self.loop.call_later(CUT_OFF_SECONDS, self.transport.abort)

    def check_time(self, now: float) -> None:
        """Cut off a client that takes nothing, and a handshake that nobody answers.

        Parameters
        ----------
        now : float
            The event loop's time, in seconds.
        """
        if not self.handshake_complete:
            if now - self._made_at > self.handshake_seconds_max:
                self.transport.abort()
            self._unsent_since = now  # A client can take nothing before there is anything.
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
        """Close at once, behind what is on its way."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.conn.state is State.OPEN:
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()
        # Whoever waits to send learns of the end.
        self.writable.set()
