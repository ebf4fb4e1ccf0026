"""Decides what is sent to each feed, and when.

It handles phases, intervals, snapshots, updates and deletions.

A feed is *idle* (everything was sent), *pending* (its subscriber's outbox will collect it) or
*waiting* (its interval is not over). A change is processed only for the idle feeds. Other feeds
include it when they are collected, or when their interval is over.

The feeds of one subscriber for one symbol at one interval are *siblings*. When the outbox collects
one sibling, all pending siblings are sent together, and a new interval begins for all of them. So
the windows of a symbol that a client receives have the same sequence, even if the client reads
slowly.

Invariants
----------
* The sequences that a feed sends during the life of a symbol are strictly increasing, and the first
  of them is a snapshot.
* Siblings that are sent together have the same sequence and follow each other directly.
* A subscriber delays no other: nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable

from financial_data_service.server.stream.feeds import (
    Phase,
    Present,
    SymbolWatch,
    Topic,
    WindowFeed,
)
from financial_data_service.server.stream.intervals import IntervalQueue
from financial_data_service.server.stream.session import Kind

__all__ = ["Delivery"]


class Delivery:
    """Moves feeds between their phases and makes the texts that they send.

    Parameters
    ----------
    clock : callable
        Seconds, increasing.
    release : callable
        Called with the feeds of a deleted symbol that have nothing more to send.

    Attributes
    ----------
    dropped_updates : int
        Changes that were not sent because the client had not read what came before. Changes during
        a feed's interval are not counted, because the client asked for at most one update per
        interval.
    """

    def __init__(
        self, clock: Callable[[], float], release: Callable[[list[WindowFeed]], None]
    ) -> None:
        self._clock = clock
        self._release = release
        self._intervals = IntervalQueue()
        self.dropped_updates = 0

    def begin(self, feed: WindowFeed, seen: int | None) -> None:
        """Send a snapshot if the symbol exists, unless the client has seen its sequence."""
        watch = feed.topic.watch
        if watch.stats is not None and watch.sequence == seen:
            feed.needs_snapshot = False
            feed.sent = seen
        else:
            feed.needs_snapshot = True
            if watch.stats is not None:
                self._notify(feed)

    def interval_changed(self, feed: WindowFeed) -> None:
        """Apply the new interval of a feed that is waiting for the end of the old one."""
        if feed.phase is Phase.WAITING:
            self._intervals.put(feed)

    def end(self, feed: WindowFeed) -> None:
        """Send nothing more to a feed."""
        if feed.phase is Phase.PENDING:
            self.dropped_updates += max(0, feed.topic.watch.changes - feed.changes)
            feed.subscriber.outbox.forget(feed)
        feed.enter(Phase.ENDED)

    def created(self, watch: SymbolWatch) -> None:
        """Send a snapshot of a symbol that now exists."""
        for topic in watch.topics.values():
            for feed in topic.feeds:
                outbox = feed.subscriber.outbox
                if feed.interval or feed.phase is not Phase.IDLE or not outbox.has_room:
                    self._notify(feed)
                    continue
                for text in self._texts(feed):
                    outbox.put(text)

    def changed(self, topic: Topic) -> None:
        """Send a change of a window to the idle feeds. O(idle feeds)."""
        eager: dict[Present, str | None] = {}
        for feed in list(topic.idle):
            outbox = feed.subscriber.outbox
            if feed.interval or feed.needs_snapshot or not outbox.has_room:
                self._notify(feed)
                continue
            # A client with interval 0 that reads fast enough gets the text immediately after the
            # append.
            present = feed.subscriber.present
            if present not in eager:
                eager[present] = topic.text(present, Kind.UPDATE)
            text = eager[present]
            if text is not None and feed.sent < topic.watch.answers_sequence:
                feed.sent = topic.watch.answers_sequence
                outbox.put(text)

    def deleted(self, feed: WindowFeed) -> None:
        """Send the end of the symbol if a snapshot of it was sent; release the feed if not."""
        feed.needs_snapshot = True
        feed.pending_deleted = feed.pending_deleted or feed.sent > 0
        feed.sent = 0
        if feed.pending_deleted:
            self._notify(feed)
        elif feed.explicit is None:
            self._release([feed])
        else:
            feed.subscriber.outbox.forget(feed)
            feed.enter(Phase.IDLE)

    def end_intervals(self, now: float) -> None:
        """For feeds whose interval is over, send the changes that they missed."""
        for feed in self._intervals.pop_due(now):
            feed.enter(Phase.IDLE)
            watch = feed.topic.watch
            if watch.stats is not None and (feed.needs_snapshot or feed.sent < watch.sequence):
                self._notify(feed)

    def collect(self, feed: WindowFeed) -> list[str]:
        """Return the texts of a pending feed and its pending siblings, and begin their interval.

        After an update, the interval also begins for siblings that had nothing to send. So all
        siblings are sent together from then on. A snapshot does not begin the interval of its
        siblings. Otherwise a client that requests one window repeatedly would delay its other
        windows.
        """
        siblings = feed.siblings()
        pending = [each for each in siblings if each is feed or each.phase is Phase.PENDING]
        watch = feed.topic.watch
        watch.compute(each.topic.k for each in pending)
        texts: list[str] = []
        sending: list[WindowFeed] = []
        has_update = False
        for each in pending:
            self.dropped_updates += watch.changes - each.changes
            each.subscriber.outbox.forget(each)
            each.enter(Phase.IDLE)
            needed_snapshot = each.needs_snapshot
            if own := self._texts(each):
                texts += own
                sending.append(each)
                has_update = has_update or not needed_snapshot
        if watch.stats is None:
            self._release(pending)
        if feed.interval:
            self._begin_intervals(siblings if has_update else sending)
        return texts

    def _notify(self, feed: WindowFeed) -> None:
        """Queue the feed in the subscriber's outbox."""
        if feed.phase is not Phase.PENDING:
            feed.enter(Phase.PENDING)
            feed.changes = feed.topic.watch.changes
            feed.subscriber.outbox.notify(feed)

    def _texts(self, feed: WindowFeed) -> list[str]:
        """Return what was not sent yet, and mark it as sent.

        The statistics must already be computed.
        """
        topic, present = feed.topic, feed.subscriber.present
        texts = []
        if feed.pending_deleted:
            feed.pending_deleted = False
            texts.append(present(topic.watch.symbol, topic.k, Kind.DELETED, None))
        text = topic.text(present, Kind.SNAPSHOT if feed.needs_snapshot else Kind.UPDATE)
        if text is not None and (feed.needs_snapshot or feed.sent < topic.watch.answers_sequence):
            feed.needs_snapshot = False
            feed.sent = topic.watch.answers_sequence
            texts.append(text)
        return texts

    def _begin_intervals(self, feeds: list[WindowFeed]) -> None:
        now = self._clock()
        for feed in feeds:
            if feed.phase is not Phase.ENDED:
                feed.sent_at = now
                feed.enter(Phase.WAITING)
                self._intervals.put(feed)
