"""The readers of plain batches against the validating path.

A reader may refuse whatever it likes; what it returns must be what the model reads from the same
bytes, bit for bit, and no bytes may make it raise. Hypothesis writes bodies, plain ones, odd ones
and mutilated ones; each trap of JSON that a parser is known to fall into has a test by name.
"""

from __future__ import annotations

import builtins
import importlib
import json
import math
import struct
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from financial_data_service.server.api.schemas import AddBatchRequest
from financial_data_service.server.app import create_app
from financial_data_service.server.connection.head_cache import FastLane, KnownBatch
from financial_data_service.server.formats import json_batch
from financial_data_service.server.formats.json_batch import (
    PlainReader,
    msgspec_reader,
    simdjson_reader,
)
from financial_data_service.settings import Settings
from support.raw_http import get, post
from support.wire import Wire

needs_simdjson = pytest.mark.skipif(
    vars(json_batch)["Parser"] is None, reason="no wheel of pysimdjson"
)

READERS = [
    pytest.param("simdjson", marks=needs_simdjson),
    pytest.param("msgspec"),
]


@pytest.fixture(scope="module", params=READERS)
def read(request: pytest.FixtureRequest) -> PlainReader:
    return simdjson_reader() if request.param == "simdjson" else msgspec_reader()


def bits(symbol: str, prices: Any, from_sequence: int | None) -> tuple[str, bytes, int | None]:
    """A batch in a form that tells -0.0 from 0.0."""
    return symbol, np.array(prices, np.float64).tobytes(), from_sequence


def model_reads(body: bytes) -> tuple[str, bytes, int | None] | None:
    try:
        batch = AddBatchRequest.model_validate_json(body)
    except ValidationError:
        return None
    return bits(batch.symbol, batch.values, batch.from_sequence)


def check(read: PlainReader, body: bytes) -> bool:
    """Assert that a reader says nothing, or what the model says; tell which."""
    batch = read(body)
    if batch is None:
        return False
    assert batch[1].dtype == np.float64
    assert type(batch[2]) in (int, type(None))
    assert bits(*batch) == model_reads(body), body
    return True


def body_of(values: str = "1", symbol: str = '"S"', more: str = "") -> bytes:
    """A body with its parts as they are written."""
    return f'{{"symbol":{symbol},"values":[{values}]{more}}}'.encode("utf-8", "surrogatepass")


# --- Whatever comes

DOUBLES = st.integers(0, 2**64 - 1).map(lambda n: struct.unpack("<d", struct.pack("<Q", n))[0])
PRICES = (
    DOUBLES.filter(math.isfinite).map(repr)
    | st.floats(-1e150, 1e150).map(lambda x: f"{x:.17e}")
    | st.floats(-1e9, 1e9).map(lambda x: f"{x:.30f}")
    | st.integers(-(2**63), 2**64 - 1).map(str)
    | st.integers(-(2**80), 2**80).map(str)
    | st.tuples(st.integers(0, 10**40), st.integers(-360, 360)).map(lambda p: f"{p[0]}E{p[1]:+d}")
    | st.sampled_from(["-0", "-0.0", "5e-324", "2.4703282292062328e-324", "9007199254740993"])
    | st.sampled_from(["2.2250738585072011e-308", "1.7976931348623157e308", "1e23", "0e0", "-0e9"])
)
ODD = st.sampled_from(
    [
        *("1e400", "-1e309", "1e-400", "NaN", "-Infinity", "01", "1.", ".5", "+1", "0x1", "[1]"),
        *("null", "true", '"1"', "", " 1\t", "1]", "\x00", "9" * 400, "-", "1e", "{}", "\ufeff"),
    ]
)
SYMBOLS = st.text(max_size=4).map(json.dumps) | st.text(max_size=4).map(lambda text: f'"{text}"')
MORE = st.just("") | (
    (st.integers(-2, 2**66).map(str) | st.sampled_from(["null", "1.0", "true", '"1"', "-0", "1e2"]))
    | ODD
).map(lambda text: f',"from_sequence":{text}')
BODIES = st.builds(body_of, st.lists(PRICES | ODD, max_size=4).map(", ".join), SYMBOLS, MORE)


def mutilated(body: bytes, at: int, cut: int, put: bytes) -> bytes:
    at %= len(body)
    return body[:at] + put + body[at + cut :]


@given(st.lists(PRICES, min_size=1), st.text(max_size=5), st.none() | st.integers(0, 2**63))
@example(["-0", "-0.0", "5e-324", "0.10000000000000001", "123456789012345678"], "", 0)
def test_plain_batches_are_read_to_the_bit(
    read: PlainReader, prices: list[str], symbol: str, from_sequence: int | None
) -> None:
    more = "" if from_sequence is None else f',"from_sequence":{from_sequence}'
    body = body_of(",".join(prices), json.dumps(symbol), more)
    numbers = list(map(json.loads, prices))
    fits = all(math.isfinite(float(x)) for x in numbers)
    fits = fits and all(type(x) is float or -(2**63) <= x < 2**64 for x in numbers)
    # Nothing that the benchmark sends, or a client in its senses, is left to the slower path.
    assert check(read, body) or not fits or "[" in symbol


@given(BODIES | st.builds(mutilated, BODIES, st.integers(0, 200), st.integers(0, 3), st.binary()))
def test_a_reader_says_what_the_model_says_or_nothing(read: PlainReader, body: bytes) -> None:
    check(read, body)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_no_bytes_make_a_reader_raise(read: PlainReader, body: bytes) -> None:
    for wrapped in (body, b'{"symbol":' + body, b'{"symbol":"S","values":[' + body + b"]}"):
        check(read, wrapped)


def test_a_refused_body_leaves_nothing_behind(read: PlainReader) -> None:
    """The parser and its buffers are used again; prices given out earlier must not change."""
    first = read(body_of("1.5,2.5"))
    assert first is not None
    for body in (body_of("1e400"), body_of("[1]"), b'{"symbol":"S', body_of("7,8,9")):
        read(body)
    assert first[1].tolist() == [1.5, 2.5]


# --- Traps, each by its name


@pytest.mark.parametrize("values", ["[1]", "1,[2],3", "[1],[2]", "[[1,2],[3]]", "[]", "{}"])
def test_nested_arrays_are_not_flattened(read: PlainReader, values: str) -> None:
    assert read(body_of(values)) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"symbol":"A","symbol":"B","values":[1]}',  # three keys, as many as there may be
        b'{"symbol":"A","values":[1],"symbol":"B","from_sequence":0}',
        b'{"symbol":"A","values":[1],"symb\\u006fl":"B"}',
        b'{"symbol":"A","values":[1],"values":[2]}',
        b'{"symbol":"A","values":[1],"values":2}',
        b'{"symbol":"A","values":1,"values":[2]}',
        b'{"values":1,"values":[2]}',  # two keys, as many as there may be
        b'{"symbol":"A","symbol":"B"}',
        b'{"symbol":"A","values":[1],"from_sequence":1,"from_sequence":0}',
        b'{"symbol":"A","values":[1],"from_sequence":0,"from_sequence":null}',
        b'{"values":[1],"from_sequence":0,"from_sequence":1}',
    ],
)
def test_of_a_repeated_key_the_last_counts_or_none(read: PlainReader, body: bytes) -> None:
    check(read, body)


@pytest.mark.parametrize("text", ["\ufeff", "\ufeff\ufeff", " \ufeff"])
def test_a_byte_order_mark_is_not_skipped(read: PlainReader, text: str) -> None:
    assert read(text.encode() + body_of()) is None
    assert read(text.encode("utf-16-le") + body_of()) is None


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30, 10**308, 10**309])
def test_integers_of_more_than_64_bits(read: PlainReader, number: int) -> None:
    check(read, body_of(f"{number}"))
    check(read, body_of(f"1,{number},2"))
    check(read, body_of(more=f',"from_sequence":{number}'))
    assert read(body_of("9" * 5000)) is None


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e309", "1" + "0" * 400 + ".0"])
def test_a_number_beyond_all_doubles_is_left_to_the_path_that_explains(
    read: PlainReader, number: str
) -> None:
    assert read(body_of(number)) is None


def test_escaped_names_of_keys_mean_the_same(read: PlainReader) -> None:
    assert check(read, b'{"s\\u0079mbol":"S","v\\u0061lues":[1],"from\\u005fsequence":2}')
    assert read(b'{"symbol\\u0000":"S","values":[1]}') is None


def test_from_sequence_may_be_null(read: PlainReader) -> None:
    assert check(read, body_of(more=',"from_sequence":null'))


@pytest.mark.parametrize("text", ["-1", "1.0", "1e2", "true", "false", '"1"', "{}", "01", "NaN"])
def test_from_sequence_that_is_no_count(read: PlainReader, text: str) -> None:
    assert read(body_of(more=f',"from_sequence":{text}')) is None


def test_a_bracket_in_the_name_of_a_symbol_costs_no_more_than_time(read: PlainReader) -> None:
    assert read(body_of(symbol='"BTC[x]"')) is None
    assert model_reads(body_of(symbol='"BTC[x]"')) is not None
    assert check(read, body_of(symbol='"BTC]"'))
    assert check(read, body_of(symbol=r'"BTC\u005bx]"'))


@pytest.mark.parametrize(
    "symbol", [r'"\ud800"', r'"\udc00\ud800"', r'"a\ud83d"', '"\ud800"', r'"\ud83d\u0041"']
)
def test_lone_surrogates(read: PlainReader, symbol: str) -> None:
    assert read(body_of(symbol=symbol)) is None
    assert check(read, body_of(symbol=r'"\ud83d\ude80"'))


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xf5\x80\x80\x80", b"\x80"])
def test_invalid_utf_8(read: PlainReader, text: bytes) -> None:
    assert read(body_of(symbol='"@"').replace(b"@", text)) is None
    assert read(body_of().replace(b"symbol", text)) is None
    assert read(body_of() + text) is None


@pytest.mark.parametrize("text", [b"x", b"{}", b"]", b",", b"\0", body_of(), b"//", b"\x1a"])
def test_trailing_garbage(read: PlainReader, text: bytes) -> None:
    assert read(body_of() + text) is None
    assert check(read, body_of() + b" \r\n\t")


@pytest.mark.parametrize("depth", [10, 1_100, 200_000])
def test_deep_nesting(read: PlainReader, depth: int) -> None:
    opening, closing = b'{"a":' * depth, b"}" * depth
    for inner in (b"[1]", b"1"):
        nested = opening + inner + closing
        for body in (
            nested,
            opening + b"[",
            b'{"symbol":' + nested + b"}",
            b'{"symbol":"S","values":' + nested + b"}",
            b'{"symbol":"S","values":[1],"from_sequence":' + nested + b"}",
            b'{"symbol":"S","values":' + b"[" * depth + b"]" * depth + b"}",
        ):
            assert read(body) is None


def test_nul_bytes(read: PlainReader) -> None:
    body = body_of("1,2.5")
    for at in range(len(body) + 1):
        assert read(body[:at] + b"\0" + body[at:]) is None
    assert check(read, body_of(symbol=r'"a\u0000b"'))


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[", b"[]", b"null", b"[1]", b'{"a":[]}'])
def test_what_is_no_batch(read: PlainReader, body: bytes) -> None:
    assert read(body) is None


def test_an_unknown_key(read: PlainReader) -> None:
    for more in (',"x":1', ',"from_sequence":0,"x":1', ',"":null', ',"Values":1'):
        assert read(body_of(more=more)) is None


# --- Where there is no wheel of simdjson


@pytest.fixture
def without_simdjson(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module as it is where simdjson cannot be imported."""
    import_ = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "simdjson":
            raise ImportError(name)
        return import_(name, *args)

    names = vars(json_batch).copy()
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "simdjson", raising=False)
        patch.setattr(builtins, "__import__", refuse)
        importlib.reload(json_batch)
    yield
    vars(json_batch).update(names)


def name_of(reader: PlainReader) -> str:
    qualified: str = reader.__qualname__
    return qualified.partition(".")[0]


@needs_simdjson
def test_simdjson_is_used_where_it_is() -> None:
    assert name_of(json_batch.plain_reader()) == "simdjson_reader"


@pytest.mark.usefixtures("without_simdjson")
def test_msgspec_stands_in_where_it_is_not() -> None:
    assert vars(json_batch)["Parser"] is None
    assert name_of(json_batch.plain_reader()) == "msgspec_reader"


@needs_simdjson
def test_the_server_answers_the_same_with_either_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [
        body_of("1,2.5,-0.0,5e-324"),
        body_of("1,2.5", more=',"from_sequence":0'),
        body_of("1,2.5", more=',"from_sequence":9'),
        body_of(str(2**70)),
        body_of("[1]"),
        body_of("1e400"),
        body_of("NaN"),
        b'{"symbol":"A","symbol":"B","values":[1]}',
        body_of("1" + ",1" * 10_000),
        body_of(""),
        b"\xef\xbb\xbf" + body_of(),
        body_of()[:-1],
    ]
    requests = [*map(post, bodies), get("/stats/S/1"), get("/stats/B/1"), get("/symbols")]
    answers = []
    for reader in (simdjson_reader, msgspec_reader):
        with monkeypatch.context() as patch:
            patch.setattr(
                "financial_data_service.server.connection.head_cache.plain_reader", reader
            )
            with Wire() as wire:
                connection = wire.connect()
                answers.append([connection.ask(request) for request in requests])
    assert answers[0] == answers[1]
    assert answers[0][0].startswith(b"HTTP/1.1 201 ")


@pytest.mark.usefixtures("without_simdjson")
def test_the_fast_lane_takes_the_reader_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "financial_data_service.server.connection.head_cache.plain_reader", json_batch.plain_reader
    )
    settings = Settings(largest_window=1000)
    lane = FastLane(create_app(settings).state.service.manager, settings)
    body = body_of("1,2")
    assert lane.add(KnownBatch(len(body), "/add_batch/", {}), body, b"") is not None
