"""Requests that are too large, too slow or invalid: the connection ends, and no other is affected.

Sizes and times are tested over real sockets, against a server of each lane with short limits. What
depends only on the clock, or on where a read ends, is tested on the protocol itself, with a clock
of the test. No test sleeps for luck: tests wait for a reply, an end, or a socket to be ready.
"""

from __future__ import annotations

import asyncio
import re
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from financial_data_service.server.connection.http_protocol import HEAD_BYTES_MAX, sweep
from support.raw_http import Connection, batch, chunk, get, post, post_chunked
from support.service_process import LIGHT, Service, running
from support.wire import Wire, WireConnection

BODY = batch("S", [1.0, 2.5])
BODY_BYTES_MAX = 20_000
TOO_LATE_SECONDS = 10.0  # limit 0.5, sweeps once a second, and a busy machine
LAST_CHUNK = chunk(b"")

HEAD = get("/stats/S/1")[:-2]
CHUNKED = post_chunked([BODY])[: -len(LAST_CHUNK)]
TOO_LARGE = post_chunked([b" " * (BODY_BYTES_MAX + 1)])[: -len(LAST_CHUNK)]


@pytest.fixture(scope="module", params=["slow", "fast"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with running(
        tmp_path_factory.mktemp("guard"),
        LIGHT,
        FDS_FAST_LANE=str(int(request.param == "fast")),
        FDS_REQUEST_SECONDS="0.5",
        FDS_BODY_MAX_BYTES=str(BODY_BYTES_MAX),
    ) as service:
        yield service


def has_reply(connection: Connection, seconds: float = 0.0) -> bool:
    return bool(select.select([connection._socket], [], [], seconds)[0])


# --- Size

ENDLESS = {
    "headers": (HEAD, b"X-Header: " + b"x" * 100 + b"\r\n"),
    "a header": (HEAD + b"X-Header: ", b"x" * 100),
    "a name": (HEAD, b"x" * 100),
    "a target": (b"GET /", b"x" * 100),
    "headers of a batch": (post(BODY)[: -len(BODY) - 2], b"X-Header: x\r\n"),
    "empty lines": (b"", b"\r\n" * 50),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 16),
    "a trailer": (CHUNKED + b"0\r\nX: ", b"x" * 100),
    "an extension": (CHUNKED + b"1;", b"x" * 100),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_does_not_end_is_refused_with_431(service: Service, kind: str) -> None:
    begin, more = ENDLESS[kind]
    piece = more * (4096 // len(more))
    with service.connect() as endless, service.connect() as other:
        endless.send(begin)
        sent = 0
        while not has_reply(endless):
            assert sent <= HEAD_BYTES_MAX + 2 * len(piece)
            endless.send(piece)
            sent += len(piece)
            assert other.is_usable()  # The server has read what was sent.
        assert sent > HEAD_BYTES_MAX
        reply = endless.receive()
        assert (reply.status, reply.headers["connection"]) == (431, "close")
        assert reply.json() == {"detail": "Expected a request head of 65536 bytes at most"}
        assert endless.is_closed()
    assert service.get("/symbols")["symbols"] == []


def test_a_flood_is_refused_as_soon(service: Service) -> None:
    with service.connect() as connection:
        connection.send(HEAD)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
            for _ in range(10_000):
                connection.send(b"x" * 10_000)


def test_a_body_too_large_is_refused_before_it_is_read(service: Service) -> None:
    body = b" " * (BODY_BYTES_MAX + 1)
    request = post(body)
    with service.connect() as connection:
        reply = connection.ask(request[: -len(body)])
        assert reply.status == 413
        assert reply.json()["detail"].startswith("Expected a body of 20000 bytes at most")
        # HTTP/1.1 goes on where the body ends, whether or not anybody wanted it.
        assert "connection" not in reply.headers
        connection.send(body)
        assert connection.is_usable()
        assert connection.ask(request).status == 413
        assert connection.is_usable()
    with service.connect() as connection:
        reply = connection.ask(post(body, "Connection: close")[: -len(body)])
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert connection.is_closed()


# --- Time

BATCH_HEAD = post(b"x" * 10_000).partition(b"x")[0]

TRICKLING = {
    "headers": (HEAD, b"X: y\r\n", [408]),
    "a header": (HEAD + b"X-Header: ", b"x", [408]),
    "a body": (BATCH_HEAD, b"x", [408]),
    "a chunk": (CHUNKED + b"FFFF\r\n", b"x", [408]),
    "chunks": (CHUNKED, chunk(b" "), [408]),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n", [408]),
    "nothing more": (HEAD, b"", [408]),
    "nothing more of a body": (BATCH_HEAD, b"", [408]),
    "a body behind another batch": (post(BODY) + BATCH_HEAD, b"x", [201, 408]),
    # Whoever has the answer already is not told the time as well.
    "a body that is not read": (BATCH_HEAD.replace(b"json", b"xml"), b"x", [415]),
    "a body that is discarded": (TOO_LARGE, chunk(b" "), [413]),
}
"""Kind → what comes at once, what trickles in behind it, the statuses that it is told."""


def test_what_trickles_is_ended_in_time(service: Service) -> None:
    service.empty()
    with ExitStack() as stack:
        connections = {kind: stack.enter_context(service.connect()) for kind in TRICKLING}
        begin = time.monotonic()
        for kind, connection in connections.items():
            connection.send(TRICKLING[kind][0])
            for status in TRICKLING[kind][2]:
                if status != 408:
                    assert connection.receive().status == status, kind
        arriving = dict(connections)
        while arriving:
            assert time.monotonic() < begin + TOO_LATE_SECONDS, list(arriving)
            for kind, connection in list(arriving.items()):
                if has_reply(connection, 0.005):
                    assert time.monotonic() > begin + 0.5, kind
                    del arriving[kind]
                else:
                    connection.send(TRICKLING[kind][1])
        for kind, connection in connections.items():
            if 408 in TRICKLING[kind][2]:
                reply = connection.receive()
                assert (reply.status, reply.headers["connection"]) == (408, "close"), kind
                assert reply.json() == {"detail": "Expected the whole request within 0.5 seconds"}
            assert connection.is_closed(), kind
    assert service.get("/symbols")["symbols"][0]["sequence"] == 2


def test_slow_connections_do_not_disturb_others(service: Service) -> None:
    """A hundred that trickle, for as long as they are let; one that is quick all the while."""
    service.empty()
    service.add(BODY)
    starts = [HEAD, CHUNKED, BATCH_HEAD, TOO_LARGE]
    done = threading.Event()
    with ExitStack() as stack:
        slow = [stack.enter_context(service.connect()) for _ in range(100)]
        quick = stack.enter_context(service.connect())

        def be_slow() -> None:
            open_ones = dict(enumerate(slow))
            for i, connection in open_ones.items():
                connection.send(starts[i % len(starts)])
            deadline = time.monotonic() + TOO_LATE_SECONDS
            while open_ones and time.monotonic() < deadline:
                done.wait(0.02)
                for i, connection in list(open_ones.items()):
                    try:
                        connection.send(b"X: y\r\n" if i % 4 == 0 else chunk(b" "))
                    except OSError:
                        del open_ones[i]
            done.set()

        thread = threading.Thread(target=be_slow)
        thread.start()
        asked, slowest = 0, 0.0
        while not done.is_set():
            begin = time.monotonic()
            assert quick.ask(get("/stats/S/1")).json()["sequence"] == 2 + 2 * asked
            assert quick.ask(post(BODY)).status == 201
            asked += 1
            slowest = max(slowest, time.monotonic() - begin)
        thread.join()
        assert asked > 50
        assert slowest < 1.0
        for connection in slow:
            while not connection._received and has_reply(connection):
                try:
                    connection.receive()
                except (AssertionError, ConnectionResetError):
                    break  # the end
            else:
                pytest.fail("a slow connection is still open")


# --- Clock


@pytest.fixture(params=[False, True], ids=["slow", "fast"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with Wire(fast_lane=request.param) as wire:
        yield wire


def is_open_at(wire: Wire, connection: WireConnection, now: float) -> bool:
    """Whether a connection outlives the sweep at a time."""
    sweep([object(), connection.protocol], now)
    return not connection.is_closed


def test_a_connection_without_a_request_is_closed_without_a_word(wire: Wire) -> None:
    before = wire.loop.time()
    connection = wire.connect()
    after = wire.loop.time()
    assert is_open_at(wire, connection, before + 74.9)
    assert not is_open_at(wire, connection, after + 75.1)
    assert connection.receive() == b""


@pytest.mark.parametrize(
    "request_bytes", [get("/stats/S/1"), get("/stats/X/1"), post(BODY), post_chunked([BODY])]
)
def test_a_connection_is_idle_from_its_last_request_on(wire: Wire, request_bytes: bytes) -> None:
    wire.manager.add_batch("S", [1.0])
    connection = wire.connect()
    now = wire.loop.time()
    for _ in range(5):
        assert connection.ask(request_bytes).startswith(b"HTTP/1.1 ")
        now += 74.0
        assert is_open_at(wire, connection, now)
    assert is_open_at(wire, connection, now + 74.9)
    assert not is_open_at(wire, connection, now + 75.1)


@pytest.mark.parametrize(
    "part", [HEAD, post(BODY)[:-1], CHUNKED, post(BODY) + post(BODY)[:9], TOO_LARGE]
)
def test_a_request_has_its_time_from_its_first_byte_to_its_last(wire: Wire, part: bytes) -> None:
    connection = wire.connect()
    before = wire.loop.time()
    connection.ask(part)
    after = wire.loop.time()
    assert is_open_at(wire, connection, before + 29.9)
    assert not is_open_at(wire, connection, after + 30.1)
    assert connection.receive().startswith(b"HTTP/1.1 408 ")
    assert is_open_at(wire, wire.connect(), after + 30.1)


def test_a_request_that_is_being_answered_is_neither_late_nor_idle(wire: Wire) -> None:
    connection = wire.connect()
    connection.send(get("/livez"))
    now = wire.loop.time()
    for later in (31.0, 200.0, 300.0):
        assert is_open_at(wire, connection, now + later)
    assert connection.receive().endswith(b'{"status":"ok"}')


def test_time_begins_anew_with_each_request(wire: Wire) -> None:
    connection = wire.connect()
    for part in (post(BODY), HEAD + b"\r\n", post_chunked([BODY])):
        connection.ask(part[:10])
        connection.ask(part[10:])
        assert is_open_at(wire, connection, wire.loop.time() + 60.0)


# --- Where reads end


def test_a_read_from_one_head_into_the_next_is_not_one_long_head(wire: Wire) -> None:
    body = b'{"symbol":"S","values":[1' + b" " * (2 * HEAD_BYTES_MAX) + b"]}"
    request = post(body)
    connection = wire.connect()
    connection.send(request[:10])
    for _ in range(3):
        connection.send(request[10:] + request[:10])
    said = connection.ask(request[10:])
    assert said.count(b"HTTP/1.1 201 ") == 4
    assert not connection.is_closed


def test_a_long_head_within_the_limit_is_read(wire: Wire) -> None:
    headers = [f"X-{i}: {'x' * 1000}" for i in range(60)]
    request = get("/livez", *headers)
    connection = wire.connect()
    for _ in range(3):
        for begin in range(0, len(request), 1000):
            connection.send(request[begin : begin + 1000])
        assert connection.receive().startswith(b"HTTP/1.1 200 ")


def test_a_body_of_many_small_chunks_has_no_long_head(wire: Wire) -> None:
    body = BODY + b" " * (HEAD_BYTES_MAX // 4)
    connection = wire.connect()
    connection.send(CHUNKED[: CHUNKED.index(b"\r\n\r\n") + 4])
    for byte in body:
        for part in (b"1;a=b\r\n", bytes([byte]), b"\r\n"):
            connection.send(part)
    assert connection.ask(LAST_CHUNK).startswith(b"HTTP/1.1 201 ")


def test_trailers_are_no_headers(wire: Wire) -> None:
    head = get("/add_batch/", "Transfer-Encoding: chunked", method="POST")
    trailer = b"0\r\nContent-Type: application/json\r\n\r\n"
    said = wire.connect().ask(head + chunk(BODY) + trailer)
    assert said.startswith(b"HTTP/1.1 415 ")


def test_one_request_gets_one_reply(wire: Wire) -> None:
    """Garbage, or no more, within a body whose request is answered already ends it silently."""
    connection = wire.connect()
    large = b" " * (wire.settings.body_max_bytes + 1)
    said = connection.ask(post_chunked([large])[: -len(LAST_CHUNK)])
    assert said.startswith(b"HTTP/1.1 413 ")
    assert connection.ask(b"zz\r\n") == b""
    assert connection.is_closed


# --- Replies that are not taken, requests that wait


def test_a_client_that_takes_no_reply_is_cut_off(wire: Wire) -> None:
    connection = wire.connect()
    now = wire.loop.time()
    connection.transport.unsent_bytes = 1000
    assert is_open_at(wire, connection, now)
    assert is_open_at(wire, connection, now + 29.9)
    connection.transport.unsent_bytes = 999  # it takes a little
    assert is_open_at(wire, connection, now + 30.1)
    assert is_open_at(wire, connection, now + 60.0)
    assert not is_open_at(wire, connection, now + 60.2)


def test_nothing_is_read_while_requests_wait_for_their_turn(wire: Wire) -> None:
    """Else a client that sends faster than it is answered fills the memory."""
    connection = wire.connect()
    connection.send(get("/livez") * 10)
    assert not connection.transport.reads
    while connection.protocol.pipeline:
        wire.loop.run_until_complete(asyncio.sleep(0))
        assert connection.protocol.pipeline == deque() or not connection.transport.reads
    assert connection.receive().count(b"200 OK") == 10
    assert connection.transport.reads


@pytest.mark.parametrize("part", [b"GET /stats/S/1 HT", HEAD, post(BODY)[:-5]])
def test_a_refusal_comes_behind_the_replies_before_it(wire: Wire, part: bytes) -> None:
    connection = wire.connect()
    connection.send(get("/livez") * 3 + part)
    # Too late, and nothing is answered yet.
    connection.protocol.check_time(wire.loop.time() + 31)
    assert connection.transport.written == b""
    connection.send(b"what comes now is not looked at")
    said = connection.receive()
    statuses = re.findall(rb"HTTP/1.1 (\d+)", said)
    assert statuses == [b"200", b"200", b"200", b"408"]
    assert said.endswith(b'{"detail":"Expected the whole request within 30 seconds"}')
    assert connection.is_closed
    assert len(wire.manager) == 0
