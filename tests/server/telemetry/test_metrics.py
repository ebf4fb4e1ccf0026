"""What Prometheus is told: exposition to the letter, right across lanes and workers, and bounded.

Clocks are replaced where times are compared; several workers are asked until they have told each
other, which takes them a second at most.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families

from financial_data_service.server.app import create_app
from financial_data_service.server.connection import fast_lane, head_cache
from financial_data_service.server.telemetry import counter_row
from financial_data_service.server.telemetry.counter_row import (
    SAMPLED_ONE_IN,
    FastCounter,
    Histogram,
    Layout,
)
from financial_data_service.server.telemetry.counters import GAUGE_WORDS, Counters
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.paths import ROOT
from support.raw_http import batch, get, post
from support.service_process import LIGHT, Service, running, started
from support.wire import Wire

WORKERS = (*LIGHT, "--workers", "2")
DEADLINE_SECONDS = 20.0

# What depends on the machine.
MACHINE = re.compile(r"^(# (HELP|TYPE) )?(process_|fds_resident_bytes|fds_build)")

GOLDEN = """\
fds_requests_total{lane="slow",method="GET",route="/livez",status="200"} 1.0
fds_requests_total{lane="slow",method="GET",route="/stats/{symbol}/{k}",status="404"} 1.0
fds_requests_total{lane="fast",method="GET",route="/stats/{symbol}/{k}",status="200"} 2.0
fds_requests_total{lane="fast",method="POST",route="/add_batch",status="200"} 1.0
fds_requests_total{lane="fast",method="POST",route="/add_batch",status="201"} 1.0
fds_requests_total{lane="slow",method="other",route="unmatched",status="404"} 2.0
fds_connections{worker="1"} 0.0
fds_requests_in_flight{worker="1"} 0.0
fds_stream_subscribers{worker="1"} 0.0
fds_stream_dropped_updates_total 0.0
fds_workers 1.0
fds_symbols 1.0
fds_symbols_max 10.0
fds_symbols_refused 0.0
fds_prices_total{symbol="A\\"\\\\"} 3.0
fds_window_fill_ratio{k="1",symbol="A\\"\\\\"} 0.3
fds_window_fill_ratio{k="2",symbol="A\\"\\\\"} 0.03
fds_window_fill_ratio{k="3",symbol="A\\"\\\\"} 0.003
fds_mapped_bytes{symbol="A\\"\\\\"} 176128.0
fds_sync_seconds_count 0.0
fds_sync_seconds_sum 0.0
"""


class Clock:
    """Each look at it is 1.5 µs after the last."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1500
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fast_lane, "perf_counter_ns", clock)
    monkeypatch.setattr(time, "perf_counter_ns", clock)
    return clock


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        wire.service.metrics.start()
        yield wire
        wire.service.metrics.stop()


def exposition(wire: Wire, *headers: str) -> str:
    reply = wire.connect().ask(get("/metrics", *headers))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK"), head
    return body.decode()


Samples = dict[str, dict[tuple[str, ...], float]]


def samples(text: str) -> Samples:
    """Return values by name and values of labels, these in the order of their names."""
    found: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def samples_of(service: Service) -> Samples:
    reply = service.ask(get("/metrics"))
    assert reply.status == 200, reply
    return samples(reply.body.decode())


def total(found: Samples, name: str, *labels: str) -> float:
    return sum(value for key, value in found.get(name, {}).items() if set(labels) <= set(key))


def poll(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- One process


def test_exposition_of_a_known_course(wire: Wire, clock: Clock) -> None:
    symbol = 'A"\\'
    connection = wire.connect()
    requests = [
        *(post(batch(symbol, [1.0, 2.0, 4.0])), post(batch(symbol, [4.0], 2))),
        *(get("/stats/A%22%5C/1"), get("/stats/A%22%5C/3"), get("/stats/X/1")),
        *(get("/livez"), get("/nowhere"), get("/stats/S/1/2/3", method="DELETE")),
    ]
    for request in requests:
        assert connection.ask(request)
    lines = exposition(wire).splitlines()
    told = [line for line in lines if not MACHINE.match(line) and not line.startswith("#")]
    seconds = [line for line in told if line.startswith("fds_request_seconds")]
    buckets = [line for line in told if line.startswith("fds_sync_seconds_bucket")]
    assert "\n".join(set_apart(told, seconds, buckets)) + "\n" == GOLDEN
    assert len(buckets) == 14
    # Two looks at the clock: 1.5 µs, which is within the first bucket.
    of_probe = [line for line in seconds if 'route="/livez"' in line]
    labels = 'lane="slow",le="2e-06",method="GET",route="/livez"'
    assert of_probe[0] == f"fds_request_seconds_bucket{{{labels}}} 1.0"
    labels = 'lane="slow",method="GET",route="/livez"'
    assert of_probe[-1] == f"fds_request_seconds_sum{{{labels}}} 1.5e-06"
    assert 'lane="fast"' not in "".join(seconds), "none of so few is measured"


def set_apart(lines: list[str], *others: list[str]) -> list[str]:
    apart = {line for other in others for line in other}
    return [line for line in lines if line not in apart]


def test_every_family_is_explained_and_named_as_prometheus_wants(wire: Wire) -> None:
    families = list(parser.text_string_to_metric_families(exposition(wire)))
    assert len({family.name for family in families}) == len(families) >= 20
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert re.fullmatch(r"(fds|process)_[a-z_]+", family.name)
    units = ("_seconds", "_bytes", "_ratio", "_max", "_info")
    counted = ("connections", "subscribers", "in_flight", "symbols", "refused", "workers", "_fds")
    for family in families:
        if family.type in ("gauge", "histogram"):
            assert family.name.endswith((*units, *counted)), family.name


def test_openmetrics_for_who_asks_for_it(wire: Wire) -> None:
    connection = wire.connect()
    connection.ask(post(batch("S", [1.0])))
    reply = connection.ask(get("/metrics", "Accept: application/openmetrics-text; version=1.0.0"))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"content-type: application/openmetrics-text; version=1.0.0" in head
    assert openmetrics.exposition.CONTENT_TYPE_LATEST.startswith("application/openmetrics-text")
    names = {family.name for family in open_families(body.decode())}  # type: ignore[no-untyped-call]
    assert {"fds_requests", "fds_request_seconds", "fds_prices", "fds_build"} <= names


PLAIN, OPEN = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("Accept:", PLAIN),
        ("Accept: */*", PLAIN),
        ("Accept: text/*", PLAIN),
        ("Accept: image/png", PLAIN),
        ("Accept: application/*", OPEN),
        ("Accept: APPLICATION/openmetrics-text", OPEN),
        ("Accept: text/plain;q=1, application/openmetrics-text;q=0.1", PLAIN),
        ("Accept: application/openmetrics-text;q=0.1, text/plain;q=1", PLAIN),
        ("Accept: text/plain;q=0.1, application/openmetrics-text;q=0.2", OPEN),
        ("Accept: application/openmetrics-text;q=0", PLAIN),
        ("Accept: application/openmetrics-text;q=0, */*", PLAIN),
        ("Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text", OPEN),
        (  # as Prometheus sends it
            "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
            "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            OPEN,
        ),
    ],
)
def test_the_format_is_the_one_that_is_preferred(
    wire: Wire, accept: str, content_type: str
) -> None:
    head, _, body = wire.connect().ask(get("/metrics", accept)).partition(b"\r\n\r\n")
    assert f"content-type: {content_type}".encode() in head
    assert b"vary: Accept" in head
    assert body.endswith(b"# EOF\n") == (content_type == OPEN)


def test_a_deleted_symbol_is_told_of_no_more(wire: Wire) -> None:
    connection = wire.connect()
    connection.ask(post(batch("GONE", [1.0])))
    assert "GONE" in exposition(wire)
    connection.ask(get("/symbols/GONE", method="DELETE"))
    assert "GONE" not in exposition(wire)


def test_nothing_a_client_chooses_becomes_a_label(wire: Wire) -> None:
    connection = wire.connect()
    for target in ("/evil", "/stats/evil/1", "/stats/evil/evil", "/symbols/evil", "/?evil=1"):
        connection.ask(get(target))
        connection.ask(get(target, method="PROPFIND"))
    text = exposition(wire)
    assert "evil" not in text
    assert "PROPFIND" not in text
    assert total(samples(text), "fds_requests_total") == 10


def test_both_lanes_count_the_same() -> None:
    requests = [post(batch("S", [1.0]))] + [get("/stats/S/1"), get("/stats/?symbol=S&k=2")] * 100
    counts = {}
    for is_fast in (False, True):
        with Wire(fast_lane=is_fast) as wire:
            connection = wire.connect()
            connection.ask(b"".join(requests))
            found = samples(exposition(wire))
        counts[is_fast] = {
            tuple(set(key) - {"slow", "fast"}): value
            for key, value in found["fds_requests_total"].items()
        }
        (lane,) = {"slow", "fast"} & {part for key in found["fds_requests_total"] for part in key}
        assert lane == ("fast" if is_fast else "slow")
    assert {frozenset(key): value for key, value in counts[False].items()} == {
        frozenset(key): value for key, value in counts[True].items()
    }


def test_the_fast_lane_measures_one_query_for_many(wire: Wire, clock: Clock) -> None:
    connection = wire.connect()
    connection.ask(post(batch("S", [1.0])))
    route = "/stats/{symbol}/{k}"
    for answered in range(10, 40, 10):
        looks = clock.now
        for _ in range(10):
            connection.ask(get("/stats/S/1"))
        is_first = answered == 10
        assert (clock.now - looks) // 1500 == (0 if is_first else 2)
        found = samples(exposition(wire))
        assert total(found, "fds_requests_total", route) == answered
        # The first after the last time that was told stands for the ten that were told of then.
        measured = 0 if is_first else answered - 9
        assert total(found, "fds_request_seconds_count", route) == measured
        seconds = total(found, "fds_request_seconds_sum", route)
        assert seconds == pytest.approx(measured * 1.5e-6)


def test_the_fast_lane_measures_one_batch_in_many(wire: Wire) -> None:
    connection = wire.connect()
    for _ in range(2 * SAMPLED_ONE_IN + 5):
        connection.ask(post(batch("S", [1.0])))
    found = samples(exposition(wire))
    assert total(found, "fds_requests_total", "/add_batch") == 2 * SAMPLED_ONE_IN + 5
    assert total(found, "fds_request_seconds_count", "/add_batch") == 2 * SAMPLED_ONE_IN


def test_queries_are_counted_that_were_forgotten_since(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_cache, "KNOWN_HEADS_MAX", 3)
    connection = wire.connect()
    connection.ask(post(batch("S", [1.0])))
    for number in range(20):
        connection.ask(get("/stats/S/1", f"User-Agent: {number}"))
    assert len(wire.lane.known) <= 3
    found = samples(exposition(wire))
    assert total(found, "fds_requests_total", "/stats/{symbol}/{k}", "fast") == 20


@given(st.lists(st.one_of(st.none(), st.integers(0, 200))))
def test_a_tally_counts_each_request_once(course: list[int | None]) -> None:
    """None is a fold, a number so many requests."""
    row = Counters().rows[0]
    histogram = Histogram(100, (1e-6,))
    counter = FastCounter(row, 50, histogram, SAMPLED_ONE_IN)
    answered = 0
    for step in course:
        if step is None:
            counter.flush()
            assert row[50] == answered
        else:
            for _ in range(step):
                counter.left -= 1
                if not counter.left:
                    counter.sampled(500)
            answered += step
            assert row[50] <= answered < row[50] + SAMPLED_ONE_IN
    measured = answered // SAMPLED_ONE_IN * SAMPLED_ONE_IN
    buckets, seconds = histogram.read([row])
    assert buckets == [(1e-6, measured), (math.inf, measured)]
    assert seconds == pytest.approx(measured * 5e-7)


def test_a_histogram_counts_what_lies_on_a_bound_below_it() -> None:
    row = Counters().rows[0]
    histogram = Histogram(20, (1e-6, 1e-3))
    for nanoseconds in (0, 1000, 1001, 1_000_000, 1_000_001):
        histogram.observe(row, nanoseconds)
    buckets, seconds = histogram.read([row])
    assert buckets == [(1e-6, 2), (1e-3, 4), (math.inf, 5)]
    assert seconds == pytest.approx(0.002002002)


def test_no_word_of_a_row_has_two_meanings() -> None:
    routes = [("GET", f"/{number}") for number in range(40)]
    layout = Layout(routes)
    words = [
        layout.word(route, lane, status)
        for route in layout.routes
        for lane in (0, 1)
        for status in counter_row.STATUSES
    ]
    for route in layout.routes:
        for lane in (0, 1):
            histogram = layout.seconds(route, lane)
            words += range(histogram.begin, histogram.end)
    words += range(layout.syncs.begin, layout.syncs.end)
    assert len(set(words)) == len(words)
    assert min(words) > counter_row.DROPPED


def test_what_a_worker_said_of_now_goes_with_it() -> None:
    counters = Counters(2)
    for row in counters.rows:
        for word in (0, GAUGE_WORDS - 1, GAUGE_WORDS, 1000):
            row[word] = 7
    counters.retire(1)
    assert [counters.rows[1][word] for word in (0, GAUGE_WORDS - 1, GAUGE_WORDS, 1000)] == [
        *(0, 0, 7, 7)
    ]
    assert counters.rows[0][0] == 7


def test_streams_are_told_of(wire: Wire) -> None:
    class Hub:
        subscribers = 3
        dropped_updates = 5

    wire.service.metrics.streams = hub = Hub()
    text = exposition(wire)
    assert "# HELP fds_stream_subscribers Clients subscribed" in text
    found = samples(text)
    assert found["fds_stream_subscribers"] == {("1",): 3}
    assert found["fds_stream_dropped_updates_total"] == {(): 5}
    hub.dropped_updates = 6
    assert samples(exposition(wire))["fds_stream_dropped_updates_total"] == {(): 6}


def test_an_application_without_streams_has_metrics(wire: Wire) -> None:
    wire.service.metrics.streams = None
    assert samples(exposition(wire))["fds_stream_subscribers"] == {("1",): 0}


def test_memory_grows_as_prices_come(wire: Wire) -> None:
    connection = wire.connect()
    connection.ask(post(batch("S", [1.0])))
    found = samples(exposition(wire))
    before = found["fds_resident_bytes"]["S",]
    assert 0 < before < found["fds_mapped_bytes"]["S",]
    for _ in range(5):
        connection.ask(post(batch("S", [1.0] * 10_000)))
    found = samples(exposition(wire))
    assert before < found["fds_resident_bytes"]["S",] <= found["fds_mapped_bytes"]["S",]


@pytest.mark.parametrize("durability", ["process", "power"])
def test_syncs_to_disk_are_timed(tmp_path: Path, durability: str) -> None:
    settings = Settings(largest_window=1000, data_dir=tmp_path, durability=durability)  # type: ignore[arg-type]
    with InProcess(create_app(settings)) as client:
        before = samples(client.get("/metrics").text)["fds_sync_seconds_count"][()]
        for _ in range(3):
            client.post("/add_batch/", json={"symbol": "S", "values": [1.0]})
        found = samples(client.get("/metrics").text)
        syncs = found["fds_sync_seconds_count"][()] - before
        assert syncs >= (3 if durability == "power" else 0)
        assert found["fds_sync_seconds_sum"][()] > 0 or syncs == 0


# --- Several


def test_workers_are_told_of_as_one(tmp_path: Path) -> None:
    """Whoever is asked; and when one is killed, counts go on from where they were."""
    with started(tmp_path, WORKERS) as service:
        assert service.add(batch("S", [1.0, 2.0])).status == 201
        for _ in range(30):
            service.get("/stats/S/1")  # a connection each, so that both get some
            service.get("/livez")

        def all_told() -> bool:
            found = samples_of(service)
            return (
                total(found, "fds_requests_total", "/stats/{symbol}/{k}", "fast") == 30
                and total(found, "fds_requests_total", "/livez") == 30
                and found["fds_prices_total"] == {("S",): 2}
                and found["fds_workers"] == {(): 2}
                and len(found["process_resident_memory_bytes"]) == 2
            )

        for _ in range(3):
            poll(all_told)
        victim = next(iter(workers_of(service)))
        os.kill(victim, signal.SIGKILL)
        poll(lambda: len(set(workers_of(service)) - {victim}) == 2)
        poll(lambda: samples_of(service)["fds_workers"] == {(): 2})
        found = samples_of(service)
        assert total(found, "fds_requests_total", "/livez") == 30
        assert total(found, "fds_connections") <= 2
        service.get("/livez")
        poll(lambda: total(samples_of(service), "fds_requests_total", "/livez") == 31)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0


def workers_of(service: Service) -> list[int]:
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def test_connections_and_requests_that_never_became_one(tmp_path: Path) -> None:
    with running(tmp_path) as service, service.connect() as connection, service.connect():
        assert connection.is_usable()
        poll(lambda: total(samples_of(service), "fds_connections") == 3)


def test_what_was_refused_before_it_was_a_request_is_counted(wire: Wire) -> None:
    wire.connect().ask(b"nonsense\r\n\r\n")
    endless = wire.connect()
    endless.send(b"GET / HTTP/1.1\r\n")
    endless.ask(b"A: b\r\n" * 20_000)
    wire.connect().ask(get("/livez") + b"nonsense\r\n\r\n")
    found = samples(exposition(wire))
    assert total(found, "fds_requests_total", "unmatched", "400") == 2
    assert total(found, "fds_requests_total", "unmatched", "431") == 1
    assert total(found, "fds_requests_total", "/livez", "200") == 1


# --- What reads them


def metrics_named_in(value: Any) -> set[str]:
    """Return the metrics in the queries of a dashboard or of rules, however deep they stand."""
    if isinstance(value, dict):
        own = {value["expr"]} if isinstance(value.get("expr"), str) else set()
        inner = [metrics_named_in(each) for each in value.values()]
        names = {name for text in own for name in re.findall(r"\b(?:fds|process)_[a-z_]+", text)}
        return names.union(*inner)
    if isinstance(value, list):
        return set().union(*map(metrics_named_in, value))
    return set()


def test_the_dashboard_reads_what_there_is(wire: Wire) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
    named = metrics_named_in(dashboard)
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus-rules.yml").read_text())
    named |= metrics_named_in(rules)
    connection = wire.connect()
    for _ in range(SAMPLED_ONE_IN):
        connection.ask(post(batch("S", [1.0])))
    exported = set(samples(exposition(wire)))
    assert named <= exported, named - exported
    # And shows all that there is.
    told = {re.sub("_(bucket|count|sum)$", "", name) for name in exported}
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name in named}
    assert {name for name in told - shown if name.startswith("fds_")} == set()
