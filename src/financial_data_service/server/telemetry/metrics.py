"""The metrics of `GET /metrics`, aggregated over all workers.

This module counts; :mod:`~financial_data_service.server.telemetry.exposition` writes the text. The
counts are in the rows of :mod:`~financial_data_service.server.telemetry.counters`. The layout of a
row, with the routes of the application in the order of their names::

    gauges   | process id, connections, subscribers, requests in flight, …
    counters | dropped updates, …
    requests | for each route and lane: a count for each status
    seconds  | for each route and lane: a histogram
    syncs    | a histogram

A histogram is a count per bucket and the sum in nanoseconds.

The fast lane does not use this module: it counts by itself. Its counts are added to the row ten
times a second, and when this process is asked. So the counts of other workers may be a tenth of a
second old. Only a sample of the requests is measured. For each cached query, the first request
after each flush is measured. For batches, one in :data:`SAMPLED_ONE_IN` is measured. A measured
request also counts for the unmeasured ones before it. Prices need no counter, because a symbol's
sequence is the number of its prices.

Cardinality is bounded. The routes are those of the application, the statuses are a fixed list, and
there are at most ``max_symbols`` symbols. Clients cannot create labels.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol

from fastapi import APIRouter, Request, Response

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import FdsError
from financial_data_service.server.formats.negotiation import best_type
from financial_data_service.server.telemetry.counter_row import (
    CONNECTIONS,
    DROPPED,
    FAST,
    IN_FLIGHT,
    PID,
    SAMPLED_ONE_IN,
    SLOW,
    SUBSCRIBERS,
    UNMATCHED,
    FastCounter,
    RowLayout,
    Scrape,
    SymbolRow,
    label,
)
from financial_data_service.server.telemetry.counters import GAUGE_WORDS, Counters
from financial_data_service.server.telemetry.resident import ResidentBytes

__all__ = ["PATH", "Metrics", "StreamCounts", "router_for"]

PATH = "/metrics"

_MEDIA_TYPES = ("text/plain", "application/openmetrics-text")


class StreamCounts(Protocol):
    """The counts that the metrics read from the stream hub.

    This is a protocol class, because the hub is in a higher layer.
    """

    @property
    def subscribers(self) -> int:
        """Return how many clients are subscribed now."""

    @property
    def dropped_updates(self) -> int:
        """Return the number of updates that were replaced by newer ones before they were sent."""


class Metrics:
    """The counts of one process, and the metrics of all.

    Parameters
    ----------
    manager : SymbolManager
        The symbols.
    routes : iterable of (str, str)
        Method and path of each of its routes.
    counters : Counters
        Of all workers.
    index : int
        Which row is this process's.
    streams : StreamCounts, optional
        What counts the streams, if there are any.
    every : int
        Sampling interval: the fast lane measures one batch out of this many.
    """

    def __init__(
        self,
        manager: SymbolManager,
        routes: Iterable[tuple[str, str]],
        counters: Counters | None = None,
        index: int = 0,
        *,
        streams: StreamCounts | None = None,
        every: int = SAMPLED_ONE_IN,
    ) -> None:
        self._manager = manager
        self.streams = streams
        self._counters = counters or Counters()
        self._row = self._counters.rows[index]
        self._layout = RowLayout(routes)
        self._fast_counters: dict[tuple[str, str, int], FastCounter] = {}
        self._every = every
        self._syncs: deque[int] = deque()
        self._dropped = 0
        # The server sets these two: the number of its connections, and the counts of the fast lane.
        self.connections: Callable[[], int] = int
        self.fast_lane: Callable[[], None] = lambda: None
        self.in_flight = 0
        self.resident = ResidentBytes()

    def start(self) -> None:
        """Record that this process serves, and observe syncs to disk."""
        self._row[PID] = os.getpid()
        self._manager.observe_syncs(self._syncs.append)

    def stop(self) -> None:
        """Count the last requests, and record that this process has ended."""
        self._manager.observe_syncs(None)
        self.resident.wait()  # It reads the page tables of rings that are closed after this.
        self.flush()
        self._row[:GAUGE_WORDS] = memoryview(bytes(8 * GAUGE_WORDS)).cast("q")

    def count(self, method: str, path: str | None, status: int, nanoseconds: int) -> None:
        """Count a request of the slow lane; the path is None if no route matched.

        ``HEAD`` is counted as ``GET``.
        """
        method = "GET" if method == "HEAD" else method
        route = UNMATCHED if path is None else (method, label(path))
        self._row[self._layout.word(route, SLOW, status)] += 1
        self._layout.seconds(route, SLOW).observe(self._row, nanoseconds)

    def count_refused(self, status: int) -> None:
        """Count a refusal that the protocol sent before the request reached the application."""
        self._row[self._layout.word(UNMATCHED, SLOW, status)] += 1

    def counter(self, method: str, path: str, status: int) -> FastCounter:
        """Return the counter of one kind of request in the fast lane, always the same object."""
        route = method, label(path)
        counter = self._fast_counters.get((*route, status))
        if counter is None:
            word = self._layout.word(route, FAST, status)
            counter = FastCounter(self._row, word, self._layout.seconds(route, FAST), self._every)
            self._fast_counters[*route, status] = counter
        return counter

    def flush(self) -> None:
        """Bring the row of this process up to date."""
        row = self._row
        self.fast_lane()
        for counter in self._fast_counters.values():
            counter.flush()
        while self._syncs:  # Other threads append.
            self._layout.syncs.observe(row, self._syncs.popleft())
        row[CONNECTIONS] = self.connections()
        row[IN_FLIGHT] = self.in_flight
        if self.streams is not None:
            row[SUBSCRIBERS] = self.streams.subscribers
            dropped = self.streams.dropped_updates
            row[DROPPED] += dropped - self._dropped
            self._dropped = dropped

    def scrape(self) -> Scrape:
        """Return all metrics; any thread may turn them into text."""
        self.flush()
        manager = self._manager
        return Scrape(
            self._layout,
            self._counters.rows,
            list(_symbols(manager)),
            manager.k_max,
            manager.max_symbols,
            len(manager.refused),
            self.resident,
        )


def router_for(metrics: Metrics) -> APIRouter:
    """Return the route of ``/metrics``."""
    router = APIRouter()

    @router.get(
        PATH,
        tags=["health"],
        name="metrics",
        summary="Counts and times, for Prometheus",
        response_class=Response,
        responses={200: _documentation()},
    )
    async def scrape(request: Request) -> Response:
        """Return counts and times of all workers in Prometheus's text format.

        `Accept` may choose OpenMetrics instead.
        """
        scraped = metrics.scrape()
        wanted = best_type(", ".join(request.headers.getlist("accept")), _MEDIA_TYPES)

        def text() -> tuple[bytes, str]:
            from financial_data_service.server.telemetry import (
                exposition,  # Imported by the process that is asked.
            )

            # A client that accepts neither format is probably a browser, so it gets the text
            # format.
            return exposition.text(scraped, wanted or _MEDIA_TYPES[0])

        # Encode in a thread. With many symbols it takes a few milliseconds, and the event loop must
        # not be blocked.
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


def _symbols(manager: SymbolManager) -> Iterator[SymbolRow]:
    for name in manager.symbols():
        with suppress(FdsError):  # It cannot be used, or another process has just deleted it.
            running_stats = manager[name]
            sequence = running_stats.sequence
            if sequence >= 0:
                yield SymbolRow(name, sequence, running_stats.size_bytes, running_stats.ring.region)
