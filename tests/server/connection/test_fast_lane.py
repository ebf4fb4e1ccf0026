"""The fast lane: what it keeps, what it leaves alone, and that no client can tell that it exists.

A protocol with the fast lane and one without read the same bytes in the same pieces, and must write
the same. There is no socket, so every read ends where the test says.
Access log and root path are compared over real sockets.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.app import create_app
from financial_data_service.server.connection.fast_lane import FastLaneProtocol
from financial_data_service.server.connection.head_cache import FastLane
from financial_data_service.server.connection.http_protocol import LimitedHttpProtocol
from financial_data_service.server.processes.uvicorn_setup import http_protocol_for
from financial_data_service.settings import Settings
from support.raw_http import FLOAT64_TYPE, batch, get, post, post_chunked, post_float64
from support.service_process import LIGHT, Service, end, started
from support.wire import Wire

BODY = batch("S", [1.0, 2.5])
QUERY = get("/stats/S/1")


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


@pytest.fixture
def slow_wire() -> Iterator[Wire]:
    with Wire(fast_lane=False) as wire:
        yield wire


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What goes on to uvicorn, read by read."""
    reads: list[bytes] = []
    pass_on = LimitedHttpProtocol.data_received

    def note(protocol: LimitedHttpProtocol, data: bytes) -> None:
        reads.append(data)
        pass_on(protocol, data)

    monkeypatch.setattr(LimitedHttpProtocol, "data_received", note)
    return reads


# --- What it takes, and what it leaves alone


@pytest.mark.parametrize(
    "request_bytes",
    [
        QUERY,
        get("/stats/S/3", "Accept: */*", "User-Agent: x"),
        get("/stats/?symbol=S&k=2"),
        get("/stats?k=2&symbol=S"),
        get("/stats/%53/1"),
        b"\r\n" + QUERY,
        post(BODY),
        post(batch("S", [1.0], 0)),
        post(BODY, content_type="application/json; charset=utf-8"),
        post(batch("new", [1.0])),
        post_float64("S", [1.0, -0.0]),
        post_float64("%53", [1.0] * 10_000),
        post_float64("BTC%2FUSDT", [1.0]),
        post_float64("S", [1.0], query="?from_sequence=0"),
        post_float64("S", [1.0], "User-Agent: x", query="?from_sequence=1"),
        post_float64("new", [1.0]),
    ],
)
def test_plain_requests_are_taken(
    wire: Wire, handed_over: list[bytes], request_bytes: bytes
) -> None:
    """Else every comparison below would compare the slow lane with itself."""
    wire.manager.add_batch("S", [1.0])
    connection = wire.connect()
    for _ in range(3):
        assert connection.ask(request_bytes).startswith(b"HTTP/1.1 20")
    assert handed_over == []


LEFT_ALONE = {
    "no such symbol": get("/stats/X/1"),
    "no such window": get("/stats/S/9"),
    "another spelling of a window": get("/stats/S/01"),
    "all windows": get("/stats/S"),
    "another length": get("/stats/S?last=3"),
    "more than asked for": get("/stats/?symbol=S&k=1&x=1"),
    "asked twice": get("/stats/?symbol=S&k=1&k=2"),
    "a query behind a path": get("/stats/S/1?k=2"),
    "HEAD": get("/stats/S/1", method="HEAD"),
    "HTTP/1.0": get("/stats/S/1", version="1.0"),
    "closing": get("/stats/S/1", "Connection: close"),
    "an upgrade": get("/stats/S/1", "Connection: Upgrade", "Upgrade: h2c"),
    "a query with a body": get("/stats/S/1", "Content-Length: 2") + b"{}",
    "chunked": post_chunked([BODY]),
    "told to wait": post(BODY, "Expect: 100-continue"),
    "no type": post(BODY, content_type=None),
    "two types": post(BODY, "Content-Type: text/plain"),
    "no body": post(b""),
    "no price": post(batch("S", [])),
    "an invalid price": post(b'{"symbol":"S","values":[1,NaN]}'),
    "too many prices": post(batch("S", [1.0] * 10_001)),
    "a gap": post(batch("S", [1.0], 99)),
    "a control character": post(batch("S\n", [1.0])),
    "a bracket": post(batch("[", [1.0])),
    "broken off": post(BODY[:-1]),
    "an invalid price in binary": post_float64("S", [1.0, math.nan]),
    "no price in binary": post_float64("S", []),
    "too many prices in binary": post_float64("S", [1.0] * 10_001),
    "no whole prices": post(b"1234567", content_type=FLOAT64_TYPE, target="/add_batch/S"),
    "a gap in binary": post_float64("S", [1.0], query="?from_sequence=99"),
    "another spelling of a sequence": post_float64("S", [1.0], query="?from_sequence=01"),
    "a sequence of many digits": post_float64("S", [1.0], query=f"?from_sequence={10**18}"),
    "another parameter": post_float64("S", [1.0], query="?from_sequence=1&x=1"),
    "an invalid symbol in binary": post_float64("S%0A", [1.0]),
    "a fragment in binary": post_float64("S#", [1.0]),
    "binary in chunks": post_chunked(
        [b"12345678"], content_type=FLOAT64_TYPE, target="/add_batch/S"
    ),
    "JSON for a symbol in the path": post(b"[1.0]", target="/add_batch/S"),
    "values": get("/values/S"),
    "no HTTP": b"garbage\r\n\r\n",
    "an invalid head": get("/stats/S/1", "A : b"),
}


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_all_else_is_handed_over_byte_for_byte(
    wire: Wire, slow_wire: Wire, handed_over: list[bytes], kind: str
) -> None:
    request = LEFT_ALONE[kind]
    for each in (wire, slow_wire):
        each.manager.add_batch("S", [1.0])
    expected = slow_wire.connect().ask(request)
    handed_over.clear()
    assert wire.connect().ask(request) == expected
    assert handed_over == [request]
    # The second time the head is known, and the decision is the same.
    assert wire.connect().ask(QUERY + request).startswith(b"HTTP/1.1 200 ")
    assert handed_over == [request, request]


def test_fast_and_slow_requests_in_any_order(wire: Wire, slow_wire: Wire) -> None:
    requests = [QUERY, post(BODY), get("/stats/X/1"), post_chunked([BODY])]
    for order in itertools.permutations(requests):
        stream = b"".join([*order, QUERY])
        said = wire.connect().ask(stream)
        assert said == slow_wire.connect().ask(stream)
        assert said.count(b"HTTP/1.1 ") == 5


def test_requests_split_at_every_byte(wire: Wire) -> None:
    stream = post(BODY) + QUERY + post_float64("S", [3.0, 4.5]) + QUERY
    expected = wire.connect().ask(stream)
    for boundary in range(1, len(stream)):
        for answered_between in (False, True):
            wire.manager.delete("S")
            connection = wire.connect()
            connection.send(stream[:boundary])
            said = connection.receive() if answered_between else b""
            assert said + connection.ask(stream[boundary:]) == expected, boundary


STREAM = b"".join(
    [
        *(post(BODY), QUERY, post(b'{"symbol":"S","values":[1}'), post(BODY), get("/stats/S")),
        *(post_float64("S", [7.0, 8.0]), QUERY, post_float64("S", [math.nan]), QUERY),
    ]
)


@pytest.mark.parametrize("size", [1, 2, 3, 50, 151])
def test_requests_in_pieces(wire: Wire, size: int) -> None:
    expected = wire.connect().ask(STREAM)
    wire.manager.delete("S")
    connection = wire.connect()
    said = b""
    for begin in range(0, len(STREAM), size):
        said += connection.ask(STREAM[begin : begin + size])
    assert said == expected


# --- A client that does not read, a server that stops, a client that goes


@pytest.mark.parametrize("request_bytes", [QUERY, post(BODY), post(BODY) + QUERY])
def test_while_writing_is_paused_requests_wait_with_uvicorn(
    wire: Wire, handed_over: list[bytes], request_bytes: bytes
) -> None:
    wire.manager.add_batch("S", [1.0])
    connection = wire.connect()
    connection.protocol.pause_writing()
    assert connection.ask(request_bytes) == b""
    assert handed_over == [request_bytes]
    connection.protocol.resume_writing()
    assert connection.receive().count(b"HTTP/1.1 20") == request_bytes.count(b"HTTP/1.1")
    # Once they are answered the fast lane is open again.
    assert connection.ask(QUERY).startswith(b"HTTP/1.1 200 ")
    assert handed_over == [request_bytes]


def test_writing_that_pauses_while_a_body_arrives(wire: Wire, handed_over: list[bytes]) -> None:
    connection = wire.connect()
    connection.send(post(BODY)[:-5])
    connection.protocol.pause_writing()
    connection.send(BODY[-5:] + QUERY)
    assert handed_over == [post(BODY) + QUERY]
    assert connection.receive() == b""
    connection.protocol.resume_writing()
    assert connection.receive().count(b'"sequence":2}') == 2


def test_a_server_that_stops_answers_the_batch_that_is_arriving(wire: Wire) -> None:
    connection = wire.connect()
    connection.send(post(BODY)[:-5])
    connection.protocol.shutdown()
    assert not connection.is_closed
    connection.send(BODY[-5:-2])
    said = connection.ask(BODY[-2:] + post(BODY))
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in said
    assert connection.is_closed
    assert wire.manager["S"].sequence == 2


def test_a_server_that_stops_closes_what_is_idle(wire: Wire) -> None:
    for request in (b"", post(BODY), get("/livez")):
        connection = wire.connect()
        if request:
            connection.ask(request)
        connection.protocol.shutdown()
        assert connection.is_closed


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@pytest.mark.parametrize("part", [post(BODY)[:-1], post(BODY)[: -len(BODY)], post(BODY)[:30]])
def test_a_client_that_goes_stores_nothing(
    wire: Wire, part: bytes, error: Exception | None
) -> None:
    connection = wire.connect()
    connection.send(part)
    connection.protocol.eof_received()
    connection.protocol.connection_lost(error)
    assert connection.receive() == b""
    assert not wire.manager.symbols()
    assert not wire.state.connections
    connection.protocol.shutdown()


def test_the_fast_lane_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, base in (
        ("0", LimitedHttpProtocol),
        ("1", FastLaneProtocol),
        (None, FastLaneProtocol),
    ):
        if value is None:
            monkeypatch.delenv("FDS_FAST_LANE")
        else:
            monkeypatch.setenv("FDS_FAST_LANE", value)
        settings = Settings(largest_window=1000)
        protocol = http_protocol_for(create_app(settings).state.service)
        assert protocol.__bases__[-1] is base
        assert hasattr(protocol, "lane") == (base is FastLaneProtocol)


def test_limits_are_those_of_the_settings() -> None:
    with Wire(body_max_bytes=1024, batch_max=3, largest_window=100) as wire:
        connection = wire.connect()
        assert connection.ask(post(batch("S", [1.0] * 3))).startswith(b"HTTP/1.1 201 ")
        assert connection.ask(post(batch("S", [1.0] * 4))).startswith(b"HTTP/1.1 422 ")
        assert connection.ask(get("/stats/S/2")).startswith(b"HTTP/1.1 200 ")
        assert connection.ask(get("/stats/S/3")).startswith(b"HTTP/1.1 422 ")
        assert connection.ask(post(BODY + b" " * 1024)).startswith(b"HTTP/1.1 413 ")


TARGETS = [
    "/stats/A%2F%F0%9F%9A%80%20b/1",
    "/stats/A%2f%f0%9f%9a%80%20b/1",
    "/stats/?symbol=A%2F%F0%9F%9A%80+b&k=1",
    "/stats?k=1&symbol=%41%2F%F0%9F%9A%80%20b",
    "/stats/S/1",
    "/stats/%53/1",
    "/stats/S/9",
    "/stats/~%7E%22%26;'%28:@!$/1",
    "/stats/X%0A/1",
    "/stats/?symbol=S&k=x%20y",
    "/stats/S/1?",
    "/a%20b/stats/S/1",
    "/a%20b/c/stats/S/1",
    "/add_batch",
    "/docs",
]
"""Of which the fast lane takes some."""


def told_and_logged(service: Service) -> tuple[list[tuple[int, bytes]], str]:
    """What the service answers to all targets, and what it logs of it."""
    requests = [post(batch(symbol, [1.0])) for symbol in ("A/\N{ROCKET} b", "S", "~~\"&;'(:@!$")]
    requests += [post(BODY).replace(b"/add_batch/", b"/add_batch"), post(b"{}"), post(BODY)]
    requests += [request for target in TARGETS for request in [get(target)] * 2]
    told = []
    with service.connect() as connection:
        for request in requests:
            reply = connection.ask(request)
            told.append((reply.status, reply.body))
    end(service)
    assert service.process.stdout is not None
    log = service.process.stdout.read().partition("/docs\n")[2]
    assert log.count("\n") == len(requests)
    log = re.sub(r" \[[0-9a-f]{32}\]$", "", log, flags=re.MULTILINE)  # of the slow lane alone
    return told, re.sub(r"127\.0\.0\.1:\d+", "client", log)


def test_access_log_and_root_path_are_the_same_in_both_lanes(tmp_path: Path) -> None:
    variables = {"FDS_ACCESS_LOG": "1", "FDS_ROOT_PATH": "/a b/c"}
    found = {}
    for lane in "01":
        with started(tmp_path, LIGHT, FDS_FAST_LANE=lane, **variables) as service:
            found[lane] = told_and_logged(service)
    assert found["0"] == found["1"]
    log = found["1"][1]
    assert 'INFO:     client - "GET /a%20b/c/stats/S/1 HTTP/1.1" 200 OK\n' in log
    assert '"GET /a%20b/c/stats/?symbol=A%2F%F0%9F%9A%80+b&k=1 HTTP/1.1" 200 OK\n' in log


def test_a_log_that_names_the_client_behind_a_proxy_is_left_to_uvicorn() -> None:
    head = get("/stats/S/1", "X-Forwarded-For: 192.0.2.7")
    for access_log in (False, True):
        lane = FastLane(SymbolManager(), Settings(access_log=access_log))
        assert (lane.classify(head) is None) == access_log
        assert lane.classify(get("/stats/S/1")) is not None
