"""Prices in and out in bulk: any finite prices that go in in any format come out in every format,
to the bit; limits, retries, refusals; and the libraries that people have at hand as clients.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from financial_data_service.engine.kernels import PRICE_MAX
from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.paths import ROOT
from support.raw_http import ARROW_TYPE, FLOAT64_TYPE, JSON_TYPE
from support.service_process import Service, running

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

EXAMPLE = ROOT / "examples" / "btcusdt-trades.parquet"
Prices = npt.NDArray[np.float64]

ANY = st.floats(-PRICE_MAX, PRICE_MAX)
TICKS = st.integers(-10_000, 10_000_000).map(lambda ticks: ticks / 100)
BATCHES = st.lists(ANY | TICKS, min_size=1, max_size=60)


@pytest.fixture(scope="module")
def client() -> Iterator[InProcess]:
    app = create_app(Settings(max_symbols=2, largest_window=1_000_000))
    with InProcess(app) as client:
        yield client


@pytest.fixture
def symbol(client: InProcess) -> Iterator[str]:
    """A name with a slash, as it stands in a path; the symbol is gone afterwards."""
    yield "BTC%2FUSDT"
    client.request("DELETE", "/symbols/BTC%2FUSDT")


def arrow_stream(values: Any, name: str = "price") -> bytes:
    stream = io.BytesIO()
    table = pa.table({name: pa.array(values, pa.float64())})
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    return stream.getvalue()


IN: dict[str, tuple[str, Callable[[list[float]], bytes]]] = {
    "float64": (FLOAT64_TYPE, lambda values: struct.pack(f"<{len(values)}d", *values)),
    "arrow": (ARROW_TYPE, arrow_stream),
    "array": (JSON_TYPE, lambda values: json.dumps(values).encode()),
    "object": (JSON_TYPE, lambda values: json.dumps({"values": values}).encode()),
}
OUT: dict[str, Callable[[bytes], Any]] = {
    "json": lambda content: json.loads(content)["values"],
    "csv": lambda content: [float(line.split(b",")[1]) for line in content.splitlines()[1:]],
    "float64": np.frombuffer,
    "arrow": lambda content: pa.ipc.open_stream(content).read_all()["price"].to_numpy(),
}


def add(
    client: InProcess, symbol: str, values: Any, kind: str = "float64", query: str = ""
) -> httpx.Response:
    media_type, written = IN[kind]
    headers = {"Content-Type": media_type}
    return client.post(f"/add_batch/{symbol}{query}", content=written(values), headers=headers)


def add_bytes(client: InProcess, symbol: str, body: bytes, media_type: str) -> httpx.Response:
    headers = {"Content-Type": media_type} if media_type else {}
    return client.post(f"/add_batch/{symbol}", content=body, headers=headers)


def values(client: InProcess, symbol: str, last: int, name: str) -> Any:
    reply = client.get(f"/values/{symbol}?last={last}&format={name}")
    assert reply.status_code == 200, reply.text
    return OUT[name](reply.content)


def same_bits(ours: Any, theirs: Any) -> bool:
    return np.asarray(ours, "<f8").tobytes() == np.asarray(theirs, "<f8").tobytes()


def refusal(reply: httpx.Response) -> tuple[str, list[str | int], str]:
    """Type, place and message of the (one) thing that is wrong with a request."""
    assert reply.status_code == 422, reply.text
    (item,) = reply.json()["detail"]
    return item["type"], item["loc"], item["msg"]


# --- In and out


@pytest.mark.parametrize("kind", IN)
@settings(max_examples=25)
@given(batches=st.lists(BATCHES, min_size=1, max_size=3))
@example(
    batches=[[-0.0, 5e-324, -5e-324, 1e150, -1e150, 0.1, 1 / 3, 1e22, 1e16, 123456789012345680.0]]
)
def test_what_goes_in_comes_out_to_the_bit(
    client: InProcess, kind: str, batches: list[list[float]]
) -> None:
    sent: list[float] = []
    for batch in batches:
        reply = add(client, "S", batch, kind)
        sent += batch
        assert reply.status_code == 201
        assert reply.json()["added"] == len(batch)
        assert reply.json()["sequence"] == len(sent)
    for name in OUT:
        assert same_bits(values(client, "S", len(sent), name), sent), name
        assert same_bits(values(client, "S", 1, name), sent[-1:]), name
    client.request("DELETE", "/symbols/S")


def test_prices_of_an_exchange(client: InProcess, symbol: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    trades: Prices = parquet.read_table(EXAMPLE)["price"].to_numpy()
    kinds = list(IN)
    for index, begin in enumerate(range(0, len(trades), 499)):
        batch = trades[begin : begin + 499].tolist()
        query = f"?from_sequence={begin}"
        assert add(client, symbol, batch, kinds[index % 4], query).status_code == 201
    assert len(trades) > 2_000
    for name in OUT:
        assert same_bits(values(client, symbol, len(trades), name), trades), name
    exact = client.get(f"/stats/{symbol}?last={len(trades)}").json()
    assert (exact["min"], exact["max"]) == (trades.min(), trades.max())


def test_a_thousand_are_returned_if_not_told_how_many(client: InProcess, symbol: str) -> None:
    add(client, symbol, [float(n) for n in range(1500)])
    reply = client.get(f"/values/{symbol}").json()
    assert (reply["symbol"], reply["sequence"], reply["first"]) == ("BTC/USDT", 1500, 500)
    assert reply["values"] == [float(n) for n in range(500, 1500)]
    with InProcess(create_app(Settings(largest_window=10))) as small:
        add(small, "S", [1.0] * 20)
        assert len(small.get("/values/S").json()["values"]) == 10


def test_what_came_out_may_be_sent_again_from_its_first(client: InProcess, symbol: str) -> None:
    add(client, symbol, [float(n) for n in range(100)])
    reply = client.get(f"/values/{symbol}?last=30&format=float64")
    assert reply.headers["x-sequence"] == "100"
    again = add(client, symbol, OUT["float64"](reply.content).tolist(), query="?from_sequence=70")
    assert reply.headers["x-first"] == "70"
    assert (again.status_code, again.json()["added"]) == (200, 0)


# --- Retries


@pytest.mark.parametrize("kind", IN)
def test_a_retry_adds_what_is_missing(client: InProcess, symbol: str, kind: str) -> None:
    first = add(client, symbol, [1.0, 2.0, 3.5], kind, "?from_sequence=0")
    assert (first.status_code, first.json()["added"]) == (201, 3)
    for from_sequence, batch, status, added in (
        (0, [1.0, 2.0, 3.5], 200, 0),
        (2, [3.5, 9.0], 201, 1),
        (0, [1.0, 2.0, 3.5, 9.0], 200, 0),
        (4, [7.0], 201, 1),
    ):
        reply = add(client, symbol, batch, kind, f"?from_sequence={from_sequence}")
        assert (reply.status_code, reply.json()["added"]) == (status, added)
    gap = add(client, symbol, [1.0], kind, "?from_sequence=6")
    assert (gap.status_code, gap.json()["sequence"]) == (409, 5)
    other = add(client, symbol, [1.0, 2.5], kind, "?from_sequence=0")
    assert other.status_code == 409
    assert other.json()["detail"] == (
        "Expected 2.0 as stored for symbol BTC/USDT at sequence 1, got 2.5 - at `values[1]`"
    )
    assert same_bits(values(client, symbol, 10, "json"), [1.0, 2.0, 3.5, 9.0, 7.0])


def test_from_sequence_in_the_body(client: InProcess, symbol: str) -> None:
    def send(target: str, **content: Any) -> httpx.Response:
        return client.post(f"/add_batch/{target}", json=content)

    assert send(symbol, values=[1.0, 2.0], from_sequence=0).status_code == 201
    assert send(symbol, values=[1.0, 2.0], from_sequence=0).status_code == 200
    assert send(f"{symbol}?from_sequence=0", values=[1.0, 2.0], from_sequence=0).status_code == 200
    assert send(f"{symbol}?from_sequence=1", values=[2.0], from_sequence=None).status_code == 200
    kind, place, message = refusal(send(f"{symbol}?from_sequence=1", values=[9.0], from_sequence=2))
    assert (kind, place) == ("from_sequence_twice", ["query", "from_sequence"])
    assert message == "Expected from_sequence of 2 as in the body, got 1"


@pytest.mark.parametrize("text", ["-1", "x", "", "1.5", "0x1", "1e3", "9" * 5000])
def test_a_from_sequence_that_is_none(client: InProcess, symbol: str, text: str) -> None:
    _, place, _ = refusal(add(client, symbol, [1.0], query=f"?from_sequence={text}"))
    assert place == ["query", "from_sequence"]


# --- Refusals


@pytest.mark.parametrize("kind", IN)
@pytest.mark.parametrize("invalid", ["nan", "inf", "-inf", "1e151"])
@pytest.mark.parametrize("index", [0, 3, 9_999])
def test_an_unfit_price_is_named_by_its_position(
    client: InProcess, symbol: str, kind: str, invalid: str, index: int
) -> None:
    batch = [1.0] * 10_000
    batch[index] = float(invalid)
    found, place, message = refusal(add(client, symbol, batch, kind))
    assert found in ("invalid_batch", "finite_number")
    assert place == ["body", "values", index]
    if found == "invalid_batch":
        got = repr(float(invalid))
        assert message == (
            f"Expected a finite price of magnitude 1e+150 at most, got {got} - at `values[{index}]`"
        )
    assert client.get(f"/stats/{symbol}").status_code == 404


@pytest.mark.parametrize("kind", IN)
def test_one_to_ten_thousand_prices(client: InProcess, symbol: str, kind: str) -> None:
    assert add(client, symbol, [1.0] * 10_000, kind).status_code == 201
    for count in (0, 10_001, 50_000):
        _, place, message = refusal(add(client, symbol, [1.0] * count, kind))
        assert place == ["body", "values"]
        assert message == f"Expected 1 to 10000 prices, got {count} - at `values`"


@pytest.mark.parametrize("length", [1, 7, 9, 79_999])
def test_a_body_that_is_no_whole_prices(client: InProcess, symbol: str, length: int) -> None:
    assert refusal(add_bytes(client, symbol, bytes(length), FLOAT64_TYPE)) == (
        "float64_length",
        ["body"],
        f"Expected a body of float64, 8 bytes each, got {length} bytes - at `body`",
    )


def test_the_other_byte_order_cannot_be_told(client: InProcess, symbol: str) -> None:
    """1.0 the wrong way round is a price, if a very small one."""
    reply = add_bytes(client, symbol, struct.pack(">d", 1.0), FLOAT64_TYPE)
    assert reply.status_code == 201
    assert values(client, symbol, 1, "json") == [3.03865e-319]


def test_a_body_that_is_too_large(client: InProcess, symbol: str) -> None:
    for media_type in (FLOAT64_TYPE, ARROW_TYPE, JSON_TYPE):
        reply = add_bytes(client, symbol, bytes(2 * 1024 * 1024 + 8), media_type)
        assert reply.status_code == 413
        assert reply.json()["detail"].startswith("Expected a body of 2097152 bytes at most")


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "text/csv",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/vnd.apache.arrow.file",
        "application",
        "*/*",
    ],
)
def test_other_types_are_told_which_there_are(
    client: InProcess, symbol: str, media_type: str
) -> None:
    reply = add_bytes(client, symbol, bytes(8), media_type)
    assert reply.status_code == 415
    got = f"`{media_type}`" if media_type else "none"
    assert reply.json()["detail"] == (
        f"Expected `Content-Type: {FLOAT64_TYPE}`, `{ARROW_TYPE}` or `{JSON_TYPE}`, got {got}"
    )


@pytest.mark.parametrize(
    "media_type",
    ["Application/Octet-Stream", "application/octet-stream; x=y", " application/octet-stream "],
)
def test_types_are_compared_as_they_should(client: InProcess, symbol: str, media_type: str) -> None:
    assert add_bytes(client, symbol, bytes(8), media_type).status_code == 201


def test_compressed_bodies(client: InProcess, symbol: str) -> None:
    headers = {"Content-Type": FLOAT64_TYPE, "Content-Encoding": "gzip"}
    reply = client.post(f"/add_batch/{symbol}", content=bytes(8), headers=headers)
    assert (reply.status_code, reply.json()["detail"]) == (
        415,
        "Expected a body without Content-Encoding",
    )
    table = pa.table({"price": np.arange(1000.0)})
    stream = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(stream, table.schema, options=options) as writer:
        writer.write_table(table)
    reply = add_bytes(client, symbol, stream.getvalue(), ARROW_TYPE)
    assert reply.status_code == 415
    assert reply.json()["detail"].startswith("Expected an Arrow stream without compression")


def test_arrow_that_is_wrong(client: InProcess, symbol: str) -> None:
    body = arrow_stream([1.0, None, 3.0])
    assert refusal(add_bytes(client, symbol, body, ARROW_TYPE)) == (
        "invalid_batch",
        ["body", "values", 1],
        "Expected `float`, got null - at `values[1]`",
    )
    stream = io.BytesIO()
    table = pa.table({"price": ["1.5"]})
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    kind, place, message = refusal(add_bytes(client, symbol, stream.getvalue(), ARROW_TYPE))
    assert (kind, place) == ("arrow_invalid", ["body"])
    assert message.endswith("got utf8 - at column `price`")
    for body in (b"", b"x", arrow_stream([1.0])[:-20]):
        assert refusal(add_bytes(client, symbol, body, ARROW_TYPE))[:2] == (
            "arrow_invalid",
            ["body"],
        )


JSON_REFUSED = {
    b"": ("json_invalid", ["body"]),
    b"1": ("model_type", ["body"]),
    b"[1,": ("json_invalid", ["body"]),
    b'[1,"2"]': ("float_type", ["body", "values", 1]),
    b"[true]": ("float_type", ["body", "values", 0]),
    b"[null]": ("float_type", ["body", "values", 0]),
    b"[[1]]": ("float_type", ["body", "values", 0]),
    b" [1, {}]": ("float_type", ["body", "values", 1]),
    b"{}": ("missing", ["body", "values"]),
    b'{"values":1}': ("list_type", ["body", "values"]),
    b'{"values":["1"]}': ("float_type", ["body", "values", 0]),
    b'{"values":[1],"symbol":"S"}': ("extra_forbidden", ["body", "symbol"]),
    b'{"values":[1],"from_sequence":-1}': ("greater_than_equal", ["body", "from_sequence"]),
    b'{"values":[1],"from_sequence":"0"}': ("int_type", ["body", "from_sequence"]),
}


@pytest.mark.parametrize("body", JSON_REFUSED)
def test_json_that_is_wrong(client: InProcess, symbol: str, body: bytes) -> None:
    assert refusal(add_bytes(client, symbol, body, JSON_TYPE))[:2] == JSON_REFUSED[body]


@pytest.mark.parametrize(
    ("name", "got"), [("A" * 129, "got 129"), ("A%0AB", "U+000A"), ("%7F", "U+007F")]
)
def test_symbols_that_cannot_be(client: InProcess, name: str, got: str) -> None:
    for reply in (add(client, name, [1.0]), client.get(f"/values/{name}")):
        kind, place, message = refusal(reply)
        assert (kind, place) == ("invalid_symbol", ["path", "symbol"])
        assert got in message


def test_the_limit_of_symbols(client: InProcess) -> None:
    for name in ("A", "B"):
        assert add(client, name, [1.0]).status_code == 201
    reply = add(client, "C", [1.0])
    assert (reply.status_code, reply.json()) == (
        400,
        {"detail": "Maximum number of symbols (2) reached"},
    )
    for name in ("A", "B"):
        client.request("DELETE", f"/symbols/{name}")
    assert client.get("/values/A").status_code == 404


@pytest.mark.parametrize("last", [0, -1, 1_000_001, 10**30])
def test_lengths_that_are_never_kept(client: InProcess, symbol: str, last: int) -> None:
    add(client, symbol, [1.0])
    reply = client.get(f"/values/{symbol}?last={last}")
    assert reply.status_code == 422
    assert reply.json()["detail"] == f"Window size (last={last}) must be between 1 and 1000000"


# --- Which format


TYPES = {
    "json": JSON_TYPE,
    "csv": "text/csv; charset=utf-8",
    "float64": FLOAT64_TYPE,
    "arrow": ARROW_TYPE,
}


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        (None, "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("text/*, */*;q=0.1", "csv"),
        ("application/json;q=0.5, application/octet-stream", "float64"),
        ("application/vnd.apache.arrow.stream, */*;q=0.1", "arrow"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
    ],
)
def test_the_format_is_negotiated(
    client: InProcess, symbol: str, accept: str | None, name: str
) -> None:
    add(client, symbol, [1.5, 2.5])
    headers = {} if accept is None else {"Accept": accept}
    reply = client.request("GET", f"/values/{symbol}", headers=headers)
    assert reply.headers["content-type"] == TYPES[name]
    assert reply.headers["vary"] == "Accept"
    assert list(OUT[name](reply.content)) == [1.5, 2.5]


@pytest.mark.parametrize("name", TYPES)
def test_format_overrides_accept(client: InProcess, symbol: str, name: str) -> None:
    add(client, symbol, [1.5])
    for accept in ("application/json", "text/html", "*/*;q=0", "nonsense"):
        reply = client.request("GET", f"/values/{symbol}?format={name}", headers={"Accept": accept})
        assert (reply.status_code, reply.headers["content-type"]) == (200, TYPES[name])


def test_what_there_is_not(client: InProcess, symbol: str) -> None:
    add(client, symbol, [1.5])
    reply = client.request("GET", f"/values/{symbol}", headers={"Accept": "text/html"})
    assert reply.status_code == 406
    assert reply.headers["vary"] == "Accept"
    assert reply.json()["detail"] == (
        f"Expected `Accept` of one of {JSON_TYPE}, text/csv, {FLOAT64_TYPE}, {ARROW_TYPE}, "
        "got `text/html`"
    )
    _, place, message = refusal(client.get(f"/values/{symbol}?format=xml"))
    assert place == ["query", "format"]
    assert "'json', 'csv', 'float64' or 'arrow'" in message


# --- The libraries that people have, against the real service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("bulk")) as service:
        yield service


def test_numpy_pandas_polars_and_pyarrow_as_clients(service: Service) -> None:
    prices = np.random.default_rng(5).normal(40_000, 100, 25_000)
    frame = pd.DataFrame({"time": pd.date_range("2026-01-01", periods=25_000), "price": prices})
    polars_stream = io.BytesIO()
    pl.DataFrame({"venue": ["x"] * 5_000, "price": prices[10_000:15_000]}).write_ipc_stream(
        polars_stream
    )
    pandas_stream = io.BytesIO()
    table = pa.Table.from_pandas(frame[15_000:])
    with pa.ipc.new_stream(pandas_stream, table.schema) as writer:
        writer.write_table(table)
    url = f"{service.url}/add_batch/CLIENTS"
    for content, media_type, begin in (
        (prices[:10_000].tobytes(), FLOAT64_TYPE, 0),
        (polars_stream.getvalue(), ARROW_TYPE, 10_000),
        (pandas_stream.getvalue(), ARROW_TYPE, 15_000),
    ):
        reply = httpx.post(
            f"{url}?from_sequence={begin}", content=content, headers={"Content-Type": media_type}
        )
        assert reply.status_code == 201, reply.text

    def get(name: str) -> bytes:
        return httpx.get(
            f"{service.url}/values/CLIENTS", params={"last": 25_000, "format": name}
        ).content

    assert same_bits(np.frombuffer(get("float64")), prices)
    # Before 3.1 pandas rounds one number in eight, unless asked not to.
    is_exact = Version(pd.__version__) >= Version("3.1")
    exactly = {} if is_exact else {"float_precision": "round_trip"}
    read = pd.read_csv(io.BytesIO(get("csv")), **exactly)
    assert same_bits(read["price"], prices)
    assert read["sequence"].tolist() == list(range(25_000))
    assert same_bits(pl.read_csv(get("csv"))["price"], prices)
    assert same_bits(pl.read_ipc_stream(get("arrow"))["price"], prices)
    assert same_bits(pa.ipc.open_stream(get("arrow")).read_all()["price"], prices)
    assert same_bits(pd.read_json(io.BytesIO(get("json")), precise_float=True)["values"], prices)
