"""The text of ``GET /metrics``, to the letter, and the dashboard and rules that read it."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml  # type: ignore[import-untyped]
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families

from financial_data_service.server.telemetry.counter_row import (
    SAMPLED_ONE_IN,
)
from support.metrics_text import Clock, exposition, samples
from support.paths import ROOT
from support.raw_http import batch, get, post
from support.wire import Wire

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
