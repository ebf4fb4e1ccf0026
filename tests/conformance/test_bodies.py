"""Bodies of ``POST /add_batch/``: what is taken is stored to the bit; what is not is refused with
its status and place, and leaves nothing behind.
"""

from __future__ import annotations

import json
import math
import random
import struct
import time
from typing import Any

import pytest

from support.raw_http import JSON_TYPE, batch, chunk, get, post, post_chunked
from support.service_process import Service

BODY_BYTES_MAX = 2 * 1024 * 1024
TOO_LARGE = {
    "detail": f"Expected a body of {BODY_BYTES_MAX} bytes at most; send fewer values in a batch"
}
ROCKETS = "\N{ROCKET}" * 128

# Body → the symbol and prices that are stored.
TAKEN: dict[str, tuple[bytes, str, list[float]]] = {
    "plain": (b'{"symbol":"S","values":[1,2.5,-3]}', "S", [1.0, 2.5, -3.0]),
    "white space all over": (
        b' \t\r\n{ "symbol" : "S" , "values" : [ 1 , 2 ] } \n',
        "S",
        [1.0, 2.0],
    ),
    "values first": (b'{"values":[1],"symbol":"S"}', "S", [1.0]),
    "from_sequence null": (b'{"symbol":"S","values":[1],"from_sequence":null}', "S", [1.0]),
    "from_sequence 0": (b'{"from_sequence":0,"symbol":"S","values":[1]}', "S", [1.0]),
    "of repeated keys the last": (
        b'{"symbol":"T","values":[1],"values":[2,3],"symbol":"S"}',
        "S",
        [2.0, 3.0],
    ),
    "of a repeated symbol the last": (
        b'{"symbol":"T","symbol":"S","values":[1],"from_sequence":0}',
        "S",
        [1.0],
    ),
    "of a repeated from_sequence the last": (
        b'{"symbol":"S","values":[1],"from_sequence":7,"from_sequence":0}',
        "S",
        [1.0],
    ),
    "escaped key": (b'{"\\u0073ymbol":"S","values":[1]}', "S", [1.0]),
    "escaped symbol": (b'{"symbol":"\\u0053\\/\\"\\\\","values":[1]}', 'S/"\\', [1.0]),
    "surrogate pair": (b'{"symbol":"\\ud83d\\ude80","values":[1]}', "\N{ROCKET}", [1.0]),
    "brackets in the symbol": (b'{"symbol":"[S]{}","values":[1]}', "[S]{}", [1.0]),
    "longest symbol": (batch(ROCKETS, [1.0]), ROCKETS, [1.0]),
    "minus zero": (b'{"symbol":"S","values":[-0.0,-0e0,0.0]}', "S", [-0.0, -0.0, 0.0]),
    # An integer has no minus zero.
    "minus zero, an integer": (b'{"symbol":"S","values":[-0,1,-0 ,-0]}', "S", [0.0, 1.0, 0.0, 0.0]),
    "least": (b'{"symbol":"S","values":[5e-324,-5e-324]}', "S", [5e-324, -5e-324]),
    "half of the least": (
        b'{"symbol":"S","values":[2.4703282292062327e-324,2.4703282292062328e-324]}',
        "S",
        [0.0, 5e-324],
    ),
    "below the least": (b'{"symbol":"S","values":[1e-400,0e999]}', "S", [0.0, 0.0]),
    "largest": (b'{"symbol":"S","values":[1e150,-1E+150]}', "S", [1e150, -1e150]),
    "largest, an integer": (b'{"symbol":"S","values":[1' + b"0" * 150 + b"]}", "S", [1e150]),
    "63 to 65 bits": (
        b'{"symbol":"S","values":[%d,%d,%d,%d]}' % (2**63 - 1, -(2**63), 2**64 - 1, 2**64 + 2049),
        "S",
        [float(2**63 - 1), -(2.0**63), float(2**64 - 1), float(2**64 + 2049)],
    ),
    "beyond 2^53": (
        b'{"symbol":"S","values":[9007199254740993,9007199254740993.0]}',
        "S",
        [9007199254740992.0, 9007199254740992.0],
    ),
    "half an ulp above 1": (
        b'{"symbol":"S","values":[1.00000000000000011102230246251565404236316680908203125,'
        b"1.00000000000000011102230246251565404236316680908203126]}",
        "S",
        [1.0, 1.0000000000000002],
    ),
    "800 digits": (b'{"symbol":"S","values":[0.1' + b"0" * 800 + b"1]}", "S", [0.1]),
    "huge mantissa, tiny exponent": (
        b'{"symbol":"S","values":[1' + b"0" * 400 + b".0e-400]}",
        "S",
        [1.0],
    ),
}

INVALID_JSON = "Invalid JSON: "
NOT_A_NUMBER = "Input should be a valid number"


def invalid(got: str, index: int = 0) -> str:
    """What the engine says of a price that is none."""
    return f"Expected a finite price of magnitude 1e+150 at most, got {got} - at `values[{index}]`"


# What is no JSON at all.
NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "white space": b" \n",
    "word": b"x",
    "byte order mark": b'\xef\xbb\xbf{"symbol":"S","values":[1]}',
    "UTF-16": '{"symbol":"S","values":[1]}'.encode("utf-16"),
    "trailing word": b'{"symbol":"S","values":[1]} x',
    "trailing brace": b'{"symbol":"S","values":[1]}}',
    "trailing NUL": b'{"symbol":"S","values":[1]}\0',
    "two objects": b'{"symbol":"S","values":[1]}{"symbol":"S","values":[1]}',
    "cut short": b'{"symbol":"S","values":[1,2',
    "trailing comma": b'{"symbol":"S","values":[1,]}',
    "comma behind the last key": b'{"symbol":"S","values":[1],}',
    "no comma": b'{"symbol":"S","values":[1 2]}',
    "leading zero": b'{"symbol":"S","values":[01]}',
    "plus": b'{"symbol":"S","values":[+1]}',
    "bare fraction": b'{"symbol":"S","values":[.5]}',
    "bare point": b'{"symbol":"S","values":[1.]}',
    "bare exponent": b'{"symbol":"S","values":[1e]}',
    "bare minus": b'{"symbol":"S","values":[-]}',
    "hexadecimal": b'{"symbol":"S","values":[0x10]}',
    "underscore": b'{"symbol":"S","values":[1_0]}',
    "nan": b'{"symbol":"S","values":[nan]}',
    "inf": b'{"symbol":"S","values":[inf]}',
    "single quotes": b"{'symbol':'S','values':[1]}",
    "comment": b'{"symbol":"S",/**/"values":[1]}',
    "integer of 5,000 digits": b'{"symbol":"S","values":[1' + b"0" * 5000 + b"]}",
    "nested 100,000 deep": b'{"symbol":"S","values":' + b"[" * 100_000,
    "objects 100,000 deep": b'{"a":' * 100_000,
    "broken UTF-8": b'{"symbol":"S\xff","values":[1]}',
    "overlong UTF-8": b'{"symbol":"S\xc0\xaf","values":[1]}',
    "surrogate in UTF-8": b'{"symbol":"S\xed\xa0\x80","values":[1]}',
    "cut UTF-8": b'{"symbol":"S\xe2\x82","values":[1]}',
    "lone leading surrogate": b'{"symbol":"\\ud800","values":[1]}',
    "lone trailing surrogate": b'{"symbol":"\\ude80","values":[1]}',
    "surrogates the wrong way round": b'{"symbol":"\\ude80\\ud83d","values":[1]}',
    "control character, raw": b'{"symbol":"S\tT","values":[1]}',
}

# Body → type, place and message of the (one) error.
REFUSED: dict[str, tuple[bytes, str, list[str | int], str]] = {
    **{name: (body, "json_invalid", ["body"], INVALID_JSON) for name, body in NOT_JSON.items()},
    "null": (b"null", "model_type", ["body"], "Input should be an object"),
    "number": (b"1", "model_type", ["body"], "Input should be an object"),
    "array": (
        b'[{"symbol":"S","values":[1]}]',
        "model_type",
        ["body"],
        "Input should be an object",
    ),
    "string": (b'"x"', "model_type", ["body"], "Input should be an object"),
    "no symbol": (b'{"values":[1]}', "missing", ["body", "symbol"], "Field required"),
    "no values": (b'{"symbol":"S"}', "missing", ["body", "values"], "Field required"),
    "misspelt key": (
        b'{"symbol":"S","values":[1],"fromSequence":0}',
        "extra_forbidden",
        ["body", "fromSequence"],
        "Extra inputs are not permitted",
    ),
    "unknown key": (
        b'{"symbol":"S","source":[[2],{"a":3}],"values":[1]}',
        "extra_forbidden",
        ["body", "source"],
        "Extra inputs are not permitted",
    ),
    "symbol a number": (
        b'{"symbol":1,"values":[1]}',
        "string_type",
        ["body", "symbol"],
        "Input should be a valid string",
    ),
    "symbol null": (
        b'{"symbol":null,"values":[1]}',
        "string_type",
        ["body", "symbol"],
        "Input should be a valid string",
    ),
    "symbol an array": (
        b'{"symbol":["S"],"values":[1]}',
        "string_type",
        ["body", "symbol"],
        "Input should be a valid string",
    ),
    "symbol empty": (
        b'{"symbol":"","values":[1]}',
        "invalid_symbol",
        ["body", "symbol"],
        "Expected a symbol of 1 to 128 characters, got 0 - at `symbol`",
    ),
    "symbol too long": (
        batch("S" * 129, [1.0]),
        "invalid_symbol",
        ["body", "symbol"],
        "Expected a symbol of 1 to 128 characters, got 129 - at `symbol`",
    ),
    "symbol of 1 MB": (
        batch("S" * 1_000_000, [1.0]),
        "invalid_symbol",
        ["body", "symbol"],
        "Expected a symbol of 1 to 128 characters, got 1000000 - at `symbol`",
    ),
    "control character, escaped": (
        b'{"symbol":"S\\u0000","values":[1]}',
        "invalid_symbol",
        ["body", "symbol"],
        "Expected a symbol without control characters, got U+0000 - at `symbol[1]`",
    ),
    "C1 control character": (
        batch("SS\x85", [1.0]),
        "invalid_symbol",
        ["body", "symbol"],
        "Expected a symbol without control characters, got U+0085 - at `symbol[2]`",
    ),
    "values null": (
        b'{"symbol":"S","values":null}',
        "list_type",
        ["body", "values"],
        "Input should be a valid array",
    ),
    "values a number": (
        b'{"symbol":"S","values":1}',
        "list_type",
        ["body", "values"],
        "Input should be a valid array",
    ),
    "values a string": (
        b'{"symbol":"S","values":"12"}',
        "list_type",
        ["body", "values"],
        "Input should be a valid array",
    ),
    "values an object": (
        b'{"symbol":"S","values":{"0":1}}',
        "list_type",
        ["body", "values"],
        "Input should be a valid array",
    ),
    "no prices": (
        b'{"symbol":"S","values":[]}',
        "invalid_batch",
        ["body", "values"],
        "Expected 1 to 10000 prices, got 0 - at `values`",
    ),
    "a price too many": (
        batch("S", [1.0] * 10_001),
        "invalid_batch",
        ["body", "values"],
        "Expected 1 to 10000 prices, got 10001 - at `values`",
    ),
    "NaN": (
        b'{"symbol":"S","values":[1,NaN]}',
        "invalid_batch",
        ["body", "values", 1],
        invalid("nan", 1),
    ),
    "Infinity": (
        b'{"symbol":"S","values":[Infinity]}',
        "invalid_batch",
        ["body", "values", 0],
        invalid("inf"),
    ),
    "-Infinity": (
        b'{"symbol":"S","values":[1,2,-Infinity,NaN]}',
        "invalid_batch",
        ["body", "values", 2],
        invalid("-inf", 2),
    ),
    "1e400": (
        b'{"symbol":"S","values":[1,2,3,1e400]}',
        "invalid_batch",
        ["body", "values", 3],
        invalid("inf", 3),
    ),
    "-1e400": (
        b'{"symbol":"S","values":[-1e400]}',
        "invalid_batch",
        ["body", "values", 0],
        invalid("-inf"),
    ),
    "just too large": (
        b'{"symbol":"S","values":[1e150,1.0000000000000002e+150]}',
        "invalid_batch",
        ["body", "values", 1],
        invalid("1.0000000000000002e+150", 1),
    ),
    "integer of 1,001 bits": (
        b'{"symbol":"S","values":[%d]}' % 2**1000,
        "invalid_batch",
        ["body", "values", 0],
        invalid(repr(2.0**1000)),
    ),
    "integer of 1,101 bits": (
        b'{"symbol":"S","values":[1,%d]}' % 2**1100,
        "invalid_batch",
        ["body", "values", 1],
        invalid("inf", 1),
    ),
    "price a string": (
        b'{"symbol":"S","values":[1,2,3,"4"]}',
        "float_type",
        ["body", "values", 3],
        NOT_A_NUMBER,
    ),
    "price a boolean": (
        b'{"symbol":"S","values":[true]}',
        "float_type",
        ["body", "values", 0],
        NOT_A_NUMBER,
    ),
    "price null": (
        b'{"symbol":"S","values":[1,null]}',
        "float_type",
        ["body", "values", 1],
        NOT_A_NUMBER,
    ),
    "price an array": (
        b'{"symbol":"S","values":[1,[2,3]]}',
        "float_type",
        ["body", "values", 1],
        NOT_A_NUMBER,
    ),
    "prices an array in an array": (
        b'{"symbol":"S","values":[[1,2]]}',
        "float_type",
        ["body", "values", 0],
        NOT_A_NUMBER,
    ),
    "price an empty array": (
        b'{"symbol":"S","values":[1,[]]}',
        "float_type",
        ["body", "values", 1],
        NOT_A_NUMBER,
    ),
    "price an object": (
        b'{"symbol":"S","values":[{"a":1}]}',
        "float_type",
        ["body", "values", 0],
        NOT_A_NUMBER,
    ),
    "from_sequence negative": (
        b'{"symbol":"S","values":[1],"from_sequence":-1}',
        "greater_than_equal",
        ["body", "from_sequence"],
        "Input should be greater than or equal to 0",
    ),
    "from_sequence a fraction": (
        b'{"symbol":"S","values":[1],"from_sequence":0.0}',
        "int_type",
        ["body", "from_sequence"],
        "Input should be a valid integer",
    ),
    "from_sequence a string": (
        b'{"symbol":"S","values":[1],"from_sequence":"0"}',
        "int_type",
        ["body", "from_sequence"],
        "Input should be a valid integer",
    ),
    "from_sequence a boolean": (
        b'{"symbol":"S","values":[1],"from_sequence":false}',
        "int_type",
        ["body", "from_sequence"],
        "Input should be a valid integer",
    ),
    "from_sequence NaN": (
        b'{"symbol":"S","values":[1],"from_sequence":NaN}',
        "int_type",
        ["body", "from_sequence"],
        "Input should be a valid integer",
    ),
}


def same_bits(values: list[float], expected: list[float]) -> bool:
    return struct.pack(f"{len(values)}d", *values) == struct.pack(f"{len(expected)}d", *expected)


@pytest.mark.parametrize("name", TAKEN)
def test_body_is_taken_to_the_bit(service: Service, name: str) -> None:
    body, symbol, prices = TAKEN[name]
    reply = service.add(body)
    assert reply.status == 201
    assert reply.json() == {
        "status": "success",
        "message": f"Added batch for symbol: {symbol}",
        "symbol": symbol,
        "added": len(prices),
        "sequence": len(prices),
    }
    # A retry is compared with what is stored bit by bit; its numbers are written another way.
    again = service.add(batch(symbol, prices, from_sequence=0))
    assert again.status == 200, again
    (stats,) = service.get("/stats/?k=1")["symbols"]
    assert stats["symbol"] == symbol
    (window,) = stats["stats"]
    assert same_bits([window["last"]], prices[-1:])
    assert (window["min"], window["max"], window["values"]) == (
        min(prices),
        max(prices),
        len(prices),
    )


@pytest.mark.parametrize("name", REFUSED)
def test_body_is_refused_with_its_place_and_nothing_is_stored(service: Service, name: str) -> None:
    body, kind, place, message = REFUSED[name]
    service.add(batch("S", [1.0, 2.0]))
    before = service.state()
    with service.connect() as connection:
        reply = connection.ask(post(body))
        assert reply.status == 422
        content = reply.json()
        assert content.keys() == {"detail"}
        (error,) = content["detail"]
        assert error.keys() == {"type", "loc", "msg", "input"}
        assert (error["type"], error["loc"]) == (kind, place)
        if message == INVALID_JSON:
            assert error["msg"].startswith(message)
            assert " at line 1 column " in error["msg"] or " at line 2 column " in error["msg"]
        else:
            assert error["msg"] == message
        assert len(reply.body) < 1000
        assert connection.is_usable()
    assert service.state() == before


def test_every_error_of_a_body_is_listed_once(service: Service) -> None:
    reply = service.add(b'{"values":["1","2"],"from_sequence":-1}')
    assert reply.status == 422
    assert [error["loc"] for error in reply.json()["detail"]] == [
        ["body", "symbol"],
        ["body", "values", 0],
        ["body", "from_sequence"],
    ]


def test_random_prices_arrive_to_the_bit(service: Service) -> None:
    rng = random.Random(17)
    prices = [struct.unpack("d", rng.randbytes(8))[0] for _ in range(12_000)]
    prices = [price for price in prices if math.isfinite(price) and abs(price) <= 1e150][:8000]
    spellings = [repr, "{:.17g}".format, "{:.20e}".format, "{:.25E}".format]
    text = ",".join(rng.choice(spellings)(price) for price in prices)
    assert service.add(f'{{"symbol":"S","values":[{text}]}}'.encode()).status == 201
    assert service.add(batch("S", prices, from_sequence=0)).status == 200


def test_random_integers_arrive_as_the_nearest_double(service: Service) -> None:
    rng = random.Random(18)
    integers = [rng.getrandbits(bits) for bits in range(40, 498) for _ in range(10)]
    # Half way between two doubles, and one off it.
    for bits in range(60, 498):
        half = 1 << (bits - 54)
        tie = rng.getrandbits(53) * 2 * half + (1 << (bits - 1)) // (2 * half) * (2 * half) + half
        integers += [tie - 1, tie, tie + 1]
    text = ",".join(map(str, integers))
    assert service.add(f'{{"symbol":"S","values":[{text}]}}'.encode()).status == 201
    nearest = [float(integer) for integer in integers]
    assert service.add(batch("S", nearest, from_sequence=0)).status == 200


def test_a_batch_of_10000_is_the_longest(service: Service) -> None:
    prices = [100 + i / 64 for i in range(10_000)]
    assert service.add(batch("S", prices)).json()["sequence"] == 10_000
    assert service.get("/stats/S/4")["values"] == 10_000


def test_a_body_of_strings_is_refused_at_once(service: Service) -> None:
    body = b'{"symbol":"S","values":[' + b",".join([b'""'] * 690_000) + b"]}"
    begin = time.monotonic()
    reply = service.add(body)
    assert reply.status == 422
    assert [error["loc"] for error in reply.json()["detail"]] == [["body", "values", 0]]
    # It took 9 s when each of them became an error.
    assert time.monotonic() - begin < 3


def test_a_body_of_100_mb_is_refused_by_its_head(service: Service) -> None:
    with service.connect() as connection:
        head = post(b"").replace(b"Content-Length: 0", b"Content-Length: 100000000")
        reply = connection.ask(head)
        assert (reply.status, reply.json()) == (413, TOO_LARGE)
    assert service.get("/symbols")["symbols"] == []


def test_a_client_may_send_100_mb_regardless(service: Service) -> None:
    with service.connect() as connection:
        connection.send(post(b"").replace(b"Content-Length: 0", b"Content-Length: 100000000"))
        piece = b" " * 1_000_000
        for _ in range(100):
            connection.send(piece)
        assert connection.receive().status == 413
        assert connection.is_usable()


def test_a_body_of_100_mb_in_chunks_is_refused_as_soon_as_it_is_too_large(
    service: Service,
) -> None:
    with service.connect() as connection:
        connection.send(post_chunked([])[: -len(chunk(b""))])
        piece = chunk(b" " * 1_000_000)
        for _ in range(3):
            connection.send(piece)
        # It is told before the body is at its end.
        reply = connection.receive()
        assert (reply.status, reply.json()) == (413, TOO_LARGE)
        for _ in range(97):
            connection.send(piece)
        connection.send(chunk(b""))
        assert connection.is_usable()
    assert service.get("/symbols")["symbols"] == []


@pytest.mark.parametrize("in_chunks", [False, True], ids=["declared", "chunked"])
def test_the_largest_body_is_taken_and_a_byte_more_is_not(
    service: Service, in_chunks: bool
) -> None:
    body = batch("S", [1.5]).ljust(BODY_BYTES_MAX)
    for sent, status in ((body, 201), (body + b" ", 413)):
        request = post_chunked([sent[:999], sent[999:]]) if in_chunks else post(sent)
        reply = service.ask(request)
        assert reply.status == status
    assert service.get("/stats/S/1")["sequence"] == 1


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "  application/json  ",
        "application/vnd.prices+json",
    ],
)
def test_content_types_of_json(service: Service, content_type: str) -> None:
    reply = service.ask(post(batch("S", [1.0]), content_type=content_type))
    assert reply.status == 201


@pytest.mark.parametrize(
    ("content_type", "got"),
    [
        (None, "none"),
        ("", "none"),
        ("text/plain", "`text/plain`"),
        ("application/x-www-form-urlencoded", "`application/x-www-form-urlencoded`"),
        ("application/jsonp", "`application/jsonp`"),
        ("application/json, text/plain", "`application/json, text/plain`"),
        ("json", "`json`"),
        ("\xe9", "`\xe9`"),
        ("text/plain" + "x" * 100, "`text/plain" + "x" * 54 + "`"),
    ],
)
def test_other_content_types(service: Service, content_type: str | None, got: str) -> None:
    with service.connect() as connection:
        reply = connection.ask(post(batch("S", [1.0]), content_type=content_type))
        assert reply.status == 415
        assert reply.json() == {"detail": f"Expected `Content-Type: {JSON_TYPE}`, got {got}"}
        assert connection.is_usable()
    assert service.get("/symbols")["symbols"] == []


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [(JSON_TYPE, "text/plain", 201), ("text/plain", JSON_TYPE, 415)],
)
def test_of_two_content_types_the_first_counts(
    service: Service, first: str, second: str, status: int
) -> None:
    request = post(batch("S", [1.0]), f"Content-Type: {second}", content_type=first)
    assert service.ask(request).status == status


def test_an_unfit_price_is_found_wherever_it_is(service: Service) -> None:
    service.add(batch("S", [1.0]))
    before = service.state()
    for index in (0, 1, 126, 127, 128, 5000, 9999):
        values = ["2"] * 10_000
        values[index] = "NaN"
        body = f'{{"symbol":"S","values":[{",".join(values)}]}}'.encode()
        (error,) = service.add(body).json()["detail"]
        assert error["loc"] == ["body", "values", index]
        assert error["msg"] == invalid("nan", index)
    assert service.state() == before


def test_replies_are_json_that_python_reads_back(service: Service) -> None:
    symbol = 'é"\\/\N{ROCKET}\u2028<script>'
    service.add(batch(symbol, [0.1, 1e150, -1e-300, 5e-324]))
    body = service.ask(get("/stats/")).body
    assert json.loads(body)["symbols"][0]["symbol"] == symbol
    window: dict[str, Any] = json.loads(body)["symbols"][0]["stats"][0]
    assert (window["min"], window["max"], window["last"]) == (-1e-300, 1e150, 5e-324)
