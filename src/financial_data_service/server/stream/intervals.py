"""The feeds whose interval is not over, in the order in which they become due."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from financial_data_service.server.stream.feeds import Phase, WindowFeed

__all__ = ["IntervalQueue"]

_ENTRIES_MIN = 64  # Shorter heaps are never searched for superseded entries.


class IntervalQueue:
    """A heap of waiting feeds. A feed that is put in again supersedes its former entry."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, WindowFeed]] = []
        self._entries = 0
        self._search_at = _ENTRIES_MIN

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, feed: WindowFeed) -> None:
        """Put a waiting feed in, due one interval after it sent. Amortised O(log n)."""
        feed.due = feed.sent_at + feed.interval
        self._entries += 1  # Feeds due at the same time keep their order and are not compared.
        heapq.heappush(self._heap, (feed.due, self._entries, feed))
        if len(self._heap) > self._search_at:
            self._heap = [entry for entry in self._heap if _is_valid(entry[0], entry[2])]
            heapq.heapify(self._heap)
            self._search_at = 2 * len(self._heap) + _ENTRIES_MIN

    def pop_due(self, now: float) -> Iterator[WindowFeed]:
        """Take out the feeds whose interval is over, in order."""
        while self._heap and self._heap[0][0] <= now:
            due, _, feed = heapq.heappop(self._heap)
            if _is_valid(due, feed):
                yield feed


def _is_valid(due: float, feed: WindowFeed) -> bool:
    """Whether an entry still counts: its feed waits, and no later entry superseded this one."""
    return feed.phase is Phase.WAITING and feed.due == due
