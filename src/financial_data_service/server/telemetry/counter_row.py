"""The layout of a row of counters, and the counters that the fast lane updates itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service.server.telemetry.counters import GAUGE_WORDS, ROW_WORDS
from financial_data_service.server.telemetry.resident import ResidentBytes

__all__ = ["FAST", "SAMPLED_ONE_IN", "SLOW", "FastCounter", "Scrape"]

SLOW, FAST = 0, 1
LANES = ("slow", "fast")

SAMPLED_ONE_IN = 64
"""One batch of the fast lane in so many is measured: to write down what the clock said takes longer
than to read it."""

UNMATCHED = ("other", "unmatched")
"""Method and route labels of requests that no route matched.

The client's own method and path are never used as labels.
"""

STATUSES = (
    *(101, 200, 201, 204, 206, 301, 302, 304, 307, 308),
    *(400, 401, 403, 404, 405, 406, 408, 409, 411, 412, 413, 414, 415, 416, 422, 426, 429, 431),
    *(499, 500, 501, 503, 507, 0),
)
_STATUS_INDEX = {status: index for index, status in enumerate(STATUSES)}
_OTHER_STATUS = len(STATUSES) - 1

# Three buckets per decade. They cover the fast lane (microseconds), the slow lane (half a
# millisecond) and a recomputed window (a second).
_REQUEST_BUCKETS = (
    *(2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4),
    *(1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.0, 10.0),
)
_SYNC_BUCKETS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.0, 10.0)

# Words of a row that are gauges, and one counter.
PID, CONNECTIONS, SUBSCRIBERS, IN_FLIGHT = range(4)
DROPPED = GAUGE_WORDS
_FIRST = GAUGE_WORDS + 8

_NANOSECONDS = 1_000_000_000


class Histogram:
    """A histogram in a row of counters. It knows its position, and reads and writes its words."""

    __slots__ = ("_nanoseconds", "begin", "buckets")

    def __init__(self, begin: int, buckets: tuple[float, ...]) -> None:
        self.begin = begin
        self.buckets = buckets
        self._nanoseconds = [int(bucket * _NANOSECONDS) for bucket in buckets]

    @property
    def end(self) -> int:
        """First word after the histogram: after the buckets, the unbounded bucket and the sum."""
        return self.begin + len(self.buckets) + 2

    def observe(self, row: memoryview, nanoseconds: int, times: int = 1) -> None:
        """Count a duration, or several equal ones."""
        row[self.begin + bisect_left(self._nanoseconds, nanoseconds)] += times
        row[self.end - 1] += nanoseconds * times

    def holds_any(self, rows: Iterable[memoryview]) -> bool:
        """Return whether a duration was ever counted."""
        return any(any(row[self.begin : self.end - 1]) for row in rows)

    def read(self, rows: Iterable[memoryview]) -> tuple[list[tuple[float, int]], float]:
        """Return the bounds of the buckets with cumulative counts, and the sum in seconds."""
        columns = zip(*(row[self.begin : self.end] for row in rows), strict=True)
        words = [sum(column) for column in columns]
        bounds = [*self.buckets, float("inf")]
        counts = np.cumsum(words[:-1]).tolist()
        return list(zip(bounds, counts, strict=True)), words[-1] / _NANOSECONDS


class FastCounter:
    """Requests of one kind that the fast lane has answered. One thread.

    This class counts batches. The cached replies of the fast lane count queries and report them
    here.

    Attributes
    ----------
    left : int
        Number of batches up to and including the next measured one. The fast lane subtracts 1 for
        each batch, and calls :meth:`sampled` for the one that makes it 0.
    """

    __slots__ = ("_every", "_histogram", "_noted", "_row", "_word", "left")

    def __init__(self, row: memoryview, word: int, histogram: Histogram, every: int) -> None:
        self._row = row
        self._word = word
        self._histogram = histogram
        self._every = self.left = every
        self._noted = 0  # since the last measured one

    def sampled(self, nanoseconds: int) -> None:
        """Count the measured request and the unmeasured requests before it."""
        self._row[self._word] += self._every - self._noted
        self._histogram.observe(self._row, nanoseconds, self._every)
        self._noted = 0
        self.left = self._every

    def flush(self) -> None:
        """Add to the row what was answered since the last call."""
        answered = self._every - self.left
        self._row[self._word] += answered - self._noted
        self._noted = answered

    def count(self, requests: int) -> None:
        """Count requests that were counted elsewhere first."""
        self._row[self._word] += requests

    def measured(self, nanoseconds: int, times: int) -> None:
        """Record the duration of a request, once for each request that it stands for."""
        self._histogram.observe(self._row, nanoseconds, times)

    @classmethod
    def unread(cls) -> FastCounter:
        """Return a counter whose counts are discarded."""
        histogram = Histogram(1, ())
        row = memoryview(bytearray(8 * histogram.end)).cast("q")
        return cls(row, 0, histogram, SAMPLED_ONE_IN)


class RowLayout:
    """The words of each route within a row.

    Parameters
    ----------
    routes : iterable of (str, str)
        Method and path of each route.
    """

    def __init__(self, routes: Iterable[tuple[str, str]]) -> None:
        self.routes = [*sorted({(method, label(path)) for method, path in routes}), UNMATCHED]
        self._place = {route: place for place, route in enumerate(self.routes)}
        self._requests = _FIRST
        seconds = self._requests + len(self.routes) * len(LANES) * len(STATUSES)
        self._histograms: list[Histogram] = []
        for _ in range(len(self.routes) * len(LANES)):
            self._histograms.append(Histogram(seconds, _REQUEST_BUCKETS))
            seconds = self._histograms[-1].end
        self.syncs = Histogram(seconds, _SYNC_BUCKETS)
        assert self.syncs.end <= ROW_WORDS, "a longer row is needed for so many routes"

    def word(self, route: tuple[str, str], lane: int, status: int) -> int:
        """Return the index of the count of a status."""
        index = _STATUS_INDEX.get(status, _OTHER_STATUS)
        return self._requests + self._index(route, lane) * len(STATUSES) + index

    def read_requests(
        self, route: tuple[str, str], lane: int, rows: Iterable[memoryview]
    ) -> list[int]:
        """Return the counts of all rows together, for each of :data:`STATUSES`."""
        begin = self._requests + self._index(route, lane) * len(STATUSES)
        columns = zip(*(row[begin : begin + len(STATUSES)] for row in rows), strict=True)
        return [sum(column) for column in columns]

    def seconds(self, route: tuple[str, str], lane: int) -> Histogram:
        """Return the histogram of a route in a lane."""
        return self._histograms[self._index(route, lane)]

    def _index(self, route: tuple[str, str], lane: int) -> int:
        place = self._place.get(route)
        if place is None:
            place = len(self.routes) - 1
        return place * len(LANES) + lane


class SymbolRow(NamedTuple):
    """A symbol at one moment. Holding the view keeps the symbol's memory mapped."""

    name: str
    sequence: int
    size_bytes: int
    region: npt.NDArray[np.float64]


class Scrape(NamedTuple):
    """Everything that one reply of ``/metrics`` contains.

    Attributes
    ----------
    layout : RowLayout
        Layout of the rows.
    rows : list of memoryview
        The rows of all workers.
    symbols : list of SymbolRow
        The symbols that can be served.
    k_max : int
        Exponent of the largest window.
    max_symbols, refused : int
        Maximum number of symbols; number of files that cannot be served.
    resident : ResidentBytes
        Counts how much of the symbols' rings is in memory.
    """

    layout: RowLayout
    rows: list[memoryview]
    symbols: list[SymbolRow]
    k_max: int
    max_symbols: int
    refused: int
    resident: ResidentBytes


def label(path: str) -> str:
    """Return the label of a route: its path, with or without a slash at the end."""
    return path.rstrip("/") or "/"
