"""Who subscribes to what, and which symbols have changed.

One hub per process. The symbol manager reports the appends of this process. Appends of other
workers show in the sequences, which lie in shared memory and are read every few milliseconds. One
timer does all of this, and only while there are subscriptions.

What is then sent to whom, and when, is decided by
:class:`~financial_data_service.server.stream.delivery.Delivery`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import SymbolFileError
from financial_data_service.server.stream.delivery import Delivery
from financial_data_service.server.stream.feeds import (
    Present,
    Subscriber,
    SymbolWatch,
    Topic,
    WindowFeed,
)
from financial_data_service.server.stream.lifecycle import CloseCode
from financial_data_service.server.stream.outbox import Outbox
from financial_data_service.wire import SubscribedStream

__all__ = ["ABSENT_SECONDS", "LOOK_SECONDS", "Hub"]

LOOK_SECONDS = 0.005
"""Interval at which sequences are read: the longest delay of another worker's appends."""

LOOK_SHARE_MAX = 0.05  # of one core; with very many symbols sequences are read less often

ABSENT_SECONDS = 0.05
"""Interval at which symbols that do not exist are looked for: each look asks the file system."""


class Hub:
    """Sends changes to subscribers. For the thread of the event loop; made without a loop.

    Parameters
    ----------
    manager : SymbolManager
        The symbols. Its ``listener`` belongs to the hub.
    connections_max : int
        Maximum number of connected clients.
    clock : callable
        Seconds, increasing.
    """

    def __init__(
        self,
        manager: SymbolManager,
        connections_max: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._manager = manager
        self._clock = clock
        self._connections_max = connections_max
        self._delivery = Delivery(clock, self._release)
        self._joined: dict[Subscriber, None] = {}
        self._ingests: set[Outbox] = set()
        self._watches: dict[str, SymbolWatch] = {}
        self._wildcards: dict[Subscriber, None] = {}
        self._names: set[str] = set()  # symbols known to the subscribers of all symbols
        self._names_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    # Clients

    @property
    def subscribers(self) -> int:
        """Number of clients with a subscription."""
        return sum(subscriber.is_subscribed for subscriber in self._joined)

    @property
    def dropped_updates(self) -> int:
        """Changes that were not sent because a client had not read what came before."""
        return self._delivery.dropped_updates

    @property
    def is_full(self) -> bool:
        """Whether no more clients may connect: there are too many, or the server stops."""
        return self._stopped or len(self._joined) + len(self._ingests) >= self._connections_max

    @property
    def is_stopped(self) -> bool:
        """Whether the server stops."""
        return self._stopped

    def join(self, outbox: Outbox, present: Present) -> Subscriber:
        """Add a client. Its outbox gets changes in the form that `present` makes."""
        subscriber = Subscriber(outbox, present)
        self._joined[subscriber] = None
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a client. Idempotent."""
        for feed in list(subscriber.feeds.values()):
            self._end(feed)
        subscriber.wildcards.clear()
        self._wildcards.pop(subscriber, None)
        self._joined.pop(subscriber, None)
        self._start_or_stop_timer()

    def register_ingest(self, outbox: Outbox) -> None:
        """Add a client that only sends prices. It counts, and learns that the server stops."""
        self._ingests.add(outbox)

    def remove_ingest(self, outbox: Outbox) -> None:
        """Remove such a client. Idempotent."""
        self._ingests.discard(outbox)

    def stop(self) -> None:
        """Tell every client that the server stops, and accept no more. Idempotent."""
        self._stopped = True
        for outbox in [*(each.outbox for each in self._joined), *self._ingests]:
            outbox.close(CloseCode.GOING_AWAY, "the server stops")
        self._start_or_stop_timer()

    # Subscriptions

    def subscribe(
        self, subscriber: Subscriber, subscription: SubscribedStream, seen: int | None = None
    ) -> None:
        """Send a client the changes of a window, beginning with a snapshot.

        Parameters
        ----------
        subscriber : Subscriber
            The client.
        subscription : SubscribedStream
            The window, and the shortest interval between two updates.
        seen : int, optional
            The sequence that the client knows. If it is the newest, no snapshot is sent.
        """
        (symbol, k), interval = subscription.stream, subscription.interval_ms / 1000
        if symbol is None:
            subscriber.wildcards[k] = interval
            self._wildcards[subscriber] = None
            self._find_names()
            for name in list(self._names):
                self._cover(subscriber, name, k)
        else:
            feed = self._feed(subscriber, symbol, k)
            feed.explicit = interval
            self._set_interval(feed)
            self._delivery.begin(feed, seen)
        self._start_or_stop_timer()

    def change_interval(self, subscriber: Subscriber, subscription: SubscribedStream) -> None:
        """Change the interval of a subscription."""
        (symbol, k), interval = subscription.stream, subscription.interval_ms / 1000
        if symbol is None:
            subscriber.wildcards[k] = interval
            for (_, feed_k), feed in subscriber.feeds.items():
                if feed_k == k and feed.wildcard is not None:
                    feed.wildcard = interval
                    self._set_interval(feed)
        else:
            feed = subscriber.feeds[symbol, k]
            feed.explicit = interval
            self._set_interval(feed)

    def unsubscribe(self, subscriber: Subscriber, subscription: SubscribedStream) -> None:
        """End a subscription."""
        symbol, k = subscription.stream
        if symbol is None:
            del subscriber.wildcards[k]
            if not subscriber.wildcards:
                self._wildcards.pop(subscriber)
            feeds = [feed for (_, feed_k), feed in subscriber.feeds.items() if feed_k == k]
            for feed in feeds:
                feed.wildcard = None
        else:
            feeds = [subscriber.feeds[symbol, k]]
            feeds[0].explicit = None
        for feed in feeds:
            if feed.explicit is None and feed.wildcard is None:
                self._end(feed)
            else:
                self._set_interval(feed)
        self._start_or_stop_timer()

    def _cover(self, subscriber: Subscriber, symbol: str, k: int) -> None:
        """Let a subscription to all symbols include this one.

        A client that subscribes to it by name too has got its snapshot, or is about to.
        """
        is_watched = (symbol, k) in subscriber.feeds
        feed = self._feed(subscriber, symbol, k)
        if feed.wildcard is None:
            feed.wildcard = subscriber.wildcards[k]
            self._set_interval(feed)
            if not is_watched:
                self._delivery.begin(feed, None)

    def _feed(self, subscriber: Subscriber, symbol: str, k: int) -> WindowFeed:
        """Return the feed of a window, made if necessary. Its symbol has just been checked."""
        watch = self._watches.get(symbol)
        if watch is not None:
            self._check(watch)
        feed = subscriber.feeds.get((symbol, k))
        if feed is None:
            watch = self._watches.get(symbol)
            if watch is None:
                watch = self._watches[symbol] = SymbolWatch(symbol)
                self._check(watch)
            topic = watch.topics.get(k)
            if topic is None:
                topic = watch.topics[k] = Topic(watch, k)
            feed = subscriber.feeds[symbol, k] = WindowFeed(
                self._delivery.collect, subscriber, topic
            )
        return feed

    def _set_interval(self, feed: WindowFeed) -> None:
        wanted = [each for each in (feed.explicit, feed.wildcard) if each is not None]
        before, feed.interval = feed.interval, min(wanted)
        _count_eager(feed, (feed.interval == 0) - (before == 0))
        self._delivery.interval_changed(feed)

    def _end(self, feed: WindowFeed) -> None:
        topic, watch = feed.topic, feed.topic.watch
        self._delivery.end(feed)
        _count_eager(feed, -(feed.interval == 0))
        del feed.subscriber.feeds[watch.symbol, topic.k]
        del topic.feeds[feed]
        if not topic.feeds:
            del watch.topics[topic.k]
        if not watch.topics:
            del self._watches[watch.symbol]

    def _release(self, feeds: list[WindowFeed]) -> None:
        """End feeds of a deleted symbol, unless they name it: it may be created again."""
        for feed in feeds:
            if feed.explicit is None:
                self._end(feed)
        self._start_or_stop_timer()

    # Changes

    def _start_or_stop_timer(self) -> None:
        """Check for changes while there are subscriptions, and only then."""
        if (self._watches or self._wildcards) and not self._stopped:
            self._manager.listener = self._on_append
            if self._timer is None:
                self._look_in(LOOK_SECONDS)
        else:
            self._manager.listener = None
            self._names.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _on_append(self, symbol: str, _sequence: int) -> None:
        """Handle an append of this process. Most of the work is left to the next timer call."""
        watch = self._watches.get(symbol)
        if watch is None:
            if self._wildcards:
                self._add_name(symbol)
        elif watch.eager or watch.stats is None:
            self._check(watch)

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        began = self._clock()
        try:
            self.look()
        finally:
            if self._timer is not None:  # There are still subscriptions.
                self._look_in(max(LOOK_SECONDS, (self._clock() - began) / LOOK_SHARE_MAX))

    def look(self) -> None:
        """Check for changes and for intervals that are over. Called by the timer and by tests."""
        now = self._clock()
        for watch in list(self._watches.values()):
            if watch.stats is not None or now >= watch.check_again:
                watch.check_again = now + ABSENT_SECONDS
                self._check(watch)
        if self._wildcards and now >= self._names_due:
            self._names_due = now + ABSENT_SECONDS
            self._find_names()
        self._delivery.end_intervals(now)

    def _find_names(self) -> None:
        for symbol in self._manager.symbols():
            if symbol not in self._names:
                self._add_name(symbol)

    def _add_name(self, symbol: str) -> None:
        """Include a symbol in the subscriptions to all symbols."""
        self._names.add(symbol)
        for subscriber in list(self._wildcards):
            for k in list(subscriber.wildcards):
                self._cover(subscriber, symbol, k)

    def _check(self, watch: SymbolWatch) -> None:
        """Check a symbol for changes. O(idle feeds) if it has changed, else O(1)."""
        try:
            stats = self._manager.get(watch.symbol)
        except SymbolFileError:
            stats = None
        if stats is not watch.stats:
            if watch.stats is not None:
                self._on_deleted(watch)
            if stats is not None:
                self._on_created(watch, stats)
        elif stats is not None and (sequence := stats.sequence) > watch.sequence:
            watch.sequence = sequence
            watch.changes += 1
            watch.compute_eager()
            for topic in watch.topics.values():
                self._delivery.changed(topic)

    def _on_created(self, watch: SymbolWatch, stats: RunningStats) -> None:
        watch.stats = stats
        watch.sequence = stats.sequence
        watch.changes += 1
        watch.compute_eager()
        self._delivery.created(watch)
        if self._wildcards and watch.symbol not in self._names:
            self._add_name(watch.symbol)

    def _on_deleted(self, watch: SymbolWatch) -> None:
        watch.stats = None
        watch.sequence = 0
        watch.forget()
        self._names.discard(watch.symbol)
        for topic in list(watch.topics.values()):
            for feed in list(topic.feeds):
                self._delivery.deleted(feed)


def _count_eager(feed: WindowFeed, more: int) -> None:
    feed.topic.eager += more
    feed.topic.watch.eager += more
