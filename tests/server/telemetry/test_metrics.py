"""The metrics count every request once, in both lanes and over all workers, and stay bounded.

Clocks are replaced where times are compared; several workers are asked until they have told each
other, which takes them a second at most.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from financial_data_service.server.app import create_app
from financial_data_service.server.connection import head_cache
from financial_data_service.server.telemetry.counter_row import (
    SAMPLED_ONE_IN,
)
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.metrics_text import Clock, Samples, exposition, samples
from support.raw_http import batch, get, post
from support.service_process import LIGHT, Service, running, started
from support.wire import Wire

WORKERS = (*LIGHT, "--workers", "2")
DEADLINE_SECONDS = 20.0


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
        # The first request after a flush is measured, and counts for the ten before it.
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
