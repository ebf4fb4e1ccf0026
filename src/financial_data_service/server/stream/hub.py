"""Who watches what, what has changed, and who is told when.

One hub per process. Appends of this process are told by the manager; those of other workers show
in the sequences, which lie in shared memory and are looked at every few milliseconds. One timer
does all of this, and only while somebody is subscribed.

::

    Watch (a symbol) ── Topic (a window of it) ──┬── Feed ── Subscriber
      its sequence        its newest text,       └── Feed ── Subscriber
                          encoded once                  how often, told up to where

A feed is *idle* (told all there is, and may be told again at once), *pending* (its subscriber's
outbox holds a note that there is something new) or *waiting* (told so lately that its interval is
not over). A change touches the idle feeds alone; the others find it when their turn comes.

The feeds of one subscriber for one symbol at one interval are *siblings*. When the outbox comes to
one of them all that are pending are told, and then all wait together: in pieces, however slowly a
client takes what it is told, its windows of a symbol are as of one price.

Invariants
----------
* Within the life of a symbol the sequences that a feed tells of grow strictly, and the first of
  them is a snapshot.
* Siblings that are told together are told as of the same sequence, one directly behind the other.
* A subscriber holds up nobody: the hub never waits.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable

from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import SymbolFileError
from financial_data_service.server.stream.feeds import (
    Present,
    Subscriber,
    _Feed,
    _Phase,
    _Topic,
    _Watch,
)
from financial_data_service.server.stream.lifecycle import CloseCode
from financial_data_service.server.stream.outbox import Outbox
from financial_data_service.server.stream.session import Kind
from financial_data_service.wire import Subscription

__all__ = ["ABSENT_SECONDS", "LOOK_SECONDS", "Hub"]

LOOK_SECONDS = 0.005
"""How often sequences are looked at: what another worker appends is told at most so much later."""

LOOK_SHARE_MAX = 0.05  # of a core's time; with very many symbols looks come less often

ABSENT_SECONDS = 0.05
"""How often symbols are looked for that are not there: each such look asks the file system."""


class Hub:
    """Tells subscribers of changes. For the event loop's thread; made without a loop.

    Parameters
    ----------
    manager : SymbolManager
        The symbols. Its ``listener`` belongs to the hub.
    connections_max : int
        Clients that may be connected at once.
    clock : callable
        Seconds, growing.

    Attributes
    ----------
    dropped_updates : int
        Changes that a client was not told of because it had not yet taken what came before. What
        an interval holds back is not dropped: nobody asked for it.
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
        self._joined: dict[Subscriber, None] = {}
        self._guests: set[Outbox] = set()
        self._watches: dict[str, _Watch] = {}
        self._wildcards: dict[Subscriber, None] = {}
        self._names: set[str] = set()  # symbols that those with wildcards know of
        self._names_due = 0.0
        self._waiting: list[tuple[float, int, _Feed]] = []  # heap; superseded entries stay a while
        self._waiting_count = 0
        self._entries = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self.dropped_updates = 0

    # Clients come and go

    @property
    def subscribers(self) -> int:
        """Clients that watch anything."""
        return sum(subscriber.is_subscribed for subscriber in self._joined)

    @property
    def is_full(self) -> bool:
        """Whether no more clients may connect, for their number or because the server stops."""
        return self._stopped or len(self._joined) + len(self._guests) >= self._connections_max

    @property
    def is_stopped(self) -> bool:
        """Whether the server stops."""
        return self._stopped

    def join(self, outbox: Outbox, present: Present) -> Subscriber:
        """Take in a client, whose outbox is told of changes in the form that `present` makes."""
        subscriber = Subscriber(outbox, present)
        self._joined[subscriber] = None
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Let go of a client. Idempotent."""
        for feed in list(subscriber.feeds.values()):
            self._end(feed)
        subscriber.wildcards.clear()
        self._wildcards.pop(subscriber, None)
        self._joined.pop(subscriber, None)
        self._run_or_rest()

    def add_guest(self, outbox: Outbox) -> None:
        """Count a client that is told of nothing, but is to know when the server stops."""
        self._guests.add(outbox)

    def remove_guest(self, outbox: Outbox) -> None:
        """Let go of such a client. Idempotent."""
        self._guests.discard(outbox)

    def stop(self) -> None:
        """Tell every client that the server stops; take in no more. Idempotent."""
        self._stopped = True
        for outbox in [*(each.outbox for each in self._joined), *self._guests]:
            outbox.close(CloseCode.GOING_AWAY, "the server stops")
        self._run_or_rest()

    # Subscriptions

    def subscribe(
        self, subscriber: Subscriber, subscription: Subscription, seen: int | None = None
    ) -> None:
        """Have a client told of a window, beginning with a snapshot.

        Parameters
        ----------
        subscriber : Subscriber
            The client.
        subscription : Subscription
            What it is told of, and how often.
        seen : int, optional
            The sequence that the client knows: if nothing came behind it, no snapshot is sent.
        """
        (symbol, k), interval = subscription.stream, subscription.interval_ms / 1000
        if symbol is None:
            subscriber.wildcards[k] = interval
            self._wildcards[subscriber] = None
            self._look_for_names()
            for name in list(self._names):
                self._cover(subscriber, name, k)
        else:
            feed = self._feed(subscriber, symbol, k)
            feed.explicit = interval
            self._begin(feed, seen)
        self._run_or_rest()

    def change_interval(self, subscriber: Subscriber, subscription: Subscription) -> None:
        """Change how often a client is told of what it has subscribed to."""
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

    def unsubscribe(self, subscriber: Subscriber, subscription: Subscription) -> None:
        """Have a client told no more."""
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
        self._run_or_rest()

    def _cover(self, subscriber: Subscriber, symbol: str, k: int) -> None:
        """Have a client that watches all symbols watch this one.

        Where it watches it by name already, it has been told of it or is about to be.
        """
        is_watched = (symbol, k) in subscriber.feeds
        feed = self._feed(subscriber, symbol, k)
        if feed.wildcard is None:
            feed.wildcard = subscriber.wildcards[k]
            if is_watched:
                self._set_interval(feed)
            else:
                self._begin(feed)

    def _feed(self, subscriber: Subscriber, symbol: str, k: int) -> _Feed:
        """Return the feed of a window, new if need be, of a symbol that has just been looked at."""
        watch = self._watches.get(symbol)
        if watch is not None:
            self._look_at(watch)
        feed = subscriber.feeds.get((symbol, k))
        if feed is None:
            watch = self._watches.get(symbol)
            if watch is None:
                watch = self._watches[symbol] = _Watch(symbol)
                self._look_at(watch)
            topic = watch.topics.get(k)
            if topic is None:
                topic = watch.topics[k] = _Topic(watch, k)
            feed = subscriber.feeds[symbol, k] = _Feed(self, subscriber, topic)
        return feed

    def _begin(self, feed: _Feed, seen: int | None = None) -> None:
        """Send a snapshot, at once if the symbol is there."""
        watch = feed.topic.watch
        self._set_interval(feed)
        if watch.stats is not None and watch.sequence == seen:
            feed.is_new = False
            feed.sent = seen
        else:
            feed.is_new = True
            if watch.stats is not None:
                self._note(feed)

    def _set_interval(self, feed: _Feed) -> None:
        wanted = [each for each in (feed.explicit, feed.wildcard) if each is not None]
        before, feed.interval = feed.interval, min(wanted)
        self._count_eager(feed, (feed.interval == 0) - (before == 0))
        if feed.phase is _Phase.WAITING:
            self._wait(feed)

    def _count_eager(self, feed: _Feed, more: int) -> None:
        feed.topic.eager += more
        feed.topic.watch.eager += more

    def _end(self, feed: _Feed) -> None:
        topic, watch = feed.topic, feed.topic.watch
        if feed.phase is _Phase.PENDING:
            self.dropped_updates += max(0, watch.changes - feed.changes)
            feed.subscriber.outbox.forget(feed)
        self._enter(feed, _Phase.ENDED)
        self._count_eager(feed, -(feed.interval == 0))
        del feed.subscriber.feeds[watch.symbol, topic.k]
        del topic.feeds[feed]
        if not topic.feeds:
            del watch.topics[topic.k]
        if not watch.topics:
            del self._watches[watch.symbol]

    # Changes

    def _run_or_rest(self) -> None:
        """Look for changes while, and only while, somebody is subscribed."""
        if (self._watches or self._wildcards) and not self._stopped:
            # A bound method is a new object each time; what counts is that it is there.
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
        """Hear of an append by this process; most of the work is left to the next look."""
        watch = self._watches.get(symbol)
        if watch is None:
            if self._wildcards:
                self._meet(symbol)
        elif watch.eager or watch.stats is None:
            self._look_at(watch)

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        began = self._clock()
        try:
            self.look()
        finally:
            if self._timer is not None:  # else nobody is subscribed any more
                self._look_in(max(LOOK_SECONDS, (self._clock() - began) / LOOK_SHARE_MAX))

    def look(self) -> None:
        """See what has changed and whose interval is over. The timer's business; tests call it."""
        now = self._clock()
        for watch in list(self._watches.values()):
            if watch.stats is not None or now >= watch.look_again:
                watch.look_again = now + ABSENT_SECONDS
                self._look_at(watch)
        if self._wildcards and now >= self._names_due:
            self._names_due = now + ABSENT_SECONDS
            self._look_for_names()
        self._end_intervals(now)

    def _end_intervals(self, now: float) -> None:
        """Tell the feeds whose interval is over what they have missed."""
        while self._waiting and self._waiting[0][0] <= now:
            due, _, feed = heapq.heappop(self._waiting)
            if feed.phase is _Phase.WAITING and feed.due == due:
                self._enter(feed, _Phase.IDLE)
                watch = feed.topic.watch
                if watch.stats is not None and (feed.is_new or feed.sent < watch.sequence):
                    self._note(feed)

    def _look_for_names(self) -> None:
        for symbol in self._manager.symbols():
            if symbol not in self._names:
                self._meet(symbol)

    def _meet(self, symbol: str) -> None:
        """Take in a symbol that is new to those who watch all."""
        self._names.add(symbol)
        for subscriber in list(self._wildcards):
            for k in list(subscriber.wildcards):
                self._cover(subscriber, symbol, k)

    def _look_at(self, watch: _Watch) -> None:
        """See what has become of a symbol. O(idle feeds) when something has, else O(1)."""
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
            watch.ask_eager()
            for topic in watch.topics.values():
                self._tell(topic)

    def _tell(self, topic: _Topic) -> None:
        """Tell the idle feeds of a window that it has changed."""
        eager: dict[Present, str | None] = {}
        for feed in list(topic.idle):
            outbox = feed.subscriber.outbox
            if feed.interval or feed.is_new or not outbox.has_room:
                self._note(feed)
                continue
            # Whoever wants every batch and keeps up gets the text of each, made right behind it.
            present = feed.subscriber.present
            if present not in eager:
                eager[present] = topic.text(present, Kind.UPDATE)
            text = eager[present]
            if text is not None and feed.sent < topic.watch.as_of:
                feed.sent = topic.watch.as_of
                outbox.put(text)

    def _on_created(self, watch: _Watch, stats: RunningStats) -> None:
        watch.stats = stats
        watch.sequence = stats.sequence
        watch.changes += 1
        watch.ask_eager()
        for topic in watch.topics.values():
            for feed in topic.feeds:
                outbox = feed.subscriber.outbox
                if feed.interval or feed.phase is not _Phase.IDLE or not outbox.has_room:
                    self._note(feed)
                    continue
                for text in self._said(feed):
                    outbox.put(text)
        if self._wildcards and watch.symbol not in self._names:
            self._meet(watch.symbol)

    def _on_deleted(self, watch: _Watch) -> None:
        watch.stats = None
        watch.sequence = 0
        watch.forget()
        self._names.discard(watch.symbol)
        for topic in list(watch.topics.values()):
            for feed in list(topic.feeds):
                feed.is_new = True
                feed.owes_end = feed.owes_end or feed.sent > 0
                feed.sent = 0
                if feed.owes_end:
                    self._note(feed)
                elif feed.explicit is None:
                    self._end(feed)
                else:
                    feed.subscriber.outbox.forget(feed)
                    self._enter(feed, _Phase.IDLE)

    # Feeds

    def _enter(self, feed: _Feed, phase: _Phase) -> None:
        if phase is _Phase.IDLE:
            feed.topic.idle[feed] = None
        elif feed.phase is _Phase.IDLE:
            feed.topic.idle.pop(feed, None)
        self._waiting_count += (phase is _Phase.WAITING) - (feed.phase is _Phase.WAITING)
        feed.phase = phase

    def _note(self, feed: _Feed) -> None:
        """Have a feed's subscriber told what is new once its outbox comes to it."""
        if feed.phase is not _Phase.PENDING:
            self._enter(feed, _Phase.PENDING)
            feed.changes = feed.topic.watch.changes
            feed.subscriber.outbox.note(feed)

    def _taken(self, feed: _Feed) -> list[str]:
        """Return what a pending feed and its pending siblings have to say; their interval begins.

        With an update it begins for the siblings that had nothing to say as well, so that all are
        told together from then on. A snapshot holds up nobody: a window may be asked for again and
        again while others wait for their turn.
        """
        siblings = feed.siblings()
        telling = [each for each in siblings if each is feed or each.phase is _Phase.PENDING]
        watch = feed.topic.watch
        watch.ask(each.topic.k for each in telling)
        texts: list[str] = []
        told: list[_Feed] = []
        has_update = False
        for each in telling:
            self.dropped_updates += watch.changes - each.changes
            each.subscriber.outbox.forget(each)
            self._enter(each, _Phase.IDLE)
            was_new = each.is_new
            if said := self._said(each):
                texts += said
                told.append(each)
                has_update = has_update or not was_new
        if watch.stats is None:
            self._let_go(telling)
        if feed.interval:
            self._begin_intervals(siblings if has_update else told)
        return texts

    def _said(self, feed: _Feed) -> list[str]:
        """Return what has not been told yet, and take it as told. The watch has been asked."""
        topic, present = feed.topic, feed.subscriber.present
        texts = []
        if feed.owes_end:
            feed.owes_end = False
            texts.append(present(topic.watch.symbol, topic.k, Kind.DELETED, None))
        text = topic.text(present, Kind.SNAPSHOT if feed.is_new else Kind.UPDATE)
        if text is not None and (feed.is_new or feed.sent < topic.watch.as_of):
            feed.is_new = False
            feed.sent = topic.watch.as_of
            texts.append(text)
        return texts

    def _let_go(self, feeds: list[_Feed]) -> None:
        """End feeds of a symbol that is gone; whoever watches all will hear of another."""
        for feed in feeds:
            if feed.explicit is None:
                self._end(feed)
        self._run_or_rest()

    def _begin_intervals(self, feeds: list[_Feed]) -> None:
        now = self._clock()
        for feed in feeds:
            if feed.phase is not _Phase.ENDED:
                feed.taken = now
                self._enter(feed, _Phase.WAITING)
                self._wait(feed)

    def _wait(self, feed: _Feed) -> None:
        """Put a waiting feed in line; an entry that it had there counts no more."""
        feed.due = feed.taken + feed.interval
        self._entries += 1  # Feeds of the same time are told in order, not compared.
        heapq.heappush(self._waiting, (feed.due, self._entries, feed))
        if len(self._waiting) > 2 * self._waiting_count + 64:
            self._waiting = [
                entry
                for entry in self._waiting
                if entry[2].phase is _Phase.WAITING and entry[2].due == entry[0]
            ]
            heapq.heapify(self._waiting)
