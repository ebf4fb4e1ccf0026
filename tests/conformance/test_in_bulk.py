"""Batches in binary and values in every format: what one lane answers, the other does, to the byte.

Each request goes to a server of either lane with the same symbols; the fast lane takes some of
them.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from financial_data_service.engine.kernels import PRICE_MAX
from support.http_model import Asker
from support.raw_http import (
    ARROW_TYPE,
    FLOAT64_TYPE,
    Connection,
    batch,
    get,
    post,
    post_chunked,
    post_float64,
)
from support.service_process import Service

Floats = list[float]


def receipt(symbol: str, added: int, sequence: int) -> dict[str, object]:
    said = "Added batch" if added else "Batch already stored"
    return {
        "status": "success",
        "message": f"{said} for symbol: {symbol}",
        "symbol": symbol,
        "added": added,
        "sequence": sequence,
    }


def stored(service: Service, symbol: str) -> Floats:
    """All prices of a symbol, by way of the format that nothing has to be read from."""
    reply = service.ask(get(f"/values/{symbol}?format=float64&last=100000"))
    assert reply.status == 200, reply
    return list(struct.unpack(f"<{len(reply.body) // 8}d", reply.body))


# --- One lane at a time


@pytest.mark.parametrize(
    ("query", "kind", "key"),
    [
        ("form_sequence=0", "query_key_unknown", "form_sequence"),
        ("from_sequence=0&x=1", "query_key_unknown", "x"),
        ("api_key=x", "query_key_unknown", "api_key"),
        ("From_sequence=0", "query_key_unknown", "From_sequence"),
        ("from_sequence=1&from_sequence=0", "query_key_twice", "from_sequence"),
        ("from_sequence=0&from_sequence=0", "query_key_twice", "from_sequence"),
    ],
)
def test_a_misspelt_from_sequence_stores_nothing(
    service: Service, query: str, kind: str, key: str
) -> None:
    assert service.ask(post_float64("S", [1.0], query="?from_sequence=0")).status == 201
    in_json = {"content_type": "application/json", "target": f"/add_batch/S?{query}"}
    for request in (
        post_float64("S", [1.0], query=f"?{query}"),
        post(b"[1.0]", **in_json),
        post(b'{"values":[1.0],"from_sequence":0}', **in_json),
    ):
        for _ in range(2):  # The second time the head is known.
            reply = service.ask(request)
            (error,) = reply.json()["detail"]
            assert (reply.status, error["type"]) == (422, kind)
            assert error["loc"] == ["query", key]
    assert stored(service, "S") == [1.0]


@pytest.mark.parametrize("path", ["/add_batch/", "/add_batch"])
def test_a_batch_with_its_symbol_in_the_body_has_no_query(service: Service, path: str) -> None:
    for query in ("from_sequence=0", "symbol=S", "x"):
        for _ in range(2):
            reply = service.ask(post(batch("S", [1.0]), target=f"{path}?{query}"))
            (error,) = reply.json()["detail"]
            assert (reply.status, error["type"]) == (422, "query_key_unknown")
            assert error["msg"].startswith("Expected no query, got ")
    assert service.ask(post(batch("S", [1.0]), target=f"{path}?")).status == 201
    assert stored(service, "S") == [1.0]


def test_a_batch_in_binary(service: Service) -> None:
    prices = [1.5, -0.0, 5e-324, 1e150, -1e150, 0.1]
    reply = service.ask(post_float64("S", prices))
    assert (reply.status, reply.json()) == (201, receipt("S", 6, 6))
    assert list(map(str, stored(service, "S"))) == list(map(str, prices))
    assert service.get("/stats/S/1")["sequence"] == 6


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("S", "S"),
        ("%53", "S"),
        ("BTC%2FUSDT", "BTC/USDT"),
        ("BTC%2fUSDT", "BTC/USDT"),
        ("%F0%9F%9A%80", "\N{ROCKET}"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%252F", "%2F"),
        ("%3F%23%25", "?#%"),
        ("%EF%BF%BD", "\N{REPLACEMENT CHARACTER}"),
        ("~;,=:@!$&'()*", "~;,=:@!$&'()*"),
        ("%5B%5D%22%5C", '[]"\\'),
        ("..", ".."),
    ],
)
def test_symbols_in_the_path(service: Service, name: str, symbol: str) -> None:
    for count in (1, 2):
        reply = service.ask(post_float64(name, [1.0]))
        assert (reply.status, reply.json()) == (201, receipt(symbol, 1, count))
    assert [entry["symbol"] for entry in service.get("/symbols")["symbols"]] == [symbol]
    assert service.get(f"/values/{name}")["symbol"] == symbol


def test_the_largest_batches_follow_each_other_on_a_connection(service: Service) -> None:
    sent: Floats = []
    with service.connect() as connection:
        for turn in range(10):
            prices = [turn + index / 16384 for index in range(10_000)]
            assert connection.ask(post_float64("S", prices)).status == 201
            sent += prices
            assert connection.is_usable()
    assert stored(service, "S") == sent


def test_a_pipeline_of_batches_in_all_formats(service: Service) -> None:
    requests = [
        post_float64("S", [1.0]),
        post(batch("S", [2.0])),
        post(b"[3.0]", target="/add_batch/S"),
        post_float64("S", [4.0], query="?from_sequence=3"),
        post_float64("S", [math.nan]),
        post_float64("S", [5.0]),
        get("/values/S?last=5"),
    ]
    with service.connect() as connection:
        connection.send(b"".join(requests))
        replies = [connection.receive() for _ in requests]
    assert [reply.status for reply in replies] == [201, 201, 201, 201, 422, 201, 200]
    assert replies[-1].json()["values"] == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("cut", [1, 7, 8, 40, 100])
def test_a_body_in_pieces(service: Service, cut: int) -> None:
    prices = [float(n) for n in range(100)]
    request = post_float64("S", prices)
    body_start = len(request) - 800
    with service.connect() as connection:
        connection.send(request[: body_start + cut])
        assert service.get("/symbols")["symbols"] == []
        assert connection.ask(request[body_start + cut :]).status == 201
        body = struct.pack("<100d", *prices)
        chunks = [body[:cut], body[cut:]]
        request = post_chunked(chunks, content_type=FLOAT64_TYPE, target="/add_batch/S")
        assert connection.ask(request).json() == receipt("S", 100, 200)
    assert stored(service, "S") == prices * 2


def test_a_retry_in_binary(service: Service) -> None:
    for from_sequence, prices, status, added in (
        (0, [1.0, 2.0], 201, 2),
        (0, [1.0, 2.0], 200, 0),
        (1, [2.0, 3.5], 201, 1),
        (3, [4.0], 201, 1),
    ):
        query = f"?from_sequence={from_sequence}"
        reply = service.ask(post_float64("S", prices, query=query))
        assert (reply.status, reply.json()["added"]) == (status, added)
    for from_sequence, prices in ((5, [1.0]), (0, [1.0, 2.5]), (0, [-1.0])):
        query = f"?from_sequence={from_sequence}"
        reply = service.ask(post_float64("S", prices, query=query))
        assert (reply.status, reply.json()["sequence"]) == (409, 4)
    assert stored(service, "S") == [1.0, 2.0, 3.5, 4.0]


# --- Both lanes at once


@pytest.fixture
def ask(both_lanes: dict[str, Service]) -> Iterator[Asker]:
    """Asks the servers of both lanes, which know symbol S, and requires one answer."""
    for service in both_lanes.values():
        service.empty()
        service.add(batch("S", [1.0, 2.0, 3.5]))
    with ExitStack() as stack:
        urls = [service.url for service in both_lanes.values()]
        yield Asker([stack.enter_context(Connection(url)) for url in urls])


EIGHT = struct.pack("<d", 7.0)
BINARY = {"content_type": FLOAT64_TYPE, "target": "/add_batch/S"}
ALIKE = {
    "plain": (post_float64("S", [1.0]), 201),
    "no prices": (post_float64("S", []), 422),
    "too many prices": (post_float64("S", [1.0] * 10_001), 422),
    "too large": (post(bytes(2 * 1024 * 1024 + 8), **BINARY), 413),
    "no whole prices": (post(EIGHT + b"1", **BINARY), 422),
    "NaN": (post_float64("S", [1.0, 2.0, math.nan]), 422),
    "infinity": (post_float64("S", [-math.inf]), 422),
    "beyond the largest": (post_float64("S", [1e151]), 422),
    "another byte order": (post(struct.pack(">d", 1.0), **BINARY), 201),
    "no type": (post(EIGHT, content_type=None, target="/add_batch/S"), 415),
    "another type": (post(EIGHT, content_type="text/plain", target="/add_batch/S"), 415),
    "a type in capitals": (
        post(EIGHT, content_type="APPLICATION/Octet-Stream", target="/add_batch/S"),
        201,
    ),
    "a type with a parameter": (
        post(EIGHT, content_type=f"{FLOAT64_TYPE};x=y", target="/add_batch/S"),
        201,
    ),
    "two types": (post(EIGHT, "Content-Type: text/plain", **BINARY), 201),
    "compressed": (post(EIGHT, "Content-Encoding: gzip", **BINARY), 415),
    "bytes without a symbol": (post(EIGHT, content_type=FLOAT64_TYPE), 415),
    "bytes said to be JSON": (post(EIGHT, target="/add_batch/S"), 422),
    "JSON said to be bytes": (post(b"[1.0,2]", **BINARY), 422),
    "JSON": (post(b"[1, 2]", target="/add_batch/S"), 201),
    "an object": (post(b'{"values":[1]}', target="/add_batch/S"), 201),
    "Arrow that is none": (post(b"x", content_type=ARROW_TYPE, target="/add_batch/S"), 422),
    "a slash behind": (post_float64("S/", [1.0]), 307),
    "more segments": (post_float64("S/1", [1.0]), 404),
    "an empty name": (post_float64("", [1.0]), 415),
    "a control character": (post_float64("S%0A", [1.0]), 422),
    "a NUL": (post_float64("S%00", [1.0]), 422),
    "a long name": (post_float64("S" * 129, [1.0]), 422),
    "a fragment": (post_float64("S#x", [1.0]), 201),
    "a gap": (post_float64("S", [1.0], query="?from_sequence=4"), 409),
    "a conflict": (post_float64("S", [9.0], query="?from_sequence=0"), 409),
    "stored already": (post_float64("S", [2.0, 3.5], query="?from_sequence=1"), 200),
    "an empty query": (post_float64("S", [1.0], query="?"), 201),
    "a sequence with a zero": (post_float64("S", [1.0], query="?from_sequence=03"), 201),
    "a sequence with a plus": (post_float64("S", [1.0], query="?from_sequence=%2B3"), 201),
    "a huge sequence": (post_float64("S", [1.0], query=f"?from_sequence={10**30}"), 409),
    "63 bits": (post_float64("S", [1.0], query=f"?from_sequence={2**63}"), 409),
    "a negative sequence": (post_float64("S", [1.0], query="?from_sequence=-1"), 422),
    "no sequence": (post_float64("S", [1.0], query="?from_sequence="), 422),
    "two sequences": (post_float64("S", [9.0], query="?from_sequence=0&from_sequence=3"), 422),
    "another parameter": (post_float64("S", [1.0], query="?x=1"), 422),
    "one more parameter": (post_float64("S", [1.0], query="?from_sequence=3&x=1"), 422),
    "an encoded name of it": (post_float64("S", [9.0], query="?from%5Fsequence=0"), 409),
    "GET": (get("/add_batch/S"), 405),
    "values": (get("/values/S"), 200),
    "values as CSV": (get("/values/S", "Accept: text/csv"), 200),
    "values as float64": (get("/values/S?format=float64"), 200),
    "values as Arrow": (get("/values/S", f"Accept: {ARROW_TYPE}"), 200),
    "values as what there is not": (get("/values/S", "Accept: image/png"), 406),
    "values in two headers": (get("/values/S", "Accept: image/png", "Accept: text/csv"), 200),
    "values of another format": (get("/values/S?format=xml"), 422),
    "values, none": (get("/values/S?last=0"), 422),
    "values, too many": (get("/values/S?last=100001"), 422),
    "values of nobody": (get("/values/X"), 404),
    "values of an invalid name": (get("/values/S%01"), 422),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_both_lanes_answer_alike(ask: Asker, kind: str) -> None:
    request, status = ALIKE[kind]
    for _ in range(2):  # The second time the head is known.
        reply = ask(request)
        if status in (200, 201) and b"from_sequence" in request:
            assert reply.status in (200, 201, 409), reply
        else:
            assert reply.status == status, reply
    # Nothing else has happened, and the same in both.
    ask(get("/symbols"))
    ask(get("/values/S?format=float64"))


NAMES = st.sampled_from(["S", "B%2FC", "a%20b", "%F0%9F%9A%80"])
PRICES = st.lists(
    st.floats(-PRICE_MAX, PRICE_MAX) | st.sampled_from([math.nan, 1e151, -0.0]),
    max_size=20,
)
QUERIES = st.sampled_from(["", "?", "?x=1"]) | st.integers(0, 40).map("?from_sequence={}".format)


@settings(max_examples=60)
@given(
    st.lists(
        st.builds(lambda *args: post_float64(*args[:2], query=args[2]), NAMES, PRICES, QUERIES)
        | st.builds(
            lambda body, query: post(
                body, content_type=FLOAT64_TYPE, target=f"/add_batch/S{query}"
            ),
            st.binary(max_size=40),
            QUERIES,
        )
        | st.builds(
            lambda name, values, query: post(
                json.dumps(values).encode(), target=f"/add_batch/{name}{query}"
            ),
            NAMES,
            PRICES,
            QUERIES,
        )
        | st.builds(
            lambda name, last, kind: get(f"/values/{name}?last={last}&format={kind}"),
            NAMES,
            st.integers(-1, 60),
            st.sampled_from(["json", "csv", "float64", "arrow"]),
        ),
        max_size=15,
    )
)
@example([post_float64("S", [0.0]), post_float64("S", [-0.0], query="?from_sequence=0")])
def test_random_requests_in_bulk(both_lanes: dict[str, Service], requests: list[bytes]) -> None:
    for service in both_lanes.values():
        service.empty()
    with ExitStack() as stack:
        urls = [service.url for service in both_lanes.values()]
        ask = Asker([stack.enter_context(Connection(url)) for url in urls])
        for request in [*requests, get("/symbols"), get("/stats/")]:
            assert ask(request).status in (200, 201, 404, 409, 422)


# --- Values in every format, large and small


def fetched(service: Service, name: str) -> bytes:
    """All prices of S in a format, by a client that reads chunks."""
    reply = httpx.get(f"{service.url}/values/S", params={"last": 100_000, "format": name})
    assert reply.status_code == 200, reply.text
    return reply.content


@pytest.mark.parametrize("count", [1, 2_048, 2_049, 100_000])
def test_values_in_every_format(service: Service, count: int) -> None:
    pa = pytest.importorskip("pyarrow")
    prices = [index / 7 for index in range(count)]
    for begin in range(0, count, 10_000):
        assert service.ask(post_float64("S", prices[begin : begin + 10_000])).status == 201
    assert json.loads(fetched(service, "json"))["values"] == prices
    lines = fetched(service, "csv").decode().splitlines()
    assert lines == ["sequence,price", *(f"{n},{price!r}" for n, price in enumerate(prices))]
    table = pa.ipc.open_stream(fetched(service, "arrow")).read_all()
    assert table["price"].to_pylist() == prices
    assert table["sequence"].to_pylist() == list(range(count))
    assert stored(service, "S") == prices
