"""What Prometheus is told: `GET /metrics`, right across workers.

Counts lie in the rows of :mod:`~financial_data_service.server.counters`; each row is laid out as
follows, the routes of the application in the order of their names::

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
import ctypes
import mmap
import os
import platform
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from financial_data_service import __version__
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import FdsError
from financial_data_service.server.accept import best_type
from financial_data_service.server.counters import GAUGE_WORDS, ROW_WORDS, Counters
from financial_data_service.storage import disk

__all__ = ["FAST", "SAMPLED_ONE_IN", "SLOW", "Metrics", "Tally", "router_for"]

SLOW, FAST = 0, 1
_LANES = ("slow", "fast")

SAMPLED_ONE_IN = 64
"""One batch of the fast lane in so many is measured: to write down what the clock said takes longer
than to read it."""

UNMATCHED = ("other", "unmatched")
"""Method and route of whatever no route has taken: neither may be the client's own words."""

_STATUSES = (
    *(101, 200, 201, 204, 206, 301, 302, 304, 307, 308),
    *(400, 401, 403, 404, 405, 406, 408, 409, 411, 412, 413, 414, 415, 416, 422, 426, 429, 431),
    *(499, 500, 501, 503, 507, 0),
)
_STATUS_INDEX = {status: index for index, status in enumerate(_STATUSES)}
_OTHER_STATUS = len(_STATUSES) - 1

# Three to a decade: the fast lane's microseconds, the slow lane's half millisecond, a recomputed
# window's second.
_REQUEST_BUCKETS = (
    *(2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4),
    *(1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.0, 10.0),
)
_SYNC_BUCKETS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.0, 10.0)

# Words of a row that tell of now, and one that counts.
_PID, _CONNECTIONS, _SUBSCRIBERS, _IN_FLIGHT = range(4)
_DROPPED = GAUGE_WORDS
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

    def read(self, rows: Iterable[memoryview]) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative buckets, as prometheus_client wants them, and the sum in seconds."""
        columns = zip(*(row[self.begin : self.end] for row in rows), strict=True)
        words = [sum(column) for column in columns]
        bounds = [*map(_bound, self.buckets), "+Inf"]
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
        seconds = self._requests + len(self.routes) * len(_LANES) * len(_STATUSES)
        self._histograms: list[Histogram] = []
        for _ in range(len(self.routes) * len(_LANES)):
            self._histograms.append(Histogram(seconds, _REQUEST_BUCKETS))
            seconds = self._histograms[-1].end
        self.syncs = Histogram(seconds, _SYNC_BUCKETS)
        assert self.syncs.end <= ROW_WORDS, "a longer row is needed for so many routes"

    def word(self, route: tuple[str, str], lane: int, status: int) -> int:
        """Return the index of the count of a status."""
        index = _STATUS_INDEX.get(status, _OTHER_STATUS)
        return self._requests + self._index(route, lane) * len(_STATUSES) + index

    def seconds(self, route: tuple[str, str], lane: int) -> Histogram:
        """Return the histogram of a route in a lane."""
        return self._histograms[self._index(route, lane)]

    def _index(self, route: tuple[str, str], lane: int) -> int:
        place = self._place.get(route)
        if place is None:
            place = len(self.routes) - 1
        return place * len(_LANES) + lane


class _Symbol(NamedTuple):
    """A symbol as of one moment; the view keeps its memory mapped as long as it is looked at."""

    name: str
    sequence: int
    size_bytes: int
    region: npt.NDArray[np.float64]


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
        self._row[_PID] = os.getpid()
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
        row[_CONNECTIONS] = self.connections()
        row[_IN_FLIGHT] = self.in_flight
        hub = getattr(self._app.state, "hub", None)
        row[_SUBSCRIBERS] = getattr(hub, "subscribers", 0)
        dropped = getattr(hub, "dropped_updates", 0)
        row[_DROPPED] += dropped - self._dropped
        self._dropped = dropped

    def exposition(self) -> Collector:
        """Return everything there is to tell, for any thread to put into words."""
        self.fold()
        manager: SymbolManager = self._app.state.manager
        return _Exposition(self._layout, self._counters.rows, manager, list(_symbols(manager)))


class _Exposition(Collector):
    """All metrics as of one scrape."""

    def __init__(
        self,
        layout: Layout,
        rows: list[memoryview],
        manager: SymbolManager,
        symbols: list[_Symbol],
    ) -> None:
        self._layout = layout
        self._rows = rows
        self._symbols = symbols
        self._k_max = manager.k_max
        self._limits = len(symbols), manager.max_symbols, len(manager.refused)

    def collect(self) -> Iterator[Metric]:
        """Return every family, each with its samples."""
        yield self._requests()
        yield self._seconds()
        yield from self._of_workers()
        yield from self._of_symbols()
        yield self._syncs()
        build = InfoMetricFamily("fds_build", "Always 1; the labels say what is running.")
        python = f"{platform.python_implementation()} {platform.python_version()}"
        build.add_metric([], {"version": __version__, "python": python})
        yield build
        yield from _processes(self._rows)

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "fds_requests",
            "Requests answered. Lane fast: answered before the framework was asked; slow: by the "
            "framework. Status 0: none of the usual ones; 101: a WebSocket was accepted; 499: the "
            "client had gone.",
            labels=("method", "route", "lane", "status"),
        )
        for route, lane in self._kinds():
            for status in _STATUSES:
                word = self._layout.word(route, lane, status)
                count = sum(row[word] for row in self._rows)
                if count:
                    family.add_metric([*route, _LANES[lane], str(status)], count)
        return family

    def _seconds(self) -> Metric:
        family = HistogramMetricFamily(
            "fds_request_seconds",
            "Time from when a request is there, its body on the way perhaps, to when its reply is "
            "handed to the system; of an event stream and a WebSocket, to its beginning. The fast "
            "lane measures a sample (of each query ten a second, one batch in "
            f"{SAMPLED_ONE_IN}) from the last byte's arrival, and counts each for those before it: "
            "_count follows fds_requests_total in steps.",
            labels=("method", "route", "lane"),
        )
        for route, lane in self._kinds():
            buckets, seconds = self._layout.seconds(route, lane).read(self._rows)
            if buckets[-1][1]:
                family.add_metric([*route, _LANES[lane]], buckets, seconds)
        return family

    def _kinds(self) -> Iterator[tuple[tuple[str, str], int]]:
        for route in self._layout.routes:
            for lane in (SLOW, FAST):
                yield route, lane

    def _of_workers(self) -> Iterator[Metric]:
        gauges = {
            "fds_connections": (_CONNECTIONS, "Connections open, WebSockets among them."),
            "fds_requests_in_flight": (
                _IN_FLIGHT,
                "Requests under way; beyond the limit they are answered 429. The fast lane answers "
                "within one step what is there as a whole, and has none under way but batches "
                "whose body is still arriving.",
            ),
            "fds_stream_subscribers": (
                _SUBSCRIBERS,
                "Clients subscribed to statistics, by WebSocket or as server-sent events, each "
                "counted once whatever it subscribes to.",
            ),
        }
        for name, (word, text) in gauges.items():
            family = GaugeMetricFamily(name, text, labels=("worker",))
            for worker, row in self._serving():
                family.add_metric([worker], row[word])
            yield family
        yield CounterMetricFamily(
            "fds_stream_dropped_updates",
            "Updates that a slow subscriber was never sent because a newer one took their place.",
            sum(row[_DROPPED] for row in self._rows),
        )
        yield GaugeMetricFamily("fds_workers", "Processes that serve.", len(list(self._serving())))

    def _serving(self) -> Iterator[tuple[str, memoryview]]:
        for index, row in enumerate(self._rows):
            if row[_PID]:
                yield str(index + 1), row

    def _of_symbols(self) -> Iterator[Metric]:
        count, count_max, refused = self._limits
        yield GaugeMetricFamily("fds_symbols", "Symbols served.", count)
        yield GaugeMetricFamily("fds_symbols_max", "Symbols kept at most.", count_max)
        yield GaugeMetricFamily(
            "fds_symbols_refused",
            "Files of the data directory that cannot be served; GET /readyz names them.",
            refused,
        )
        prices = CounterMetricFamily(
            "fds_prices",
            "Prices ever appended to a symbol, by whatever way: its sequence. With a data "
            "directory it goes on over restarts; a symbol that is deleted is told of no more, and "
            "begins anew.",
            labels=("symbol",),
        )
        fill = GaugeMetricFamily(
            "fds_window_fill_ratio",
            "How full the window of the last 10^k prices is, 0 to 1; its statistics are over what "
            "there is.",
            labels=("symbol", "k"),
        )
        mapped = GaugeMetricFamily(
            "fds_mapped_bytes",
            "Address space of a symbol's ring, taken at its first price; every worker maps the "
            "same bytes.",
            labels=("symbol",),
        )
        resident = GaugeMetricFamily(
            "fds_resident_bytes",
            "What of fds_mapped_bytes is in memory: it grows as the ring fills. With a data "
            "directory it is page cache, which the system may take back.",
            labels=("symbol",),
        )
        for symbol in self._symbols:
            prices.add_metric([symbol.name], symbol.sequence)
            for k in range(1, self._k_max + 1):
                fill.add_metric([symbol.name, str(k)], min(1.0, symbol.sequence / 10**k))
            mapped.add_metric([symbol.name], symbol.size_bytes)
            resident_bytes = _resident_bytes(symbol.region)
            if resident_bytes is not None:
                resident.add_metric([symbol.name], resident_bytes)
        yield from (prices, fill, mapped, resident)

    def _syncs(self) -> Metric:
        buckets, seconds = self._layout.syncs.read(self._rows)
        return HistogramMetricFamily(
            "fds_sync_seconds",
            "Time that syncs to disk took. Durability power waits for one with each batch; process "
            "has them in the background. Without a data directory there are none.",
            buckets,
            seconds,
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
        exposition = request.app.state.metrics.exposition()
        # prometheus_client takes the first type that it knows, whatever its weight, and is asked
        # for the one that is wanted most. Who wants neither is a browser or a mistake.
        wanted = best_type(", ".join(request.headers.getlist("accept")), _MEDIA_TYPES)
        encoder, content_type = choose_encoder(wanted or _MEDIA_TYPES[0])

        def text() -> bytes:
            registry = CollectorRegistry()
            registry.register(exposition)
            return encoder(registry)

        # Some milliseconds for many symbols, in which the event loop has better things to do.
        headers = {"content-type": content_type, "vary": "Accept"}
        return Response(await asyncio.to_thread(text), headers=headers)

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


def _symbols(manager: SymbolManager) -> Iterator[_Symbol]:
    for name in manager.symbols():
        with suppress(FdsError):  # It cannot be used, or another process has deleted it just now.
            running_stats = manager[name]
            sequence = running_stats.sequence
            if sequence >= 0:
                yield _Symbol(name, sequence, running_stats.size_bytes, running_stats.ring.region)


def _processes(rows: list[memoryview]) -> Iterator[Metric]:
    """Return what prometheus_client tells of a process, for every worker.

    Its own collector tells of whoever is asked: a different worker with each scrape.
    """
    families: dict[str, Metric] = {}
    for index, row in enumerate(rows):
        if not row[_PID]:
            continue
        # None is a registry, too: it would register itself.
        collector = ProcessCollector(pid=lambda pid=row[_PID]: pid, registry=None)  # type: ignore[misc]
        for family in collector.collect():
            known = families.setdefault(family.name, family)
            samples = [
                sample._replace(labels={"worker": str(index + 1)}) for sample in family.samples
            ]
            known.samples = samples if known is family else known.samples + samples
    yield from families.values()


def _resident_bytes(region: npt.NDArray[np.float64]) -> int | None:
    """Return how much of a mapped region is in memory; None where the system does not tell."""
    if _mincore is None or region.nbytes == 0:
        return None
    page_bytes = mmap.PAGESIZE
    pages = np.zeros(-(-region.nbytes // page_bytes), dtype=np.uint8)
    address = region.ctypes.data
    if _mincore(address, region.nbytes, pages.ctypes.data) != 0:
        return None
    return int(np.count_nonzero(pages & 1)) * page_bytes


def _find_mincore() -> Any:
    function = getattr(ctypes.CDLL(None), "mincore", None)
    if function is not None:
        function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return function


_mincore = _find_mincore()


def _bound(seconds: float) -> str:
    return str(floatToGoString(seconds))  # type: ignore[no-untyped-call]
