"""Protection of connections that uvicorn's httptools protocol lacks: limits on heads and on time.

A head that does not end, or a request that trickles in, would hold a connection for ever. Here a
head has a largest size (431) and a request a time in which it must have arrived (408). Time is
checked by a sweep over all connections once a second, so that no request pays for a timer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_BYTES_MAX", "GuardedProtocol", "sweep"]

HEAD_BYTES_MAX = 65536
"""Request line and headers at most, in bytes beyond what one read may hold; the limit of most
servers lies between 8 and 64 KiB."""

_REFUSAL = (
    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    "connection: close\r\n\r\n{body}"
)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits on the size of a head and the arrival of a request.

    Attributes
    ----------
    arrival_seconds_max : float
        Time from a request's first byte to its last, at most.
    idle_seconds_max : float
        Time that a connection may be open without a request, at most.
    """

    arrival_seconds_max: float = 30.0
    idle_seconds_max: float = 75.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving_since: float | None = None
        self._in_head = False
        self._head_bytes = 0
        self._idle_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and refuse a head that has become too large."""
        was_in_head = self._in_head
        super().data_received(data)
        # Only a read that began and ended inside a head belongs to it as a whole.
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.refuse(
                    "431 Request Header Fields Too Large",
                    f"Expected a request head of {HEAD_BYTES_MAX} bytes at most",
                )

    def on_message_begin(self) -> None:
        """Note when a request began to arrive."""
        super().on_message_begin()
        self._arriving_since = self.loop.time()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the request has arrived."""
        self._arriving_since = None
        self._idle_since = self.loop.time()
        super().on_message_complete()

    def is_between_requests(self) -> bool:
        """Tell whether every request so far has arrived and been answered."""
        return (
            self._arriving_since is None
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
        if self._arriving_since is not None:
            if now - self._arriving_since > self.arrival_seconds_max:
                self.refuse(
                    "408 Request Timeout",
                    f"Expected the whole request within {self.arrival_seconds_max:g} seconds",
                )
        elif now - self._idle_since > self.idle_seconds_max and self.is_between_requests():
            self.transport.close()

    def refuse(self, status: str, detail: str) -> None:
        """Answer with an error of the protocol and close the connection."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = '{"detail":"' + detail + '"}'
            reply = _REFUSAL.format(status=status, length=len(body), body=body)
            self.transport.write(reply.encode("ascii"))
        self.transport.close()


def sweep(connections: Iterable[object], now: float) -> None:
    """Check the time of every connection. O(n)."""
    for connection in list(connections):
        if isinstance(connection, GuardedProtocol):
            connection.check_time(now)
