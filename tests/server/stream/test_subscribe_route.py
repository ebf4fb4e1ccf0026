"""`/stream` over real sockets, against the real service with one and with two workers: the updates,
their order and rate; slow clients, many clients, invalid commands; the end of a stream.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from financial_data_service.windows import WindowStats
from support.oracle import Oracle
from support.paths import ROOT
from support.raw_http import Connection, batch, get, post
from support.service_process import LIGHT, Service, end, running, started
from support.stream_client import RawStream, Stream, frame, handshake, url_of

TRADES = ROOT / "examples" / "btcusdt-trades.csv"
FIELDS = WindowStats._fields
WAIT_SECONDS = 20.0


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    flags = (*LIGHT, "--workers", str(request.param))
    with running(tmp_path_factory.mktemp("stream"), flags) as service:
        yield service


@pytest.fixture
def service(shared: Service) -> Service:
    shared.empty()
    return shared


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One worker, impatient, and with small limits."""
    with running(
        tmp_path_factory.mktemp("one"),
        LIGHT,
        FDS_REQUEST_SECONDS="1",
        FDS_STREAM_SUBSCRIPTIONS_MAX="3",
        FDS_STREAM_MESSAGE_BYTES_MAX="2000",
    ) as service:
        yield service


@pytest.fixture
def impatient(one: Service) -> Service:
    one.empty()
    return one


def poll(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until(stream: Stream, sequence: int) -> list[Any]:
    """What is told up to a sequence."""
    told: list[Any] = []
    while not told or told[-1].get("sequence") != sequence:
        told.append(stream.receive())
    return told


def grows(told: list[Any]) -> bool:
    """Whether a snapshot is followed by updates, of strictly growing sequence."""
    events = [each["event"] for each in told]
    sequences = [each["sequence"] for each in told]
    return (
        events == ["snapshot"] + ["update"] * (len(told) - 1)
        and sequences == sorted(set(sequences))
    )  # fmt: skip


# --- What is told


def test_a_conversation(service: Service) -> None:
    with Stream(service) as stream:
        said = stream.ask({"method": "SUBSCRIBE", "params": ["stats.A.3", "stats.*.1"], "id": 1})
        assert said == {"result": None, "id": 1}
        said = stream.ask({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        assert said == {"result": ["stats.A.3@100ms", "stats.*.1@100ms"], "id": 2}
        said = stream.ask({"method": "UNSUBSCRIBE", "params": ["stats.A.3"], "id": "x"})
        assert said == {"result": None, "id": "x"}
        said = stream.ask({"method": "NONE", "id": 3})
        assert said["id"] == 3
        assert said["error"]["code"] == 422
        service.add(batch("A", [1.0, 2.0]))
        assert stream.receive() == {
            "stream": "stats.A.1",
            **service.get("/stats/A/1"),
            "event": "snapshot",
        }


def test_what_is_told_is_what_get_stats_answers_to_the_letter(service: Service) -> None:
    prices = [0.1, 1 / 3, -5e-324, 1e150, 123456.789]
    service.add(batch("BRK.A", prices))
    with Stream(service) as stream, service.connect() as connection:
        stream.subscribe("stats.BRK%2EA.2@0ms", "stats.BRK%2EA.3@0ms")
        for count in range(10):
            for _ in range(2):
                text = stream.receive_text()
                k = json.loads(text)["k"]
                answer = connection.ask(get(f"/stats/BRK.A/{k}"))
                event = "update" if count else "snapshot"
                assert text == (
                    f'{{"stream":"stats.BRK%2EA.{k}",'
                    + answer.body.decode().strip("{}")
                    + f',"event":"{event}"}}'
                )
            service.add(batch("BRK.A", prices[: 1 + count % 5]))


@pytest.mark.parametrize("interval", [0, 1])
def test_appends_of_every_worker_arrive_everywhere(service: Service, interval: int) -> None:
    """Connections are shared out among the workers: with four of each some cross over."""
    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(service)) for _ in range(4)]
        writers = [stack.enter_context(service.connect()) for _ in range(4)]
        for stream in streams:
            stream.subscribe(f"stats.A.2@{interval}ms", f"stats.*.1@{interval}ms")
        sequence = 0
        for i in range(40):
            reply = writers[i % 4].ask(post(batch("A", [float(i)] * (1 + i % 3))))
            sequence = reply.json()["sequence"]
            if i % 10 == 0:
                time.sleep(0.01)  # so that there is more than one update
        for stream in streams:
            told: dict[int, list[Any]] = {1: [], 2: []}
            while not all(of_k and of_k[-1]["sequence"] == sequence for of_k in told.values()):
                each = stream.receive()
                told[each["k"]].append(each)
            assert all(map(grows, told.values()))


def test_every_batch_of_one_worker(impatient: Service) -> None:
    with Stream(impatient) as stream, impatient.connect() as connection:
        stream.subscribe("stats.A.1@0ms")
        requests = post(batch("A", [1.0, 2.0])) * 200
        connection.send(requests)
        told = until(stream, 400)
        assert [each["sequence"] for each in told] == list(range(2, 401, 2))
        assert grows(told)


def test_real_prices_streamed_in_and_out(impatient: Service) -> None:
    with TRADES.open() as file:
        prices = [float(row["price"]) for row in csv.DictReader(file)]
    oracle = Oracle(prices)
    with Stream(impatient) as stream, impatient.connect() as connection:
        stream.subscribe(*(f"stats.BTC/USDT.{k}@0ms" for k in (1, 2, 3)))
        begin = sent = 0
        while begin < len(prices):
            part = prices[begin : begin + 1 + begin % 97]
            connection.send(post(batch("BTC/USDT", part)))
            begin += len(part)
            sent += 1
        last = dict.fromkeys((1, 2, 3), 0)
        for _ in range(3 * sent):
            told = stream.receive()
            assert told["sequence"] > last[told["k"]]
            last[told["k"]] = told["sequence"]
            stats = WindowStats._make(told[field] for field in FIELDS)
            oracle.check(stats, told["window"], told["sequence"])
        assert set(last.values()) == {len(prices)}


@pytest.mark.parametrize("interval_ms", [50, 200])
def test_no_more_than_one_update_an_interval(service: Service, interval_ms: int) -> None:
    done = threading.Event()

    def write() -> None:
        with service.connect() as connection:
            while not done.is_set():
                assert connection.ask(post(batch("A", [1.0]))).status == 201

    with Stream(service) as stream:
        thread = threading.Thread(target=write)
        thread.start()
        begin = time.monotonic()
        stream.subscribe(f"stats.A.1@{interval_ms}ms")
        told = []
        while time.monotonic() < begin + 1.0:
            told.append(stream.receive())
            # The n-th is sent n intervals after the first, or later.
            assert len(told) - 1 <= (time.monotonic() - begin) * 1000 / interval_ms
        done.set()
        thread.join()
        assert len(told) <= 1000 / interval_ms + 1 + 1  # and the one that ended the second
        assert len(told) > 2
        assert grows(told)
        last = service.get("/stats/A/1")["sequence"]
        assert grows(told + (until(stream, last) if told[-1]["sequence"] != last else []))


def test_windows_of_a_symbol_come_as_of_one_price(tmp_path: Path) -> None:
    """All windows of ten symbols, as the live page watches them, beside a client at another pace.

    The client drains what it is told in pieces: a few texts at a time, while prices come.
    """
    symbols = [f"S{i}" for i in range(10)]
    ks = range(1, 9)
    done = threading.Event()

    def write(service: Service) -> None:
        with ExitStack() as stack:
            intakes = [stack.enter_context(Stream(service, f"/ingest/{each}")) for each in symbols]
            while not done.wait(0.01):
                for intake in intakes:
                    intake.send(np.ones(3).tobytes())
                for intake in intakes:
                    assert intake.receive()["added"] == 3

    flags = ("--port", "0", "--largest-window", "100000000")
    with running(tmp_path, flags) as service, ExitStack() as stack:
        writer = threading.Thread(target=write, args=(service,))
        writer.start()
        try:
            other = stack.enter_context(Stream(service, close_timeout=0.1))
            other.subscribe(*(f"stats.{each}.{k}@250ms" for each in symbols for k in ks))
            page = stack.enter_context(RawStream(service))
            page.send({"method": "SUBSCRIBE", "params": [f"stats.*.{k}@100ms" for k in ks]})
            assert page.receive() == {"result": None, "id": None}
            for receive, rows in ((page.receive, 100), (other.receive, 60)):
                for _ in range(rows):
                    told = [receive() for _ in ks]
                    assert len({(each["symbol"], each["sequence"]) for each in told}) == 1, told
                    assert {each["k"] for each in told} == set(ks)
        finally:
            done.set()
            writer.join()


def test_deleted_and_created_again(service: Service) -> None:
    with Stream(service) as first, Stream(service) as second:
        for stream in (first, second):
            stream.subscribe("stats.A.1")
        for sequence in (3, 2):
            service.add(batch("A", [1.0] * sequence))
            for stream in (first, second):
                assert stream.receive()["event"] == "snapshot"
            service.empty()
            for stream in (first, second):
                assert stream.receive() == {
                    "stream": "stats.A.1",
                    "symbol": "A",
                    "event": "deleted",
                }


# --- Many, slow, wrong


def test_many_clients_on_one_stream(service: Service) -> None:
    clients, batches = 200, 20

    async def watch(name: str, ready: asyncio.Event, arrived: list[int]) -> list[Any]:
        async with connect_async(url_of(service, "/stream"), open_timeout=WAIT_SECONDS) as stream:
            await stream.send(json.dumps({"method": "SUBSCRIBE", "params": [name], "id": 1}))
            assert json.loads(await stream.recv()) == {"result": None, "id": 1}
            arrived.append(1)
            if len(arrived) == clients:
                ready.set()
            told: list[Any] = []
            while not told or told[-1]["sequence"] < batches:
                told.append(json.loads(await stream.recv()))
            return told

    async def body() -> None:
        ready = asyncio.Event()
        arrived: list[int] = []
        tasks = [
            asyncio.create_task(watch("stats.A.1@0ms", ready, arrived)) for _ in range(clients)
        ]
        await ready.wait()
        with service.connect() as connection:
            for _ in range(batches):
                status = await asyncio.to_thread(connection.ask, post(batch("A", [1.0])))
                assert status.status == 201
        for told in await asyncio.gather(*tasks):
            assert grows(told)
            assert told[-1]["sequence"] == batches

    asyncio.run(asyncio.wait_for(body(), 2 * WAIT_SECONDS))


def test_a_client_that_never_reads_holds_up_nobody_and_is_dropped(impatient: Service) -> None:
    """It is told a kilobyte a batch, of which what has no room is conflated; then it is dropped."""
    with RawStream(impatient) as slow, Stream(impatient) as quick, impatient.connect() as writer:
        slow.send({"method": "SUBSCRIBE", "params": ["stats.*.1@0ms", "stats.*.2@0ms"]})
        quick.subscribe("stats.A.1@0ms")
        slowest, sequence = 0.0, 0
        begin = time.monotonic()
        while time.monotonic() < begin + 3.5:
            asked = time.monotonic()
            sequence = writer.ask(post(batch("A", [1.0]))).json()["sequence"]
            assert quick.receive()["sequence"] == sequence
            slowest = max(slowest, time.monotonic() - asked)
        assert slowest < 1.0
        # The slow one has been cut off, or is about to be; what it is sent is not all that was.
        received = b""
        try:
            while part := slow.socket.recv(1 << 16):
                received += part
        except ConnectionResetError:
            pass
        assert len(received) < 400 * sequence
        assert impatient.get("/livez") == {"status": "ok"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x", 400),
        ("[]", 400),
        ('{"method":"SUBSCRIBE","params":["stats.A.99"],"id":1}', 422),
        ('{"method":"SUBSCRIBE","params":["stats.A.1","stats.A.2","stats.A.3","stats.A.4"]}', 429),
    ],
)
def test_what_is_wrong_is_answered_and_the_connection_goes_on(
    impatient: Service, message: str, code: int
) -> None:
    with Stream(impatient) as stream:
        assert stream.ask(message)["error"]["code"] == code
        assert stream.ask({"method": "LIST_SUBSCRIPTIONS", "id": 5}) == {"result": [], "id": 5}


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"{}", 1003), (b"", 1003), ("x" * 2001, 1009), (json.dumps({"a": "é" * 1000}), 1009)],
)
def test_what_ends_the_connection(impatient: Service, message: str | bytes, code: int) -> None:
    with Stream(impatient) as stream:
        stream.send(message)
        stream.send_to_the_end("not looked at any more")
        closed, told = stream.closed()
        assert closed == code
        assert [list(each) for each in told] == [["error", "id"]]


def test_a_message_beyond_all_limits_is_not_read_to_its_end(impatient: Service) -> None:
    with Stream(impatient) as stream:
        stream.send_to_the_end("x" * 3_000_000)
        assert stream.closed() == (1009, [])
        assert stream.connection.close_reason == "the message is too large"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(Opcode.TEXT, b"\xff"), 1007),
        (b"\x81\x02{}", 1002),  # not masked
        (b"\xf1\x80\0\0\0\0", 1002),  # reserved bits
        (frame(Opcode.CONT, b"x"), 1002),
    ],
    ids=["text", "unmasked", "reserved", "continuation"],
)
def test_what_is_no_websocket_is_the_end(impatient: Service, frames: bytes, code: int) -> None:
    with RawStream(impatient) as raw:
        raw.socket.sendall(frames)
        received = b""
        while part := raw.socket.recv(1000):
            received += part
        assert received[0] == 0x88
        assert int.from_bytes(received[2:4], "big") == code


def test_pings_are_answered(service: Service) -> None:
    with Stream(service) as stream:
        assert stream.connection.ping(b"x").wait(WAIT_SECONDS)


def test_a_message_in_pieces(service: Service) -> None:
    with Stream(service) as stream:
        stream.connection.send(['{"method":', '"LIST_SUBSCRIPTIONS"', ',"id":1}'])
        assert stream.receive() == {"result": [], "id": 1}


def test_answers_come_in_order(service: Service) -> None:
    with Stream(service) as stream:
        for number in range(1500):
            stream.send({"method": "LIST_SUBSCRIPTIONS", "id": number})
        for number in range(1500):
            assert stream.receive() == {"result": [], "id": number}


def test_there_is_a_limit_of_connections(tmp_path: Path) -> None:
    with running(tmp_path, FDS_STREAM_CONNECTIONS_MAX="3") as service, ExitStack() as stack:
        service.add(batch("A", [1.0]))
        first = stack.enter_context(Stream(service))
        first.subscribe("stats.A.1")
        stack.enter_context(Stream(service, "/ingest/A"))
        events = stack.enter_context(service.connect())
        events.send(get("/stats/A/1/events"))
        assert events._socket.recv(1000).startswith(b"HTTP/1.1 200 ")
        for path in ("/stream", "/ingest/A"):
            with pytest.raises(InvalidStatus) as refused, Stream(service, path):
                pass
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"] == "5"
            assert b"Expected 3 streams at most" in refused.value.response.body
        reply = service.ask(get("/stats/A/1/events"))
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        first.connection.close()

        def fits() -> bool:
            try:
                stack.enter_context(Stream(service))
            except InvalidStatus:
                return False
            return True

        poll(fits)


# --- Handshakes


@pytest.mark.parametrize("fast_lane", ["0", "1"])
def test_handshakes(tmp_path: Path, fast_lane: str) -> None:
    with running(tmp_path, FDS_FAST_LANE=fast_lane) as service:
        for path in ("/stream", "/stream?api_key=x", "/ingest/A", "/ingest/A%2FB?from_sequence=0"):
            with service.connect() as connection:
                connection.send(handshake(path))
                assert connection.receive().status == 101
                connection.send(frame(Opcode.CLOSE, b"\x03\xe8"))
                assert connection._socket.recv(100) == b"\x88\x02\x03\xe8"
                assert connection.is_closed()
        without_key = handshake("/stream").replace(b"Sec-WebSocket-Key", b"X-Key")
        of_old = handshake("/stream").replace(b"Version: 13", b"Version: 8")
        long_head = handshake("/stream", *(f"X-{i}: x" for i in range(200)))
        early = handshake("/stream") + frame(Opcode.TEXT, b"{}")
        for request, status in [(without_key, 400), (of_old, 400), (long_head, 431), (early, 400)]:
            with service.connect() as connection:
                assert _status(connection, request) == status
        service.add(batch("S", [1.0]))
        for path in ("/stats/S/1", "/livez", "/streams", "/ingest/", "/ingest/a/b", "/"):
            # Where there is no WebSocket the wish for one is ignored.
            with service.connect() as connection:
                connection.send(handshake(path) + get("/livez"))
                assert connection.receive().status in (200, 307, 404)
                assert connection.receive().status == 200
        for request in (
            get("/stream"),
            get("/ingest/A"),
            handshake("/stream", "Content-Length: 2") + b"{}",
        ):
            with service.connect() as connection:
                reply = connection.ask(request)
                assert reply.status == 426
                assert reply.headers["upgrade"] == "websocket"
                assert connection.is_usable()
        with service.connect() as connection:
            # The replies before it are on their way: frames must not come amidst them.
            connection.send(get("/symbols") + handshake("/stream"))
            assert [connection.receive().status for _ in range(2)] == [200, 426]
            assert connection.is_usable()
            connection.send(handshake("/stream"))
            assert connection.receive().status == 101


def _status(connection: Connection, request: bytes) -> int:
    connection.send(request)
    received = b""
    while part := connection._socket.recv(1000):
        received += part
    return int(received.split()[1])


def test_the_log_keeps_keys_to_itself(impatient: Service) -> None:
    for path in ("/stream", "/ingest/A%2FB"):
        with Stream(impatient, f"{path}?api_key=secret-of-16-chars"):
            pass
    log = impatient.log.read_text()
    assert "secret" not in log
    assert "connection open" not in log


def test_refusals_leave_no_errors_in_the_log(tmp_path: Path) -> None:
    with running(tmp_path, FDS_API_KEY="secret-of-16-chars", FDS_STREAM_CONNECTIONS_MAX="1") as one:
        key = "api_key=secret-of-16-chars"
        with Stream(one, f"/stream?{key}"):
            for path, status in [
                (f"/stream?{key}", 503),
                ("/stream", 401),
                (f"/ingest/A?{key}&from_sequence=x", 422),
            ]:
                with one.connect() as connection:
                    assert _status(connection, handshake(path)) == status
    assert "handshake" not in one.log.read_text()
    assert "ERROR" not in one.log.read_text()


# --- Ends


@pytest.mark.parametrize("workers", [1, 2])
def test_the_service_ends_at_once_and_says_so(tmp_path: Path, workers: int) -> None:
    with started(tmp_path, (*LIGHT, "--workers", str(workers))) as service, ExitStack() as stack:
        service.add(batch("A", [1.0]))
        streams = [stack.enter_context(Stream(service)) for _ in range(6)]
        for stream in streams:
            stream.subscribe("stats.A.1@0ms")
            assert stream.receive()["event"] == "snapshot"
        streams += [stack.enter_context(Stream(service, "/ingest/A")) for _ in range(4)]
        unread = stack.enter_context(RawStream(service))
        unread.send({"method": "SUBSCRIBE", "params": ["stats.*.1@0ms", "stats.*.2@0ms"]})
        with service.connect() as connection:
            for _ in range(500):
                connection.ask(post(batch("A", [1.0])))
        begin = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert stream.closed()[0] == 1001
        told = time.monotonic() - begin
        end(service)
        # One that does not read is waited for, but not for long.
        assert time.monotonic() - begin < 8.0
        assert told < 5.0


def test_killed_clients_leave_nothing(impatient: Service) -> None:
    """Neither a connection nor a subscriber; seen by the number of open files of the service."""

    def open_files() -> int:
        return len(os.listdir(f"/proc/{impatient.process.pid}/fd"))

    before = open_files()
    for _ in range(20):
        with RawStream(impatient) as raw:
            raw.send({"method": "SUBSCRIBE", "params": ["stats.*.1@0ms"]})
    with Stream(impatient) as stream:
        stream.subscribe("stats.*.1")
        impatient.add(batch("A", [1.0]))
        assert stream.receive()["sequence"] == 1
    poll(lambda: open_files() <= before + 1)  # the file of the symbol, where it has one
