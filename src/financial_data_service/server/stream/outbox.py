"""What is still to be sent to one client: answers in order, and of each feed one update at most.

A feed that has something new is only noted. What it says is asked for when its turn comes, and is
then the newest: however slow the client, nothing piles up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, Protocol

__all__ = ["TEXTS_MAX", "Close", "Outbox"]

TEXTS_MAX = 1024
"""Texts that wait at most before nothing more is taken in for this client. As many answers as a
client that pipelines may be behind, as many batches as one turn of the event loop brings."""


class Close(NamedTuple):
    """How a connection is to end."""

    code: int
    reason: str


class Source(Protocol):
    """What can be asked for its newest texts once its turn has come."""

    def take(self) -> list[str]:
        """Return what there is to say, which may be nothing."""


class Outbox:
    """Texts and feeds that wait to be sent. For one event loop; one task takes out."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._pending: dict[Source, None] = {}  # in the order they were noted
        self._close: Close | None = None
        self._taken_by_nobody = False
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def is_closing(self) -> bool:
        """Whether the end is near: nothing more is wanted."""
        return self._close is not None

    @property
    def has_room(self) -> bool:
        """Whether another text may be put in."""
        return len(self._texts) < TEXTS_MAX

    def put(self, text: str) -> None:
        """Put a text behind all others."""
        self._texts.append(text)
        if len(self._texts) >= TEXTS_MAX:
            self._drained.clear()
        self._filled.set()

    def note(self, source: Source) -> None:
        """Note that a source has something new to say."""
        self._pending[source] = None
        self._filled.set()

    def forget(self, source: Source) -> None:
        """Drop what a source had to say."""
        self._pending.pop(source, None)

    def close(self, code: int, reason: str) -> None:
        """End behind the texts that wait; what was only noted is not sent any more. Idempotent."""
        if self._close is None:
            self._close = Close(code, reason)
            self._filled.set()

    def abandon(self) -> None:
        """Take note that nobody takes out any more: whoever waits for room need not."""
        self._taken_by_nobody = True
        self._drained.set()

    async def room(self) -> None:
        """Wait until there is room for another text."""
        if not self.has_room and not self._taken_by_nobody:
            await self._drained.wait()

    async def take(self) -> str | Close:
        """Return the next text, or how to end once there is none. May be cancelled without loss."""
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
                self._texts.extend(source.take())
                continue
            self._filled.clear()
            await self._filled.wait()
