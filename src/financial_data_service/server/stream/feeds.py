"""Watches, topics and feeds: the records that the hub keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.server.stream.outbox import Outbox
from financial_data_service.server.stream.session import Kind
from financial_data_service.windows import WindowStats

if TYPE_CHECKING:
    from financial_data_service.server.stream.hub import Hub

__all__ = ["Subscriber"]

Present: TypeAlias = Callable[[str, int, Kind, WindowStats | None], str]
"""Makes a text of symbol, k, kind and statistics; None for a symbol that is gone."""


class _Watch:
    """A symbol that somebody watches, whether it is there or not."""

    __slots__ = (
        "answers",
        "as_of",
        "changes",
        "eager",
        "look_again",
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
        self.eager = 0  # feeds that want every batch
        self.look_again = 0.0
        self.topics: dict[int, _Topic] = {}
        self.answers: dict[int, WindowStats] = {}  # k → what was asked for, as of one sequence
        self.as_of = 0  # that sequence; 0 when there are no answers

    def ask(self, ks: Iterable[int]) -> None:
        """Have answers for some windows, all as of one sequence: that last seen, or a later one.

        None of them when another process has just deleted the symbol. O(1) a window.
        """
        wanted = list(ks)
        if self.stats is None or not wanted:
            return
        if self.as_of >= self.sequence and all(k in self.answers for k in wanted):
            return
        answers = self.stats.windows_as_of(10**k for k in wanted)
        as_of = answers[0].sequence
        if as_of != self.as_of:
            self.forget()
        if as_of > 0:
            self.as_of = as_of
            self.answers.update(zip(wanted, answers, strict=True))

    def ask_eager(self) -> None:
        """Have answers for those who are told every batch."""
        if self.eager:
            self.ask(k for k, topic in self.topics.items() if topic.eager)

    def forget(self) -> None:
        """Forget the answers: the symbol has changed, or is gone."""
        self.answers.clear()
        self.as_of = 0
        for topic in self.topics.values():
            topic.texts.clear()


class _Topic:
    """A window of a symbol, and what is said of it, kept as text until it changes."""

    __slots__ = ("eager", "feeds", "idle", "k", "texts", "watch")

    def __init__(self, watch: _Watch, k: int) -> None:
        self.watch = watch
        self.k = k
        self.feeds: dict[_Feed, None] = {}
        self.idle: dict[_Feed, None] = {}
        self.eager = 0  # feeds that want every batch
        self.texts: dict[tuple[Present, Kind], str] = {}

    def text(self, present: Present, kind: Kind) -> str | None:
        """Return what is to be said by the watch's answer; None where it has none."""
        answer = self.watch.answers.get(self.k)
        if answer is None:
            return None
        text = self.texts.get((present, kind))
        if text is None:
            text = self.texts[present, kind] = present(self.watch.symbol, self.k, kind, answer)
        return text


class _Phase(Enum):
    IDLE = 0
    PENDING = 1
    WAITING = 2
    ENDED = 3


class _Feed:
    """What one subscriber is told of one window."""

    __slots__ = (
        "_hub",
        "changes",
        "due",
        "explicit",
        "interval",
        "is_new",
        "owes_end",
        "phase",
        "sent",
        "subscriber",
        "taken",
        "topic",
        "wildcard",
    )

    def __init__(self, hub: Hub, subscriber: Subscriber, topic: _Topic) -> None:
        self._hub = hub
        self.subscriber = subscriber
        self.topic = topic
        self.explicit: float | None = None  # seconds, by a subscription to this symbol
        self.wildcard: float | None = None  # seconds, by one to all symbols
        self.interval = -1.0  # the shorter of both
        self.is_new = True  # A snapshot is due.
        self.owes_end = False  # The end of the symbol has not been told.
        self.sent = 0
        self.changes = 0  # that the watch had seen when this became pending
        self.taken = -1e9  # when it, or a sibling, was told last
        self.due = 0.0
        self.phase = _Phase.IDLE
        topic.feeds[self] = None
        topic.idle[self] = None

    def siblings(self) -> list[_Feed]:
        """Return the feeds of this symbol and interval that the subscriber has, this one too."""
        watch, feeds = self.topic.watch, self.subscriber.feeds
        found = (feeds.get((watch.symbol, k)) for k in watch.topics)
        return [feed for feed in found if feed is not None and feed.interval == self.interval]

    def take(self) -> list[str]:
        """Return what there is to say now that the outbox has come to it."""
        return self._hub._taken(self)


class Subscriber:
    """Somebody with an outbox. Made by :meth:`Hub.join`."""

    __slots__ = ("feeds", "outbox", "present", "wildcards")

    def __init__(self, outbox: Outbox, present: Present) -> None:
        self.outbox = outbox
        self.present = present
        self.feeds: dict[tuple[str, int], _Feed] = {}
        self.wildcards: dict[int, float] = {}  # k → seconds

    @property
    def is_subscribed(self) -> bool:
        """Whether anything is watched."""
        return bool(self.feeds or self.wildcards)
