"""What is still to be sent to one client: replies in order, and at most one update per feed.

A feed with a change is only added to a queue. When it reaches the head of the queue, its newest
texts are collected. So the memory per client is bounded, even if the client is slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, Protocol

__all__ = ["TEXTS_MAX", "Close", "Outbox"]

TEXTS_MAX = 1024
"""Maximum number of waiting texts.

Above it, the server stops reading from the client. It limits how many replies a pipelining client
may leave unread, and covers the batches of one iteration of the event loop.
"""


class Close(NamedTuple):
    """Code and reason with which a connection is closed."""

    code: int
    reason: str


class Source(Protocol):
    """A feed whose newest texts are collected when it is its turn."""

    def collect(self) -> list[str]:
        """Return the texts to send, which may be none."""


class Outbox:
    """Texts and feeds that wait to be sent. For one event loop; one task takes texts out."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._pending: dict[Source, None] = {}  # in the order of their notifications
        self._close: Close | None = None
        self._is_abandoned = False
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def is_closing(self) -> bool:
        """Whether the connection is about to close: no more texts are wanted."""
        return self._close is not None

    @property
    def has_room(self) -> bool:
        """Whether another text may be put in."""
        return len(self._texts) < TEXTS_MAX

    def put(self, text: str) -> None:
        """Append a text."""
        self._texts.append(text)
        if len(self._texts) >= TEXTS_MAX:
            self._drained.clear()
        self._filled.set()

    def notify(self, source: Source) -> None:
        """Queue a source that has something new."""
        self._pending[source] = None
        self._filled.set()

    def forget(self, source: Source) -> None:
        """Remove a source from the queue."""
        self._pending.pop(source, None)

    def close(self, code: int, reason: str) -> None:
        """Close after the texts that wait. Queued sources are not collected. Idempotent."""
        if self._close is None:
            self._close = Close(code, reason)
            self._filled.set()

    def abandon(self) -> None:
        """Stop waiting for room: the task that takes texts out has ended."""
        self._is_abandoned = True
        self._drained.set()

    async def room(self) -> None:
        """Wait until there is room for another text."""
        if not self.has_room and not self._is_abandoned:
            await self._drained.wait()

    async def take(self) -> str | Close:
        """Return the next text.

        If none is left and the connection is to close, return the code and the reason. A cancelled
        call loses no text.
        """
        while True:
            if self._texts:
                text = self._texts.popleft()
                if len(self._texts) == TEXTS_MAX // 2:
                    self._drained.set()
                return text
            if self._close is not None:
                return self._close
            if self._pending:
                source = next(iter(self._pending))
                del self._pending[source]
                self._texts.extend(source.collect())
                continue
            self._filled.clear()
            await self._filled.wait()
