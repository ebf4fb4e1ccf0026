"""The text of ``GET /metrics``, in the formats of Prometheus.

This module is imported at the first request for metrics: prometheus_client would slow down the
start of the service.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from functools import cache

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

from financial_data_service.server.telemetry.counter_row import (
    CONNECTIONS,
    DROPPED,
    FAST,
    IN_FLIGHT,
    LANES,
    PID,
    SAMPLED_ONE_IN,
    SLOW,
    STATUSES,
    SUBSCRIBERS,
    Histogram,
    Scrape,
)
from financial_data_service.version import __version__

__all__ = ["text"]


def text(scrape: Scrape, media_type: str) -> tuple[bytes, str]:
    """Return the metrics as text, and its type.

    Parameters
    ----------
    scrape : Scrape
        The counts to expose.
    media_type : str
        The format: Prometheus's text format or OpenMetrics.
    """
    # prometheus_client is not used for this, because it takes the first known type in the header
    # and ignores its weight.
    encoder, content_type = choose_encoder(media_type)
    registry = CollectorRegistry()
    registry.register(_Exposition(scrape))
    return encoder(registry), content_type


class _Exposition(Collector):
    """All metrics of one scrape.

    Parameters
    ----------
    scrape : Scrape
        The counts to expose.
    """

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape
        self._layout = scrape.layout
        self._rows = scrape.rows

    def collect(self) -> Iterator[Metric]:
        """Return every family, each with its samples.

        After each the interpreter's lock is free for a moment. Otherwise the event loop would get
        it only after 5 ms.
        """
        for family in self._families():
            yield family
            time.sleep(0)

    def _families(self) -> Iterator[Metric]:
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
            "Requests answered. Lane fast: without the web framework; slow: by the framework. "
            "Status 101: a WebSocket was accepted; 499: the client had closed the connection; 0: "
            "any unusual status.",
            labels=("method", "route", "lane", "status"),
        )
        for route, lane in self._kinds():
            counts = self._layout.read_requests(route, lane, self._rows)
            for status, count in zip(STATUSES, counts, strict=True):
                if count:
                    family.add_metric([*route, LANES[lane], str(status)], count)
        return family

    def _seconds(self) -> Metric:
        family = HistogramMetricFamily(
            "fds_request_seconds",
            "Time from the arrival of a request's head until its reply is handed to the system; "
            "for event streams and WebSockets, until they begin. The fast lane measures a sample "
            f"(ten of each query a second, one batch in {SAMPLED_ONE_IN}), from the arrival of the "
            "last byte. A sample also counts for the requests since the last one, so _count "
            "follows fds_requests_total in steps.",
            labels=("method", "route", "lane"),
        )
        for route, lane in self._kinds():
            histogram = self._layout.seconds(route, lane)
            if histogram.holds_any(self._rows):
                family.add_metric([*route, LANES[lane]], *_read(histogram, self._rows))
        return family

    def _kinds(self) -> Iterator[tuple[tuple[str, str], int]]:
        for route in self._layout.routes:
            for lane in (SLOW, FAST):
                yield route, lane

    def _of_workers(self) -> Iterator[Metric]:
        gauges = {
            "fds_connections": (CONNECTIONS, "Connections open, WebSockets among them."),
            "fds_requests_in_flight": (
                IN_FLIGHT,
                "Requests in progress. Above the limit they are answered with 429. The fast lane "
                "answers a complete request in one step, so it only has batches in progress whose "
                "body is still arriving.",
            ),
            "fds_stream_subscribers": (
                SUBSCRIBERS,
                "Clients subscribed to statistics, by WebSocket or server-sent events. Each counts "
                "once.",
            ),
        }
        for name, (word, text) in gauges.items():
            family = GaugeMetricFamily(name, text, labels=("worker",))
            for worker, row in self._serving():
                family.add_metric([worker], row[word])
            yield family
        yield CounterMetricFamily(
            "fds_stream_dropped_updates",
            "Updates that were not sent to a slow subscriber because a newer one replaced them.",
            sum(row[DROPPED] for row in self._rows),
        )
        yield GaugeMetricFamily("fds_workers", "Processes that serve.", len(list(self._serving())))

    def _serving(self) -> Iterator[tuple[str, memoryview]]:
        for index, row in enumerate(self._rows):
            if row[PID]:
                yield str(index + 1), row

    def _of_symbols(self) -> Iterator[Metric]:
        scrape = self._scrape
        yield GaugeMetricFamily("fds_symbols", "Symbols served.", len(scrape.symbols))
        yield GaugeMetricFamily("fds_symbols_max", "Symbols kept at most.", scrape.max_symbols)
        yield GaugeMetricFamily(
            "fds_symbols_refused",
            "Files of the data directory that cannot be served; GET /readyz names them.",
            scrape.refused,
        )
        prices = CounterMetricFamily(
            "fds_prices",
            "Prices ever appended to a symbol: its sequence. With a data directory it continues "
            "after a restart. A deleted symbol disappears, and starts from 0 when it is created "
            "again.",
            labels=("symbol",),
        )
        fill = GaugeMetricFamily(
            "fds_window_fill_ratio",
            "Fill of the window of the last 10^k prices, 0 to 1. Its statistics cover the prices "
            "that exist.",
            labels=("symbol", "k"),
        )
        mapped = GaugeMetricFamily(
            "fds_mapped_bytes",
            "Address space of a symbol's ring, allocated at its first price. Every worker maps the "
            "same bytes.",
            labels=("symbol",),
        )
        resident = GaugeMetricFamily(
            "fds_resident_bytes",
            "The part of fds_mapped_bytes in memory, for large rings counted every 30 s at most. "
            "It grows as the ring fills. With a data directory it is page cache, which the system "
            "may reclaim.",
            labels=("symbol",),
        )
        regions = {symbol.name: symbol.region for symbol in scrape.symbols}
        resident_bytes = scrape.resident.of(regions)
        for symbol in scrape.symbols:
            prices.add_metric([symbol.name], symbol.sequence)
            for k in range(1, scrape.k_max + 1):
                fill.add_metric([symbol.name, str(k)], min(1.0, symbol.sequence / 10**k))
            mapped.add_metric([symbol.name], symbol.size_bytes)
            if symbol.name in resident_bytes:
                resident.add_metric([symbol.name], resident_bytes[symbol.name])
        yield from (prices, fill, mapped, resident)

    def _syncs(self) -> Metric:
        buckets, seconds = _read(self._layout.syncs, self._rows)
        return HistogramMetricFamily(
            "fds_sync_seconds",
            "Time of syncs to disk. With durability power each batch waits for one; with process "
            "they run in the background. Without a data directory there are none.",
            buckets,
            seconds,
        )


def _processes(rows: list[memoryview]) -> Iterator[Metric]:
    """Return the process metrics of prometheus_client for every worker.

    The default collector reports only the process that answers, which can be a different worker at
    each scrape.
    """
    families: dict[str, Metric] = {}
    for index, row in enumerate(rows):
        if not row[PID]:
            continue
        # Without this the collector would register itself.
        collector = ProcessCollector(pid=lambda pid=row[PID]: pid, registry=None)  # type: ignore[misc]
        for family in collector.collect():
            known = families.setdefault(family.name, family)
            samples = [
                sample._replace(labels={"worker": str(index + 1)}) for sample in family.samples
            ]
            known.samples = samples if known is family else known.samples + samples
    yield from families.values()


def _read(histogram: Histogram, rows: list[memoryview]) -> tuple[list[tuple[str, float]], float]:
    """Return a histogram of all workers in the form that prometheus_client expects."""
    buckets, seconds = histogram.read(rows)
    return [(_bound(bound), count) for bound, count in buckets], seconds


@cache
def _bound(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]
