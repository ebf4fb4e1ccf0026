"""The last prices on their way out: every piece right or none, whatever is written meanwhile; in a
bounded memory; and a reply that could not be finished looks like one to every client.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from financial_data_service.engine.layout import DELETED, WORD_COUNT
from financial_data_service.engine.ring_view import TRIES, RingView
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.errors import OverwrittenError, SymbolNotFoundError, WindowSizeError
from financial_data_service.server.api import price_stream
from financial_data_service.server.api.price_stream import PriceStream, pieces
from financial_data_service.server.formats.price_formats import FORMATS, Span
from support.service_process import Service, end, started

pa = pytest.importorskip("pyarrow")

Prices = npt.NDArray[np.float64]

WINDOW, BATCH = 100, 10


@pytest.fixture
def stats() -> RunningStats:
    return RunningStats(WINDOW, fanout=2, batch_max=BATCH)


def appended(stats: RunningStats, count: int) -> None:
    """Append so many prices more; each is its own number."""
    for _ in range(count):
        stats.append([float(stats.sequence)])


def sent(response: Any) -> bytes:
    """All that a reply consists of, without a server."""
    if not isinstance(response, PriceStream):
        return bytes(response.body)

    async def collect() -> bytes:
        return b"".join([part async for part in response.body_iterator])  # type: ignore[misc]

    return asyncio.run(collect())


def from_json(content: bytes) -> tuple[list[int], list[float]]:
    reply = json.loads(content)
    first, values = reply["first"], reply["values"]
    assert reply["sequence"] == first + len(values)
    return list(range(first, reply["sequence"])), values


def from_csv(content: bytes) -> tuple[list[int], list[float]]:
    names, *lines = csv.reader(io.StringIO(content.decode("ascii"), newline=""))
    assert names == ["sequence", "price"]
    return [int(line[0]) for line in lines], [float(line[1]) for line in lines]


def from_float64(content: bytes) -> tuple[list[int], list[float]]:
    return [], np.frombuffer(content, "<f8").tolist()


def from_arrow(content: bytes) -> tuple[list[int], list[float]]:
    table = pa.ipc.open_stream(content).read_all()
    table.validate(full=True)
    assert [str(field.type) for field in table.schema] == ["int64", "double"]
    return table["sequence"].to_pylist(), table["price"].to_pylist()


READERS: dict[str, Callable[[bytes], tuple[list[int], list[float]]]] = {
    "json": from_json,
    "csv": from_csv,
    "float64": from_float64,
    "arrow": from_arrow,
}


# --- Pieces


@given(st.integers(1, 400), st.integers(1, WINDOW), st.integers(1, 50))
@settings(max_examples=200)
def test_pieces_are_the_prices_wherever_the_ring_ends(count: int, last: int, most: int) -> None:
    stats = RunningStats(WINDOW, fanout=2, batch_max=BATCH)
    appended(stats, count)
    span = Span("S", max(0, count - last), count)
    found = list(pieces(RingView("S", stats.ring), span, most))
    assert [int(price) for _, prices in found for price in prices] == list(range(*span[1:]))
    assert [first for first, _ in found] == [int(prices[0]) for _, prices in found]
    assert max(len(prices) for _, prices in found) <= most
    assert all(prices.flags.owndata for _, prices in found)


@given(st.integers(0, 300), st.lists(st.integers(0, 40), max_size=20), st.integers(1, 30))
def test_whatever_is_appended_between_pieces_they_are_right_or_refused(
    before: int, appends: list[int], most: int
) -> None:
    stats = RunningStats(WINDOW, fanout=2, batch_max=BATCH)
    appended(stats, WINDOW + before)
    sequence = stats.sequence
    read = pieces(RingView("S", stats.ring), Span("S", sequence - WINDOW, sequence), most)
    expected = sequence - WINDOW
    try:
        for count, (first, prices) in zip([*appends, *[0] * WINDOW], read, strict=False):
            assert first == expected
            assert prices.tolist() == [float(n) for n in range(first, first + len(prices))]
            expected += len(prices)
            appended(stats, count)
        assert expected == sequence
    except OverwrittenError:
        # What is next is not held: a batch may be being written behind the newest price.
        assert expected < stats.sequence + BATCH - stats.geometry.capacity


def test_a_symbol_deleted_by_another_process_is_an_end_as_well(stats: RunningStats) -> None:
    appended(stats, 50)
    read = pieces(RingView("S", stats.ring), Span("S", 0, 50), 20)
    next(read)
    stats.ring.header[WORD_COUNT] = DELETED
    with pytest.raises(SymbolNotFoundError):
        next(read)


def test_a_ring_that_is_closed_meanwhile_can_be_read_to_the_end(stats: RunningStats) -> None:
    appended(stats, 50)
    read = pieces(RingView("S", stats.ring), Span("S", 0, 50), 20)
    next(read)
    stats.close()
    assert [len(prices) for _, prices in read] == [20, 10]


# --- Replies


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("piece_max", [1, 7, 1000])
def test_every_format_in_pieces_of_any_size(
    stats: RunningStats, monkeypatch: pytest.MonkeyPatch, name: str, piece_max: int
) -> None:
    kind = FORMATS[name]
    monkeypatch.setattr(kind, "piece_max", piece_max)
    appended(stats, 333)
    for last in (1, 2, 7, 50, WINDOW):
        response = price_stream.prices_response(RingView("S/\N{ROCKET}", stats.ring), last, kind)
        numbers, values = READERS[name](sent(response))
        assert values == [float(n) for n in range(333 - last, 333)]
        assert numbers == ([] if name == "float64" else list(range(333 - last, 333)))
        assert response.headers["x-first"] == str(333 - last)
        assert response.headers["x-sequence"] == "333"
        assert response.headers["vary"] == "Accept"
        if name == "float64":
            assert response.headers["content-length"] == str(8 * last)
        # A reply of one piece is sent as one, also where it goes round the ring's end.
        assert isinstance(response, PriceStream) == (last > piece_max)


def test_fewer_prices_than_asked_for(stats: RunningStats) -> None:
    appended(stats, 3)
    response = price_stream.prices_response(RingView("S", stats.ring), WINDOW, FORMATS["json"])
    assert sent(response) == b'{"symbol":"S","sequence":3,"first":0,"values":[0.0,1.0,2.0]}'


@pytest.mark.parametrize("last", [0, -1, WINDOW + 1, 10**30])
def test_lengths_that_are_never_kept(stats: RunningStats, last: int) -> None:
    appended(stats, 3)
    with pytest.raises(WindowSizeError, match="must be between 1 and 100"):
        price_stream.prices_response(RingView("S", stats.ring), last, FORMATS["json"])


@pytest.mark.parametrize("overtaken", [1, TRIES - 1, TRIES])
def test_the_first_piece_is_read_anew_when_it_is_overtaken(
    stats: RunningStats, monkeypatch: pytest.MonkeyPatch, overtaken: int
) -> None:
    appended(stats, 200)
    copies: list[int] = []
    copy = price_stream._copy

    def overtaking(held: RingView, begin: int, end: int) -> Prices:
        copies.append(begin)
        found = copy(held, begin, end)
        if len(copies) <= overtaken:
            appended(stats, 2 * WINDOW)
        return found

    monkeypatch.setattr(price_stream, "_copy", overtaking)
    held = RingView("S", stats.ring)
    if overtaken == TRIES:
        with pytest.raises(OverwrittenError, match="were overwritten"):
            price_stream.prices_response(held, WINDOW, FORMATS["float64"])
        assert len(copies) == TRIES
    else:
        response = price_stream.prices_response(held, WINDOW, FORMATS["float64"])
        expected = 200 + 2 * WINDOW * overtaken
        assert response.headers["x-sequence"] == str(expected)
        values = from_float64(sent(response))[1]
        assert values == [float(n) for n in range(expected - WINDOW, expected)]


# --- Over sockets: memory, and a reply that is broken off

LARGE = 1_000_000
MEMORY_MAX_KB = 12_000  # a tenth of what the whole would take as JSON, in Python's objects


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    flags = ("--port", "0", "--largest-window", str(LARGE))
    with started(tmp_path_factory.mktemp("prices"), flags) as service:
        yield service
        end(service)


def fill(service: Service, symbol: str, count: int) -> None:
    """Append prices, each its own number and a bit."""
    headers = {"Content-Type": "application/octet-stream"}
    with httpx.Client(base_url=service.url, headers=headers) as client:
        for begin in range(0, count, 10_000):
            body = (np.arange(begin, begin + 10_000) + 0.25).tobytes()
            client.post(f"/add_batch/{symbol}", content=body).raise_for_status()


def peak_kb(service: Service) -> int:
    """The most memory that the service has had since :func:`forget_peak`."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def forget_peak(service: Service) -> None:
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")


def test_a_million_prices_in_a_bounded_memory(service: Service) -> None:
    fill(service, "M", LARGE)
    expected = np.arange(LARGE) + 0.25
    for name in FORMATS:
        httpx.get(f"{service.url}/values/M?last=100000&format={name}")
        forget_peak(service)
        before = peak_kb(service)
        reply = httpx.get(f"{service.url}/values/M?last={LARGE}&format={name}")
        assert peak_kb(service) - before < MEMORY_MAX_KB, name
        assert reply.headers["x-sequence"] == str(LARGE)
        assert ("content-length" in reply.headers) == (name == "float64")
        _, values = READERS[name](reply.content)
        assert np.array_equal(values, expected)


def slow_reader(service: Service, target: str, version: str = "1.1") -> socket.socket:
    """A client that has asked and does not read yet; its window is small."""
    address = urlsplit(service.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect((address.hostname, address.port))
    connection.sendall(f"GET {target} HTTP/{version}\r\nHost: test\r\n\r\n".encode())
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    connection.close()
    return b"".join(parts)


@pytest.mark.parametrize("name", FORMATS)
def test_a_reply_that_is_overtaken_is_broken_off_for_all_to_see(
    service: Service, name: str
) -> None:
    symbol = f"over-{name}"
    fill(service, symbol, LARGE)
    connection = slow_reader(service, f"/values/{symbol}?last={LARGE}&format={name}")
    head = connection.recv(100)  # It has begun: the moment it is of is fixed.
    fill(service, symbol, LARGE)
    content = head + read_to_end(connection)
    assert content.startswith(b"HTTP/1.1 200 OK\r\n")
    head, _, body = content.partition(b"\r\n\r\n")
    if name == "float64":
        # What came is right, and less than was announced.
        assert f"content-length: {8 * LARGE}\r\n".encode() in head
        assert len(body) < 8 * LARGE
        whole = np.frombuffer(body[: len(body) // 8 * 8], "<f8")
        assert np.array_equal(whole, np.arange(len(whole)) + 0.25)
    else:
        assert b"transfer-encoding: chunked" in head
        assert not body.endswith(b"0\r\n\r\n")
    assert "was broken off: Prices " in service.log.read_text()
    assert service.get("/livez") == {"status": "ok"}


def test_a_client_library_takes_it_for_an_error(service: Service) -> None:
    fill(service, "H", LARGE)
    target = f"{service.url}/values/H?last={LARGE}&format=csv"
    with httpx.stream("GET", target) as reply:
        received = reply.iter_raw(1024)
        next(received)
        fill(service, "H", LARGE)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            for _ in received:
                pass


def test_a_client_that_goes_ends_the_reply(service: Service) -> None:
    fill(service, "G", LARGE)
    log = service.log.read_text()
    for _ in range(3):
        slow_reader(service, f"/values/G?last={LARGE}&format=csv").close()
    assert service.get("/livez") == {"status": "ok"}
    assert service.log.read_text() == log


def test_others_are_served_while_a_long_reply_is_sent(service: Service) -> None:
    """A client that takes all it can get does not keep the event loop to itself."""
    fill(service, "L", LARGE)
    waits = 0
    with httpx.stream("GET", f"{service.url}/values/L?last={LARGE}&format=csv") as reply:
        for count, _ in enumerate(reply.iter_raw(1 << 20)):
            if count % 5 == 0:
                assert httpx.get(f"{service.url}/stats/L/3").status_code == 200
                waits += 1
    assert waits >= 3
