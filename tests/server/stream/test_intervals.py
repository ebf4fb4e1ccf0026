"""Waiting feeds become due in order; superseded entries do not count and do not pile up."""

from __future__ import annotations

import random

from financial_data_service.server.stream.feeds import (
    Phase,
    Subscriber,
    SymbolWatch,
    Topic,
    WindowFeed,
)
from financial_data_service.server.stream.intervals import IntervalQueue
from financial_data_service.server.stream.outbox import Outbox


def feed(sent_at: float = 0.0, interval: float = 1.0) -> WindowFeed:
    topic = Topic(SymbolWatch("A"), 1)
    made = WindowFeed(lambda _feed: [], Subscriber(Outbox(), lambda *_: ""), topic)
    made.sent_at, made.interval = sent_at, interval
    made.enter(Phase.WAITING)
    return made


def test_feeds_become_due_in_order_of_time_then_of_entry() -> None:
    queue = IntervalQueue()
    feeds = [feed(interval=seconds) for seconds in (3.0, 1.0, 2.0, 1.0)]
    for each in feeds:
        queue.put(each)
    assert list(queue.pop_due(0.99)) == []
    assert list(queue.pop_due(1.0)) == [feeds[1], feeds[3]]
    assert list(queue.pop_due(10.0)) == [feeds[2], feeds[0]]
    assert len(queue) == 0


def test_a_feed_that_is_put_in_again_is_due_once() -> None:
    queue = IntervalQueue()
    one = feed(interval=5.0)
    queue.put(one)
    one.interval = 1.0
    queue.put(one)
    assert list(queue.pop_due(1.0)) == [one]
    one.enter(Phase.IDLE)
    assert list(queue.pop_due(10.0)) == []


def test_a_feed_that_no_longer_waits_is_not_due() -> None:
    queue = IntervalQueue()
    one, other = feed(), feed()
    queue.put(one)
    queue.put(other)
    one.enter(Phase.ENDED)
    assert list(queue.pop_due(2.0)) == [other]


def test_superseded_entries_do_not_pile_up() -> None:
    queue = IntervalQueue()
    rng = random.Random(3)
    feeds = [feed() for _ in range(100)]
    for _ in range(5000):
        each = rng.choice(feeds)
        each.sent_at = rng.random()
        queue.put(each)
        assert len(queue) <= 2 * len(feeds) + 65
    due = [each.due for each in queue.pop_due(10.0)]
    assert due == sorted(due)
    assert len(due) == len(feeds)  # each of them once
