"""What Prometheus is told: `GET /metrics`, right across workers.

Here it is counted; :mod:`~financial_data_service.server.exposition` puts it into words. Counts lie
in the rows of :mod:`~financial_data_service.server.counters`; each row is laid out as follows, the
routes of the application in the order of their names::

    gauges   | process id, connections, subscribers, requests in flight, …
    counters | dropped updates, …
    requests | for each route and lane: a count for each status
    seconds  | for each route and lane: a histogram
    syncs    | a histogram

A histogram is a count for each bucket and the sum in nanoseconds.

The fast lane touches none of this: it counts by itself. Ten times a second, and when this
process is asked, they are added to the row; so what other workers have answered may be a tenth of a
second old. Not each request is measured, but the first of each known query after that, and one
batch in :data:`SAMPLED_ONE_IN`; it stands for those before it. Prices are not counted at all: the
sequence of a symbol is their number, whoever brought them.

Cardinality: routes are those of the application, statuses are a list, symbols are at most
``max_symbols``. Nothing that a client can choose becomes a label.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, FastAPI, Request, Response

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import FdsError
from financial_data_service.server.accept import best_type
from financial_data_service.server.counters import GAUGE_WORDS, ROW_WORDS, Counters
from financial_data_service.storage import disk

__all__ = ["FAST", "SAMPLED_ONE_IN", "SLOW", "Metrics", "Scrape", "Tally", "router_for"]

SLOW, FAST = 0, 1
LANES = ("slow", "fast")

SAMPLED_ONE_IN = 64
"""One batch of the fast lane in so many is measured: to write down what the clock said takes longer
than to read it."""

UNMATCHED = ("other", "unmatched")
"""Method and route of whatever no route has taken: neither may be the client's own words."""

STATUSES = (
    *(101, 200, 201, 204, 206, 301, 302, 304, 307, 308),
    *(400, 401, 403, 404, 405, 406, 408, 409, 411, 412, 413, 414, 415, 416, 422, 426, 429, 431),
    *(499, 500, 501, 503, 507, 0),
)
_STATUS_INDEX = {status: index for index, status in enumerate(STATUSES)}
_OTHER_STATUS = len(STATUSES) - 1

# Three to a decade: the fast lane's microseconds, the slow lane's half millisecond, a recomputed
# window's second.
_REQUEST_BUCKETS = (
    *(2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4),
    *(1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.0, 10.0),
)
_SYNC_BUCKETS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.0, 10.0)

# Words of a row that tell of now, and one that counts.
PID, CONNECTIONS, SUBSCRIBERS, IN_FLIGHT = range(4)
DROPPED = GAUGE_WORDS
_FIRST = GAUGE_WORDS + 8

_MEDIA_TYPES = ("text/plain", "application/openmetrics-text")

_NANOSECONDS = 1_000_000_000


class Histogram:
    """A histogram in a row: where it is, and how it is read and written."""

    __slots__ = ("_nanoseconds", "begin", "buckets")

    def __init__(self, begin: int, buckets: tuple[float, ...]) -> None:
        self.begin = begin
        self.buckets = buckets
        self._nanoseconds = [int(bucket * _NANOSECONDS) for bucket in buckets]

    @property
    def end(self) -> int:
        """First word behind: the buckets, the one that has no bound, the sum."""
        return self.begin + len(self.buckets) + 2

    def observe(self, row: memoryview, nanoseconds: int, times: int = 1) -> None:
        """Count a duration, or as many of it."""
        row[self.begin + bisect_left(self._nanoseconds, nanoseconds)] += times
        row[self.end - 1] += nanoseconds * times

    def read(self, rows: Iterable[memoryview]) -> tuple[list[tuple[float, int]], float]:
        """Return the bounds of the buckets with cumulative counts, and the sum in seconds."""
        columns = zip(*(row[self.begin : self.end] for row in rows), strict=True)
        words = [sum(column) for column in columns]
        bounds = [*self.buckets, float("inf")]
        counts = np.cumsum(words[:-1]).tolist()
        return list(zip(bounds, counts, strict=True)), words[-1] / _NANOSECONDS


class Tally:
    """Requests of one kind that the fast lane has answered; for one thread.

    Batches are counted here, queries by whoever knows them.

    Attributes
    ----------
    left : int
        Batches until one is measured, that one included. The fast lane takes 1 off for each, and
        calls :meth:`sampled` for the one that makes it 0.
    """

    __slots__ = ("_every", "_histogram", "_noted", "_row", "_word", "left")

    def __init__(self, row: memoryview, word: int, histogram: Histogram, every: int) -> None:
        self._row = row
        self._word = word
        self._histogram = histogram
        self._every = self.left = every
        self._noted = 0  # of those since the last that was measured

    def sampled(self, nanoseconds: int) -> None:
        """Count the request that was measured, which stands for those that were not."""
        self._row[self._word] += self._every - self._noted
        self._histogram.observe(self._row, nanoseconds, self._every)
        self._noted = 0
        self.left = self._every

    def fold(self) -> None:
        """Add what has been answered since to the row."""
        answered = self._every - self.left
        self._row[self._word] += answered - self._noted
        self._noted = answered

    def count(self, requests: int) -> None:
        """Count requests that are counted elsewhere first."""
        self._row[self._word] += requests

    def measured(self, nanoseconds: int, times: int) -> None:
        """Note how long one of them took, as often as it stands for others."""
        self._histogram.observe(self._row, nanoseconds, times)

    @classmethod
    def unread(cls) -> Tally:
        """Return one that nobody reads."""
        histogram = Histogram(1, ())
        row = memoryview(bytearray(8 * histogram.end)).cast("q")
        return cls(row, 0, histogram, SAMPLED_ONE_IN)


class Layout:
    """Where in a row the words of each route are.

    Parameters
    ----------
    routes : iterable of (str, str)
        Method and path of each.
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

    def seconds(self, route: tuple[str, str], lane: int) -> Histogram:
        """Return the histogram of a route in a lane."""
        return self._histograms[self._index(route, lane)]

    def _index(self, route: tuple[str, str], lane: int) -> int:
        place = self._place.get(route)
        if place is None:
            place = len(self.routes) - 1
        return place * len(LANES) + lane


class Symbol(NamedTuple):
    """A symbol as of one moment; the view keeps its memory mapped as long as it is looked at."""

    name: str
    sequence: int
    size_bytes: int
    region: npt.NDArray[np.float64]


class Scrape(NamedTuple):
    """All that is told at one time.

    Attributes
    ----------
    layout : Layout
        Where in a row what is.
    rows : list of memoryview
        Of all workers.
    symbols : list of Symbol
        Those that can be used.
    k_max : int
        Of the largest window.
    max_symbols, refused : int
        Symbols there may be; files that cannot be served.
    """

    layout: Layout
    rows: list[memoryview]
    symbols: list[Symbol]
    k_max: int
    max_symbols: int
    refused: int


class Metrics:
    """What one process counts, and what is told of all.

    Parameters
    ----------
    app : FastAPI
        The application, with its symbols, and with a hub of streams or without.
    routes : iterable of (str, str)
        Method and path of each of its routes.
    counters : Counters
        Of all workers.
    index : int
        Which row is this process's.
    """

    def __init__(
        self,
        app: FastAPI,
        routes: Iterable[tuple[str, str]],
        counters: Counters | None = None,
        index: int = 0,
    ) -> None:
        self._app = app
        self._counters = counters or Counters()
        self._row = self._counters.rows[index]
        self._layout = Layout(routes)
        self._tallies: dict[tuple[str, str, int], Tally] = {}
        self._every = 1 if app.state.settings.access_log else SAMPLED_ONE_IN
        self._syncs: deque[int] = deque()
        self._dropped = 0
        # The server sets what counts its connections, and what tells of the fast lane.
        self.connections: Callable[[], int] = int
        self.fast_lane: Callable[[], None] = lambda: None
        self.in_flight = 0

    def start(self) -> None:
        """Say that this process serves, and hear of syncs to disk."""
        self._row[PID] = os.getpid()
        disk.on_sync = self._syncs.append

    def stop(self) -> None:
        """Count what is left to be counted, and say that this process has ended."""
        if disk.on_sync == self._syncs.append:
            disk.on_sync = None
        self.fold()
        self._row[:GAUGE_WORDS] = memoryview(bytes(8 * GAUGE_WORDS)).cast("q")

    def count(self, method: str, path: str | None, status: int, nanoseconds: int) -> None:
        """Count a request of the slow lane; without a path, one that no route has taken."""
        route = UNMATCHED if path is None else (method, label(path))
        self._row[self._layout.word(route, SLOW, status)] += 1
        self._layout.seconds(route, SLOW).observe(self._row, nanoseconds)

    def count_refused(self, status: int) -> None:
        """Count what was refused before it was a request."""
        self._row[self._layout.word(UNMATCHED, SLOW, status)] += 1

    def tally(self, method: str, path: str, status: int) -> Tally:
        """Return the tally of one kind of request in the fast lane; always the same one."""
        route = method, label(path)
        tally = self._tallies.get((*route, status))
        if tally is None:
            word = self._layout.word(route, FAST, status)
            tally = Tally(self._row, word, self._layout.seconds(route, FAST), self._every)
            self._tallies[*route, status] = tally
        return tally

    def fold(self) -> None:
        """Bring this process's row up to date."""
        row = self._row
        self.fast_lane()
        for tally in self._tallies.values():
            tally.fold()
        while self._syncs:  # Other threads append.
            self._layout.syncs.observe(row, self._syncs.popleft())
        row[CONNECTIONS] = self.connections()
        row[IN_FLIGHT] = self.in_flight
        hub = getattr(self._app.state, "hub", None)
        row[SUBSCRIBERS] = getattr(hub, "subscribers", 0)
        dropped = getattr(hub, "dropped_updates", 0)
        row[DROPPED] += dropped - self._dropped
        self._dropped = dropped

    def scrape(self) -> Scrape:
        """Return everything there is to tell, for any thread to put into words."""
        self.fold()
        manager: SymbolManager = self._app.state.manager
        return Scrape(
            self._layout,
            self._counters.rows,
            list(_symbols(manager)),
            manager.k_max,
            manager.max_symbols,
            len(manager.refused),
        )


def router_for() -> APIRouter:
    """Return the route of ``/metrics``."""
    router = APIRouter()

    @router.get(
        "/metrics",
        tags=["health"],
        summary="Counts and times, for Prometheus",
        response_class=Response,
        responses={200: _documentation()},
    )
    async def metrics(request: Request) -> Response:
        """Return counts and times of all workers in Prometheus's text format.

        Who prefers OpenMetrics by `Accept` gets that.
        """
        scrape = request.app.state.metrics.scrape()
        wanted = best_type(", ".join(request.headers.getlist("accept")), _MEDIA_TYPES)

        def text() -> tuple[bytes, str]:
            from financial_data_service.server import exposition  # Only who is asked needs it.

            # Who wants neither is a browser or a mistake.
            return exposition.text(scrape, wanted or _MEDIA_TYPES[0])

        # Some milliseconds for many symbols, in which the event loop has better things to do.
        content, content_type = await asyncio.to_thread(text)
        return Response(content, headers={"content-type": content_type, "vary": "Accept"})

    return router


def _documentation() -> dict[str, Any]:
    example = 'fds_symbols 1.0\nfds_prices_total{symbol="AAPL"} 3.0\n'
    schema = {"type": "string"}
    return {
        "description": "All metrics of all workers",
        "content": {
            "text/plain": {"schema": schema, "example": example},
            "application/openmetrics-text": {"schema": schema, "example": f"{example}# EOF\n"},
        },
    }


def label(path: str) -> str:
    """Return the label of a route: its path, with or without a slash at the end."""
    return path.rstrip("/") or "/"


def _symbols(manager: SymbolManager) -> Iterator[Symbol]:
    for name in manager.symbols():
        with suppress(FdsError):  # It cannot be used, or another process has deleted it just now.
            running_stats = manager[name]
            sequence = running_stats.sequence
            if sequence >= 0:
                yield Symbol(name, sequence, running_stats.size_bytes, running_stats.ring.region)
