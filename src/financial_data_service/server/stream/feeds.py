"""The records behind the streams: watches of symbols, topics of windows, feeds of subscribers.

::

    SymbolWatch (a symbol) ── Topic (a window of it) ──┬── WindowFeed ── Subscriber
      its sequence             its newest text,        └── WindowFeed ── Subscriber
                               encoded once                  its interval, what was sent

:class:`~financial_data_service.server.stream.hub.Hub` creates and removes them;
:class:`~financial_data_service.server.stream.delivery.Delivery` moves feeds between their phases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TypeAlias

from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.server.stream.outbox import Outbox
from financial_data_service.server.stream.session import Kind
from financial_data_service.windows import WindowStats

__all__ = ["Collect", "Phase", "Present", "Subscriber", "SymbolWatch", "Topic", "WindowFeed"]

Present: TypeAlias = Callable[[str, int, Kind, WindowStats | None], str]
"""Creates a message text from symbol, k, kind and statistics.

The statistics are None for a deleted symbol.
"""

Collect: TypeAlias = "Callable[[WindowFeed], list[str]]"
"""Returns the texts that a pending feed has to send."""


class SymbolWatch:
    """A symbol with subscribers. The symbol need not exist."""

    __slots__ = (
        "answers",
        "answers_sequence",
        "changes",
        "check_again",
        "eager",
        "sequence",
        "stats",
        "symbol",
        "topics",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.stats: RunningStats | None = None
        self.sequence = 0
        self.changes = 0  # seen so far
        self.eager = 0  # feeds that get every batch
        self.check_again = 0.0  # when a symbol that does not exist is looked for again
        self.topics: dict[int, Topic] = {}
        self.answers: dict[int, WindowStats] = {}  # k → statistics, all at one sequence
        self.answers_sequence = 0  # that sequence; 0 without answers

    def compute(self, ks: Iterable[int]) -> None:
        """Compute the statistics of some windows, all at one sequence. O(1) per window.

        The sequence is the last known one or a later one. If another process has just deleted the
        symbol, nothing changes.
        """
        wanted = list(ks)
        if self.stats is None or not wanted:
            return
        if self.answers_sequence >= self.sequence and all(k in self.answers for k in wanted):
            return
        answers = self.stats.windows_as_of(10**k for k in wanted)
        sequence = answers[0].sequence
        if sequence != self.answers_sequence:
            self.forget()
        if sequence > 0:
            self.answers_sequence = sequence
            self.answers.update(zip(wanted, answers, strict=True))

    def compute_eager(self) -> None:
        """Compute the statistics of the windows whose feeds get every batch."""
        if self.eager:
            self.compute(k for k, topic in self.topics.items() if topic.eager)

    def forget(self) -> None:
        """Drop the statistics: the symbol has changed or was deleted."""
        self.answers.clear()
        self.answers_sequence = 0
        for topic in self.topics.values():
            topic.texts.clear()


class Topic:
    """A window of a symbol, and its newest texts, each encoded once for all subscribers."""

    __slots__ = ("eager", "feeds", "idle", "k", "texts", "watch")

    def __init__(self, watch: SymbolWatch, k: int) -> None:
        self.watch = watch
        self.k = k
        self.feeds: dict[WindowFeed, None] = {}
        self.idle: dict[WindowFeed, None] = {}
        self.eager = 0  # feeds that get every batch
        self.texts: dict[tuple[Present, Kind], str] = {}

    def text(self, present: Present, kind: Kind) -> str | None:
        """Return the text for the computed statistics, or None if there are none."""
        answer = self.watch.answers.get(self.k)
        if answer is None:
            return None
        text = self.texts.get((present, kind))
        if text is None:
            text = self.texts[present, kind] = present(self.watch.symbol, self.k, kind, answer)
        return text


class Phase(Enum):
    """What a feed is doing."""

    IDLE = 0
    """Everything was sent, and the next change may be sent at once."""

    PENDING = 1
    """There is something new; the outbox of the subscriber will collect it."""

    WAITING = 2
    """Something was sent so recently that the interval is not over."""

    ENDED = 3
    """Unsubscribed."""


class WindowFeed:
    """One subscriber's updates of one window."""

    __slots__ = (
        "_collect",
        "changes",
        "due",
        "explicit",
        "interval",
        "needs_snapshot",
        "pending_deleted",
        "phase",
        "sent",
        "sent_at",
        "subscriber",
        "topic",
        "wildcard",
    )

    def __init__(self, collect: Collect, subscriber: Subscriber, topic: Topic) -> None:
        self._collect = collect
        self.subscriber = subscriber
        self.topic = topic
        self.explicit: float | None = None  # interval in seconds, subscribed by the symbol's name
        self.wildcard: float | None = None  # interval in seconds, subscribed with all symbols
        self.interval = -1.0  # the shorter of both
        self.needs_snapshot = True
        self.pending_deleted = False  # The end of the symbol is still to be sent.
        self.sent = 0  # sequence of the newest statistics that were sent
        self.changes = 0  # changes that the watch had seen when this feed became pending
        self.sent_at = -1e9  # when this feed, or a sibling, last sent something
        self.due = 0.0
        self.phase = Phase.IDLE
        topic.feeds[self] = None
        topic.idle[self] = None

    def enter(self, phase: Phase) -> None:
        """Change the phase, and keep the topic's record of idle feeds."""
        if phase is Phase.IDLE:
            self.topic.idle[self] = None
        elif self.phase is Phase.IDLE:
            self.topic.idle.pop(self, None)
        self.phase = phase

    def siblings(self) -> list[WindowFeed]:
        """Return the subscriber's feeds of this symbol and interval, this one included."""
        watch, feeds = self.topic.watch, self.subscriber.feeds
        found = (feeds.get((watch.symbol, k)) for k in watch.topics)
        return [feed for feed in found if feed is not None and feed.interval == self.interval]

    def collect(self) -> list[str]:
        """Return the texts to send now that the outbox has reached this feed."""
        return self._collect(self)


class Subscriber:
    """A client with an outbox. Made by :meth:`Hub.join`."""

    __slots__ = ("feeds", "outbox", "present", "wildcards")

    def __init__(self, outbox: Outbox, present: Present) -> None:
        self.outbox = outbox
        self.present = present
        self.feeds: dict[tuple[str, int], WindowFeed] = {}
        self.wildcards: dict[int, float] = {}  # k → seconds

    @property
    def is_subscribed(self) -> bool:
        """Whether the client has any subscription."""
        return bool(self.feeds or self.wildcards)
