"""The monitor's subscription, against a stub that can fail in every way a test wants.

The stub speaks HTTP and WebSocket on one port, as the service does.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from financial_data_service.client import Limits, RefusedFile
from financial_data_service.monitor.feed import Feed
from financial_data_service.monitor.snapshot import Snapshot

SYMBOLS = {
    "symbols": [{"symbol": "A", "sequence": 2, "values": 2}],
    "max_symbols": 10,
    "largest_window": 1000,
    "batch_max": 10_000,
}
KEYS = {"right": "the-right-key-of-the-tests", "wrong": "another-key-of-the-tests"}
METRICS = """\
# TYPE fds_requests_total counter
fds_requests_total{lane="fast",method="GET",route="/a b{c}",status="200"} 1.5e+03
fds_requests_total{lane="slow",method="GET",route="/metrics",status="200"} 7.0
fds_requests_total_of_another 9.0
# TYPE process_start_time_seconds gauge
process_start_time_seconds{worker="1"} 1.0e+09
process_start_time_seconds{worker="2"} 1.1e+09
"""


class Stub:
    """A service that says what it is told to."""

    def __init__(self) -> None:
        self.replies: dict[str, tuple[int, str]] = {
            "/symbols": (200, json.dumps(SYMBOLS)),
            "/metrics": (200, METRICS),
            "/readyz": (200, '{"status": "ok"}'),
        }
        self.answer = '{"result": null, "id": 1}'
        self.key: str | None = None
        self.questions: list[dict[str, Any]] = []
        self.connections: list[ServerConnection] = []
        self.port = 0
        self.answers = threading.Event()  # While it is cleared, nobody gets an answer.
        self.answers.set()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.server: Server = serve(
            self._on_connection, "127.0.0.1", self.port, process_request=self._on_request
        )
        self.port = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        self.answers.set()
        for connection in self.connections:
            connection.close()
        self.connections.clear()
        self.server.shutdown()
        self.thread.join()

    def say(self, **message: Any) -> None:
        self.connections[-1].send(json.dumps(message))

    def _on_request(self, _: ServerConnection, request: Request) -> Response | None:
        self.answers.wait()
        if self.key is not None and request.headers.get("X-API-Key") != self.key:
            status, body = 401, '{"detail": "no"}'
        elif request.path == "/stream":
            return None
        else:
            status, body = self.replies[request.path]
        headers = {"Date": formatdate(usegmt=True), "Connection": "close"}
        headers["Content-Length"] = str(len(body))
        return Response(status, HTTPStatus(status).phrase, Headers(headers), body.encode())

    def _on_connection(self, connection: ServerConnection) -> None:
        try:
            self.questions.append(json.loads(connection.recv()))
            connection.send(self.answer)
            self.connections.append(connection)
            connection.recv()
        except ConnectionClosed:
            pass


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.stop()


@pytest.fixture
def feed(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feed]:
    monkeypatch.setattr("financial_data_service.monitor.feed.POLL_SECONDS", 0.1)
    with Feed(stub.url + "/") as feed:
        yield feed


def until(feed: Feed, condition: Callable[[Snapshot], object]) -> Snapshot:
    """Return the first snapshot of which the condition is true."""
    deadline = time.monotonic() + 20
    while not condition(snapshot := feed.board.snapshot()):
        assert time.monotonic() < deadline, snapshot
        time.sleep(0.005)
    return snapshot


def is_subscribed(stub: Stub) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.is_online and len(stub.connections) == 1


def test_it_subscribes_to_every_window_of_all_symbols(stub: Stub, feed: Feed) -> None:
    snapshot = until(feed, is_subscribed(stub))
    streams = ["stats.*.1@250ms", "stats.*.2@250ms", "stats.*.3@250ms"]
    assert stub.questions == [{"method": "SUBSCRIBE", "params": streams, "id": 1}]
    assert snapshot.limits == Limits(10, 1000, 10_000)
    window = {"min": 1.0, "max": 3.0, "last": 3.0, "avg": 2.0, "var": 1.0, "values": 2}
    stub.say(symbol="A", k=1, window=10, sequence=2, event="snapshot", **window)
    (symbol,) = until(feed, lambda snapshot: snapshot.symbols).symbols
    assert (symbol.symbol, symbol.sequence, symbol.windows[1].avg) == ("A", 2, 2.0)
    until(feed, lambda snapshot: len(snapshot.symbols[0].history) > 0)
    stub.say(symbol="A", event="deleted")
    until(feed, lambda snapshot: not snapshot.symbols)


def test_metrics_are_read(stub: Stub, feed: Feed) -> None:
    snapshot = until(feed, lambda snapshot: snapshot.started_at is not None)
    assert snapshot.started_at == 1e9, "the oldest process"
    stub.replies["/metrics"] = (200, METRICS.replace("7.0", "17.0"))
    until(feed, lambda snapshot: snapshot.request_rate > 0)
    until(feed, lambda snapshot: snapshot.request_rate == 0)


def test_files_that_cannot_be_served_are_read(stub: Stub, feed: Feed) -> None:
    refused = [{"file": "A.ring", "reason": "the header's checksum does not match"}]
    stub.replies["/readyz"] = 200, json.dumps({"status": "degraded", "refused": refused})
    snapshot = until(feed, lambda snapshot: snapshot.refused)
    assert snapshot.refused == (RefusedFile("A.ring", "the header's checksum does not match"),)
    for reply in ((503, "{}"), (200, "[]"), (200, "<html>"), (200, '{"refused": [1]}')):
        stub.replies["/readyz"] = reply
        feed._read_refused()
        assert feed.board.snapshot().refused == snapshot.refused, "as far as is known"
    stub.replies["/readyz"] = 200, '{"status": "ok"}'
    until(feed, lambda snapshot: snapshot.is_online and not snapshot.refused)


@pytest.mark.parametrize("status", [404, 429, 503])
def test_a_service_without_figures_is_shown_all_the_same(
    stub: Stub, feed: Feed, status: int
) -> None:
    until(feed, lambda snapshot: snapshot.request_rate == 0)
    stub.replies["/metrics"] = (status, "{}")
    snapshot = until(feed, lambda snapshot: snapshot.request_rate != 0)
    assert math.isnan(snapshot.request_rate)
    assert snapshot.started_at == 1e9
    feed._read_metrics()
    assert is_subscribed(stub)(feed.board.snapshot())
    assert len(stub.questions) == 1, "the stream goes on"


def test_server_that_goes_and_comes_back(stub: Stub, feed: Feed) -> None:
    until(feed, is_subscribed(stub))
    stub.stop()
    lost = until(feed, lambda snapshot: snapshot.problem and "does not answer" in snapshot.problem)
    assert lost.lost_at is not None
    assert abs(lost.lost_at - time.time()) < 20
    stub.start()
    assert until(feed, is_subscribed(stub)).problem is None


def test_server_that_hangs_is_found_out(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("financial_data_service.monitor.feed.POLL_SECONDS", 0.1)
    monkeypatch.setattr("financial_data_service.monitor.feed.ANSWER_SECONDS_MAX", 0.5)
    with Feed(stub.url) as feed:
        until(feed, is_subscribed(stub))
        stub.answers.clear()
        until(feed, lambda snapshot: not snapshot.is_online)
        stub.answers.set()
        until(feed, lambda snapshot: snapshot.is_online and len(stub.questions) >= 2)


def test_server_that_fails_is_found_out(stub: Stub, feed: Feed) -> None:
    until(feed, is_subscribed(stub))
    stub.replies["/metrics"] = (500, "{}")
    until(feed, lambda snapshot: not snapshot.is_online)
    until(feed, lambda _: len(stub.questions) >= 2)


def test_the_key_is_sent_or_asked_for(stub: Stub) -> None:
    stub.key = KEYS["right"]
    with Feed(stub.url) as feed:
        problem = until(feed, lambda snapshot: snapshot.problem).problem
        assert str(problem).startswith(f"{stub.url} requires its API key in FDS_API_KEY, got none")
    with Feed(stub.url, KEYS["wrong"]) as feed:
        snapshot = until(feed, lambda snapshot: snapshot.problem)
        assert "got another" in str(snapshot.problem)
        assert KEYS["wrong"] not in str(snapshot.problem)
        assert snapshot.wants_key
    with Feed(stub.url, KEYS["right"]) as feed:
        until(feed, is_subscribed(stub))


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (503, "{}", "{url}: The service is not available now: Service Unavailable"),
        (200, '{"hello": "world"}', "{url}: The answer is not one of a financial-data-service"),
        (200, "<html>", "{url}: The answer is not one of a financial-data-service"),
    ],
)
def test_something_else_on_the_port(stub: Stub, status: int, body: str, problem: str) -> None:
    stub.replies["/symbols"] = status, body
    with Feed(stub.url) as feed:
        snapshot = until(feed, lambda snapshot: snapshot.problem)
        assert snapshot.problem == problem.format(url=stub.url)


def test_a_refused_subscription_is_told(stub: Stub) -> None:
    stub.answer = '{"error": {"code": 429, "msg": "too many"}, "id": 1}'
    with Feed(stub.url) as feed:
        snapshot = until(feed, lambda snapshot: snapshot.problem)
        assert snapshot.problem == f"{stub.url}: too many"


def test_an_address_at_which_nothing_is() -> None:
    with Feed("http://127.0.0.1:1") as feed:
        snapshot = until(feed, lambda snapshot: snapshot.problem)
        assert snapshot.problem == "The service at http://127.0.0.1:1 does not answer"


@pytest.mark.parametrize("url", ["127.0.0.1:1", "ftp://a", ""])
def test_addresses_of_no_service(url: str) -> None:
    with pytest.raises(ValueError, match="Expected a URL such as http://"):
        Feed(url)


def test_a_key_that_cannot_be_one() -> None:
    with pytest.raises(ValueError, match="Expected an API key") as caught:
        Feed("http://127.0.0.1:1", "too short")
    assert "too short" not in str(caught.value)


def test_proxies_of_the_environment_are_not_used(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Feed(stub.url) as feed:
        until(feed, is_subscribed(stub))
    with pytest.raises(httpx.HTTPError):
        httpx.get(stub.url)
