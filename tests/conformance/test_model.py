"""Random requests, valid and not, against lists and exact arithmetic: every reply is right, and all
lanes answer alike.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from financial_data_service.engine.kernels import PRICE_MAX
from support.http_model import (
    Add,
    AddBytes,
    Delete,
    Everything,
    Last,
    Request,
    Target,
    Window,
    play,
)
from support.service_process import Service

SYMBOLS = st.sampled_from(["A", "B/C", "\N{ROCKET}", "a b", "%2F", *(f"S{i}" for i in range(9))])
OFTEN = st.sampled_from(["A", "B/C"])
NAMES = OFTEN | SYMBOLS

TICKS = st.integers(-10_000, 1_000_000).map(lambda ticks: ticks / 100)
CLOSE = st.integers(-50, 50).map(lambda ticks: 1e8 + ticks / 64)
ANY = st.floats(-PRICE_MAX, PRICE_MAX)
BATCHES = (
    st.lists(TICKS, min_size=1, max_size=40)
    | st.lists(CLOSE, min_size=1, max_size=40)
    | st.lists(ANY, min_size=1, max_size=40)
    | st.builds(lambda price, n: [price] * n, TICKS, st.integers(1, 400))
)

TOKENS = st.sampled_from(
    [
        *("NaN", "Infinity", "-Infinity", "1e400", "1e151", "-0", "-0.0", "5e-324", "1e-400"),
        *("true", "null", '"1"', "[1]", "[]", "{}", '{"a":1}', "1]", "", " 1 ", "\ufeff1"),
        *("01", "1.", "+1", "18446744073709551616", "9" * 400, "123456789012345678"),
        "0.1000000000000000055511151231257827",
    ]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def with_token(symbol: str, token: str, at: int, count: int) -> bytes:
    values = ["1.5"] * count
    values.insert(at % (count + 1), token)
    return f'{{"symbol":{json.dumps(symbol)},"values":[{",".join(values)}]}}'.encode()


def mutated(values: list[float], sequence: int | None, at: int, cut: int, put: bytes) -> bytes:
    body: dict[str, Any] = {"symbol": "A", "values": values, "from_sequence": sequence}
    data = json.dumps(body).encode()
    begin = at % len(data)
    return data[:begin] + put + data[begin + cut :]


BODIES = (
    st.builds(with_token, OFTEN, TOKENS, st.integers(0, 9), st.integers(0, 5))
    | st.builds(
        mutated,
        st.lists(TICKS | ANY, min_size=1, max_size=3),
        st.none() | st.integers(0, 9),
        st.integers(0, 999),
        st.integers(0, 3),
        st.binary(max_size=2) | st.sampled_from([b'"', b"[", b"]", b"{", b",", b"\\u", b" ", b"-"]),
    )
    | st.fixed_dictionaries(
        {},
        optional={
            "symbol": NAMES | JSON,
            "values": BATCHES | JSON,
            "from_sequence": st.integers(0, 50) | JSON,
            "other": JSON,
        },
    ).map(lambda content: json.dumps(content).encode())
    | st.binary(max_size=30)
)
TARGETS = st.builds(
    str.__add__,
    st.sampled_from(["/stats/", "/stats", "/stats/A/", "/stats/?symbol=A&k=", "/symbols/", "/"]),
    st.text("AB12/%2Fkls=&?+;#._-~:@", max_size=12),
)

REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(Add, NAMES, BATCHES, in_chunks=st.booleans()),
    st.builds(Add, OFTEN, BATCHES),
    st.builds(Add, OFTEN, BATCHES, st.integers(0, 30), st.booleans()),
    st.builds(Add, NAMES, BATCHES, st.none(), st.booleans()),
    st.builds(AddBytes, BODIES, st.booleans()),
    st.builds(Window, NAMES, st.integers(-1, 7), st.booleans()),
    st.builds(Window, OFTEN, st.integers(1, 5), st.booleans()),
    st.builds(Last, OFTEN, st.integers(0, 1500) | st.sampled_from([100_000, 100_001])),
    st.builds(Everything),
    st.builds(Delete, NAMES),
    st.builds(Target, TARGETS),
)


@settings(max_examples=120)
@given(st.lists(REQUESTS, max_size=25))
@example([Add("A", [1.0]), Add("A#b", [2.0]), Target("/stats/A#b/1"), Window("A#b", 1)])
@example([Add("A", [0.0]), AddBytes(b'{"symbol":"A","values":[-0],"from_sequence":0}')])
@example([Add(f"S{i}", [1.0]) for i in range(11)])
def test_random_requests(both_lanes: dict[str, Service], requests: list[Request]) -> None:
    play([service.url for service in both_lanes.values()], requests)
