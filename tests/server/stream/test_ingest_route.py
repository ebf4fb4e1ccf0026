"""`/ingest`: frames of prices, each stored whole and answered in its turn, or refused with a reason
and the end; what was not answered can be sent again.
"""

from __future__ import annotations

import csv
import json
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import InsufficientStorageError
from financial_data_service.server.stream.ingest_route import Intake
from financial_data_service.windows import WindowStats
from support.oracle import Oracle
from support.paths import ROOT
from support.raw_http import batch, get, post
from support.service_process import LIGHT, Service, running
from support.stream_client import RawStream, Stream, frame

TRADES = ROOT / "examples" / "btcusdt-trades.csv"
BATCH_MAX = 1000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(
        tmp_path_factory.mktemp("ingest"),
        LIGHT,
        FDS_BATCH_MAX=str(BATCH_MAX),
        FDS_MAX_SYMBOLS="2",
        FDS_REQUEST_SECONDS="2",
    ) as service:
        yield service


@pytest.fixture
def service(shared: Service) -> Service:
    shared.empty()
    return shared


def packed(*prices: float) -> bytes:
    return struct.pack(f"<{len(prices)}d", *prices)


def sequences(service: Service) -> dict[str, int]:
    return {each["symbol"]: each["sequence"] for each in service.get("/symbols")["symbols"]}


# --- What is stored


def test_frames_are_answered_one_by_one(service: Service) -> None:
    with Stream(service, "/ingest/BTC%2FUSDT") as stream:
        assert stream.ask(packed(1.0, 2.0)) == {"sequence": 2, "added": 2}
        assert stream.ask(packed(3.0)) == {"sequence": 3, "added": 1}
        assert stream.ask(packed(*range(1, BATCH_MAX + 1)))["sequence"] == BATCH_MAX + 3
    assert sequences(service) == {"BTC/USDT": BATCH_MAX + 3}


def test_frames_are_handled_while_their_answers_wait(service: Service) -> None:
    with Stream(service, "/ingest/A") as stream:
        for _ in range(3000):
            stream.send(packed(1.0))
        for sequence in range(1, 3001):
            assert stream.receive() == {"sequence": sequence, "added": 1}


def test_a_frame_in_pieces(service: Service) -> None:
    data = packed(1.0, 2.0, 3.0)
    with Stream(service, "/ingest/A") as stream:
        stream.connection.send([data[:3], data[3:17], data[17:]])
        assert stream.receive() == {"sequence": 3, "added": 3}


def test_real_prices(service: Service) -> None:
    with TRADES.open() as file:
        prices = [float(row["price"]) for row in csv.DictReader(file)]
    oracle = Oracle(prices)
    with Stream(service, "/ingest/BTC%2FUSDT?from_sequence=0") as stream:
        begin = 0
        while begin < len(prices):
            part = prices[begin : begin + 1 + begin % 211]
            begin += len(part)
            assert stream.ask(packed(*part)) == {"sequence": begin, "added": len(part)}
            for k in (1, 2, 3):
                told = service.get(f"/stats/BTC%2FUSDT/{k}")
                stats = WindowStats._make(told[field] for field in WindowStats._fields)
                oracle.check(stats, 10**k, begin)


def test_several_connections_to_one_symbol(service: Service) -> None:
    def send(results: list[int]) -> None:
        with Stream(service, "/ingest/A") as stream:
            for _ in range(100):
                stream.send(packed(1.0, 2.0))
            results += [stream.receive()["sequence"] for _ in range(100)]

    results: list[list[int]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=send, args=(each,)) for each in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chain.from_iterable(results)) == list(range(2, 802, 2))
    assert all(each == sorted(each) for each in results)


# --- Again, after a lost connection


def test_what_was_not_answered_is_sent_again(service: Service) -> None:
    frames = [packed(*(float(i * 10 + j) for j in range(1 + i % 4))) for i in range(50)]
    total = sum(map(len, frames)) // 8
    with RawStream(service, "/ingest/A?from_sequence=0") as raw:
        for data in frames[:30]:
            raw.socket.sendall(frame(Opcode.BINARY, data))
        # Gone, with or without the answers.
    with Stream(service, "/ingest/A?from_sequence=0") as stream:
        for data in frames:
            stream.send(data)
        answers = [stream.receive() for _ in frames]
    assert sum(answer["added"] for answer in answers) <= total
    assert sequences(service) == {"A": total}
    expected = [value for data in frames for (value,) in struct.iter_unpack("<d", data)]
    stats = service.get("/stats/A/3")
    assert (stats["values"], stats["last"]) == (total, expected[-1])
    assert (stats["min"], stats["max"]) == (min(expected), max(expected))


def test_from_a_sequence_on(service: Service) -> None:
    service.add(batch("A", [1.0, 2.0, 3.0]))
    with Stream(service, "/ingest/A?from_sequence=1") as stream:
        assert stream.ask(packed(2.0)) == {"sequence": 3, "added": 0}
        assert stream.ask(packed(3.0, 4.0)) == {"sequence": 4, "added": 1}
        assert stream.ask(packed(5.0)) == {"sequence": 5, "added": 1}


@pytest.mark.parametrize("start", [0, 1, 5])
def test_what_does_not_fit_is_the_end(service: Service, start: int) -> None:
    service.add(batch("A", [1.0, 2.0, 3.0]))
    with Stream(service, f"/ingest/A?from_sequence={start}") as stream:
        stream.send(packed(9.0, 9.0, 9.0, 9.0))
        stream.send_to_the_end(packed(1.0))
        code, (told,) = stream.closed()
    assert code == 4409
    assert told["error"]["code"] == 409
    assert told["sequence"] == 3
    assert sequences(service) == {"A": 3}


def test_another_writer_in_between_is_noticed(service: Service) -> None:
    with Stream(service, "/ingest/A?from_sequence=0") as stream:
        assert stream.ask(packed(1.0))["sequence"] == 1
        service.add(batch("A", [7.0]))
        assert "expected 7.0 as stored" in stream.ask(packed(2.0))["error"]["msg"].lower()
        assert stream.closed() == (4409, [])
    assert sequences(service) == {"A": 2}


# --- What is refused

NAN = packed(1.0, float("nan"), 2.0)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, 1007),
        (b"1234567", 422, 1007),
        (packed(1.0) + b"x", 422, 1007),
        (NAN, 422, 1007),
        (packed(float("inf")), 422, 1007),
        (packed(1.0, 1e151), 422, 1007),
        (packed(*[1.0] * (BATCH_MAX + 1)), 413, 1009),
        ("1.0", 415, 1003),
    ],
    ids=["empty", "7 bytes", "9 bytes", "nan", "inf", "1e151", "too long", "text"],
)
@pytest.mark.parametrize("query", ["", "?from_sequence=0"])
def test_an_unfit_frame_is_the_end_and_nothing_of_it_is_stored(
    service: Service, data: bytes | str, status: int, code: int, query: str
) -> None:
    with Stream(service, f"/ingest/A{query}") as stream:
        stream.send(packed(1.0))
        stream.send(data)
        stream.send_to_the_end(packed(2.0))
        closed, told = stream.closed()
    assert closed == code
    assert told[0] == {"sequence": 1, "added": 1}
    assert [each["error"]["code"] for each in told[1:]] == [status]
    assert sequences(service) == {"A": 1}


def test_a_frame_beyond_all_limits_is_not_read_to_its_end(service: Service) -> None:
    with Stream(service, "/ingest/A") as stream:
        stream.send_to_the_end(bytes(3_000_000))
        assert stream.closed() == (1009, [])
    assert sequences(service) == {}


def test_whoever_sends_far_too_much_reads_why(service: Service) -> None:
    """Nothing is read before all is sent: a connection cut off would be reset, and say nothing."""
    with RawStream(service, "/ingest/A") as raw:
        raw.socket.sendall(frame(Opcode.BINARY, bytes(30_000_000)))
        received = b""
        while part := raw.socket.recv(1000):
            received += part
    assert received[2:] == b"\x03\xf1the message is too large"
    assert sequences(service) == {}


def test_one_symbol_too_many(service: Service) -> None:
    for symbol in "AB":
        service.add(batch(symbol, [1.0]))
    with Stream(service, "/ingest/C") as stream:
        stream.send(packed(1.0))
        assert stream.closed() == (
            4400,
            [{"error": {"code": 400, "msg": "Maximum number of symbols (2) reached"}}],
        )


@pytest.mark.parametrize(
    ("path", "loc"),
    [
        (f"/ingest/{'A' * 129}", ["path", "symbol"]),
        ("/ingest/%01", ["path", "symbol"]),
        ("/ingest/%FF", ["path", "symbol"]),
        ("/ingest/A%00B%2F", ["path", "symbol"]),
        ("/ingest/A%2FB%C3", ["path", "symbol"]),
        ("/ingest/A?form_sequence=0", ["query", "form_sequence"]),
        ("/ingest/A?from_sequence=0&from_sequence=0", ["query", "from_sequence"]),
        ("/ingest/A?api_key=a&api_key=b", ["query", "api_key"]),
        (f"/ingest/A?{'b' * 100}=", ["query", "b" * 64 + "…"]),
        ("/stream?x=1", ["query", "x"]),
        ("/stream?x", ["query", "x"]),
        ("/ingest/A?from_sequence=-1", ["query", "from_sequence"]),
        ("/ingest/A?from_sequence=x", ["query", "from_sequence"]),
        ("/ingest/A?from_sequence=", ["query", "from_sequence"]),
        ("/ingest/A?from_sequence=9223372036854775808", ["query", "from_sequence"]),
    ],
)
def test_what_is_wrong_with_the_address_is_said_before(
    service: Service, path: str, loc: list[str]
) -> None:
    with pytest.raises(InvalidStatus) as refused, Stream(service, path):
        pass
    response = refused.value.response
    assert response.status_code == 422
    assert [item["loc"] for item in json.loads(response.body)["detail"]] == [loc]


# --- A client that does not read


def test_a_client_that_takes_no_answers_is_not_read_for_ever(service: Service) -> None:
    """Some thousands of answers fit on the way; then nothing more is read, and it is cut off."""
    part = frame(Opcode.BINARY, packed(1.0)) * 1000
    with RawStream(service, "/ingest/A") as raw, service.connect() as other:
        raw.socket.settimeout(0.5)
        begin, sent = time.monotonic(), 0
        try:
            while time.monotonic() < begin + 20.0:
                with suppress(TimeoutError):
                    sent += raw.socket.send(part)
                assert other.ask(post(batch("B", [1.0]))).status == 201
            pytest.fail("it was let to send")
        except (ConnectionResetError, BrokenPipeError):
            pass
        stored = other.ask(get("/stats/A/1")).json()["sequence"]
        assert 1000 < stored <= sent // (len(part) // 1000)


# --- Without a socket


def test_other_errors_have_their_status(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = SymbolManager(10, 100)

    def fail(*_: object) -> None:
        raise InsufficientStorageError("no room")

    monkeypatch.setattr(manager, "add_batch", fail)
    text, code = Intake(manager, "A").receive(packed(1.0))
    assert json.loads(text) == {"error": {"code": 507, "msg": "no room"}}
    assert code == 4507


PRICES = st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=30)


@given(st.lists(PRICES, min_size=1, max_size=8), st.lists(st.integers(0, 8), max_size=4))
def test_frames_and_retries_from_anywhere(batches: Sequence[list[float]], cuts: list[int]) -> None:
    """However often a client begins again, the symbol holds its prices once, bit by bit."""
    manager = SymbolManager(10, 1000)
    whole = [price for each in batches for price in each]

    def answers(first: int, last: int) -> Iterator[Any]:
        intake = Intake(manager, "A", sum(map(len, batches[:first])))
        for each in batches[first:last]:
            text, code = intake.receive(packed(*each))
            assert code is None
            yield json.loads(text)

    reached = 0
    for cut in [*cuts, len(batches)]:
        first, last = min(cut, reached), min(len(batches), max(cut, reached))
        for answer in answers(first, last):
            assert answer["sequence"] <= len(whole)
        reached = max(reached, last)
    stored = manager["A"].values(1000)
    assert stored.tobytes() == np.array(whole).tobytes()
    manager.close()
