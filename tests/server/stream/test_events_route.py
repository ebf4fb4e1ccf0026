"""Server-sent events: their content and ids, how a client resumes, and how a stream ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.stream import events_route as events_module
from financial_data_service.server.stream.events_route import _events
from financial_data_service.server.stream.hub import Hub
from financial_data_service.wire import Stream, SubscribedStream
from support.raw_http import Connection, batch, get
from support.service_process import LIGHT, Service, end, running, started

KEEP_ALIVE = ": ping"


class Event(NamedTuple):
    event: str
    data: Any
    id: str | None


class Events:
    """Reads an event stream as it comes: chunks, lines, fields."""

    def __init__(self, service: Service, target: str, *headers: str) -> None:
        self._connection = Connection(service.url)
        self._socket = self._connection._socket
        self._socket.sendall(get(target, *headers))
        head, _, self._raw = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        self.head = head.decode().lower()
        self._text = ""
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next(self) -> Event | str | None:
        """The next event or comment; None at the end."""
        while "\n\n" not in self._text:
            if not self._read_chunk():
                return None
        block, _, self._text = self._text.partition("\n\n")
        if block.startswith(":"):
            return block
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        assert fields.keys() <= {"event", "data", "id"}
        return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))

    def _read_chunk(self) -> bool:
        while b"\r\n" not in self._raw:
            self._raw += self._more()
        size, _, self._raw = self._raw.partition(b"\r\n")
        while len(self._raw) < int(size, 16) + 2:
            self._raw += self._more()
        data, self._raw = self._raw[: int(size, 16)], self._raw[int(size, 16) + 2 :]
        self._text += data.decode()
        self.ended = not data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        received = b""
        while mark not in received:
            received += self._more()
        return received

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        assert data, "cut off"
        return data


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    flags = (*LIGHT, "--workers", str(request.param))
    with running(tmp_path_factory.mktemp("events"), flags) as service:
        yield service


@pytest.fixture
def service(shared: Service) -> Service:
    shared.empty()
    return shared


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that has room for one stream, and little patience."""
    variables = {"FDS_REQUEST_SECONDS": "0.5", "FDS_STREAM_CONNECTIONS_MAX": "1"}
    with running(tmp_path_factory.mktemp("small"), LIGHT, **variables) as service:
        service.add(batch("A", [1.0]))
        yield service


def test_events_are_what_get_stats_answers(service: Service) -> None:
    service.add(batch("BTC/USDT", [0.1, 0.2]))
    with Events(service, "/stats/BTC%2FUSDT/1/events?interval=0") as events:
        assert events.head.startswith("http/1.1 200 ok")
        assert "content-type: text/event-stream\r\n" in events.head + "\r\n"
        assert "cache-control: no-store" in events.head
        for i in range(5):
            stats = service.get("/stats/BTC%2FUSDT/1")
            assert events.next() == Event("stats", stats, str(2 + i))
            service.add(batch("BTC/USDT", [1 / (i + 3)]))


def test_an_id_resumes(service: Service) -> None:
    service.add(batch("A", [1.0, 2.0]))
    target = "/stats/A/1/events"
    with Events(service, target, "Last-Event-ID: 2") as events:
        service.add(batch("A", [3.0]))
        event = events.next()
        assert isinstance(event, Event)
        assert event.id == "3"
    for other in ("1", "99", "", "x", "-1", "9" * 30):
        # Older, or of another life of the symbol, or not ours: what is now comes at once.
        with Events(service, target, f"Last-Event-ID: {other}") as events:
            event = events.next()
            assert isinstance(event, Event)
            assert event.id == "3"


@pytest.mark.parametrize("interval_ms", [50, 200])
def test_no_more_than_one_event_an_interval(service: Service, interval_ms: int) -> None:
    service.add(batch("A", [1.0]))
    with service.connect() as connection:
        begin = time.monotonic()
        with Events(service, f"/stats/A/1/events?interval={interval_ms}") as events:
            ids = []
            while time.monotonic() < begin + 0.6:
                event = events.next()
                assert isinstance(event, Event)
                assert event.id is not None
                ids.append(int(event.id))
                assert len(ids) - 1 <= (time.monotonic() - begin) * 1000 / interval_ms
                for _ in range(3):
                    connection.ask(_post("A"))
    assert ids == sorted(set(ids))
    assert len(ids) > 2


def _post(symbol: str) -> bytes:
    body = batch(symbol, [1.0])
    return get(
        "/add_batch/",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        method="POST",
    ) + body  # fmt: skip


@pytest.mark.parametrize(
    ("target", "status", "like"),
    [
        ("/stats/X/1/events", 404, "/stats/X/1"),
        ("/stats/A/9/events", 422, "/stats/A/9"),
        ("/stats/X/9/events", 404, None),
        ("/stats/A/0/events", 422, "/stats/A/0"),
        ("/stats/A/x/events", 422, "/stats/A/x"),
        (f"/stats/{'A' * 129}/1/events", 422, f"/stats/{'A' * 129}/1"),
        ("/stats/A/1/events?interval=-1", 422, None),
        ("/stats/A/1/events?interval=60001", 422, None),
        ("/stats/A/1/events?interval=x", 422, None),
        ("/stats/A/1/events?intervall=0", 422, None),
        ("/stats/A/1/events?interval=0&interval=0", 422, None),
        ("/stats/A/1/events?api_key=a&api_key=b", 422, None),
    ],
)
def test_errors_are_those_of_get_stats(
    service: Service, target: str, status: int, like: str | None
) -> None:
    service.add(batch("A", [1.0]))
    reply = service.ask(get(target))
    assert reply.status == status
    if like is not None:
        assert reply.json() == service.ask(get(like)).json()


def test_a_client_of_http_1_0_is_sent_no_chunks(service: Service) -> None:
    service.add(batch("A", [1.0, 2.0]))
    with service.connect() as connection:
        connection.send(get("/stats/A/1/events", version="1.0"))
        received = b""
        while b"id: 2\n\n" not in received:
            received += connection._socket.recv(1 << 16)
        service.empty()
        while part := connection._socket.recv(1 << 16):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    stats, deleted, end = body.split(b"\n\n")
    assert stats.startswith(b"event: stats\ndata: {")
    assert deleted.startswith(b"event: deleted\ndata: {")
    assert end == b""


def test_long_replies_to_a_client_of_http_1_0_are_what_others_get(service: Service) -> None:
    for _ in range(5):
        service.add(batch("A", [0.5] * 10_000))
    with service.connect() as connection:
        connection.send(get("/values/A?last=50000", version="1.0"))
        received = b""
        while part := connection._socket.recv(1 << 16):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head
    assert json.loads(body)["values"] == [0.5] * 50_000


def test_the_end_of_a_symbol_ends_its_events(service: Service) -> None:
    service.add(batch("A", [1.0]))
    with Events(service, "/stats/A/1/events") as events:
        assert isinstance(events.next(), Event)
        service.empty()
        assert events.next() == Event("deleted", {"symbol": "A", "k": 1}, None)
        assert events.next() is None
        # The reply is complete: the connection can be used again.
        events._socket.sendall(get("/livez"))
        assert events._socket.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_the_end_of_the_service_ends_events(tmp_path: Path) -> None:
    with started(tmp_path, (*LIGHT, "--workers", "2")) as service:
        service.add(batch("A", [1.0]))
        streams = [Events(service, "/stats/A/1/events") for _ in range(8)]
        for events in streams:
            assert isinstance(events.next(), Event)
        begin = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        for events in streams:
            assert events.next() is None
            assert events.ended
            events._socket.close()
        end(service)
        assert time.monotonic() - begin < 8.0


def test_clients_that_go_are_forgotten(small: Service) -> None:
    for _ in range(10):
        poll_for_place(small)


def test_a_reader_that_takes_nothing_is_cut_off(small: Service) -> None:
    """The system still holds what was sent to it; that its place is free again shows its end."""
    poll_for_place(small)
    with socket.socket() as slow, small.connect() as writer:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(writer._socket.getpeername())

        def write() -> None:
            for _ in range(100):
                assert writer.ask(_post("A")).status == 201

        slow.sendall(get("/stats/A/1/events?interval=0"))
        poll_for_place(small, write)


def poll_for_place(service: Service, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Wait until the service has a place for an event stream, take it and leave it."""
    deadline = time.monotonic() + 30.0
    status = 503
    while status == 503:
        assert time.monotonic() < deadline
        meanwhile()
        with Events(service, "/stats/A/1/events") as events:
            status = int(events.head.split()[1])
    assert status == 200


# --- In process


def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr(events_module, "KEEP_ALIVE_SECONDS", 0.01)
        manager = SymbolManager(10, 100)
        hub = Hub(manager)
        manager.add_batch("A", [1.0])
        stream = _events(hub, SubscribedStream(Stream("A", 1), 0), 1)
        assert [await anext(stream) for _ in range(3)] == [KEEP_ALIVE + "\n\n"] * 3
        assert hub.subscribers == 1
        manager.add_batch("A", [2.0])
        assert (await anext(stream)).startswith("event: stats\ndata: {")
        await stream.aclose()  # type: ignore[attr-defined]
        assert hub.subscribers == 0
        assert manager.listener is None

    asyncio.run(body())
