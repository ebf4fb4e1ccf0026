"""Arrow streams from PyArrow and Polars are read to the bit. Anything else, a damaged stream
included, is refused with a reason, and no byte beyond the body is read.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from financial_data_service.errors import InvalidBatchError
from financial_data_service.server.formats import arrow_batch
from financial_data_service.server.formats.arrow_batch import (
    ArrowCompressionError,
    ArrowStreamError,
    arrow_prices,
)
from financial_data_service.server.formats.flatbuffer import FlatBufferError, FlatTable

pa = pytest.importorskip("pyarrow")

PRICES = [1.5, -2.25, 5e-324, -0.0, 1e150]
COUNT = len(PRICES)


def written(table: Any, **options: Any) -> bytes:
    """A table or a record batch as a stream; options of PyArrow's ``IpcWriteOptions``."""
    stream = io.BytesIO()
    with pa.ipc.new_stream(
        stream, table.schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as writer:
        writer.write(table)
    return stream.getvalue()


def stream_of(values: Any, kind: Any = None) -> bytes:
    return written(pa.table({"price": pa.array(values, kind)}))


def same_bits(ours: npt.NDArray[Any], theirs: Any) -> bool:
    return ours.tobytes() == np.asarray(theirs, dtype=ours.dtype).tobytes()


# --- What is read


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_floats_to_the_bit(values: list[float]) -> None:
    assert same_bits(arrow_prices(stream_of(values, pa.float64())), values)


@pytest.mark.parametrize(
    "kind", ["<f2", "<f4", "<f8", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8"]
)
def test_numbers_of_every_width(kind: str) -> None:
    values = np.array([0, 1, 100], dtype=kind)
    found = arrow_prices(stream_of(values))
    assert found.dtype == np.dtype(kind)
    assert same_bits(found, values)


def test_float64_of_one_batch_is_a_view_on_the_body() -> None:
    body = stream_of(PRICES)
    found = arrow_prices(body)
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))
    assert found.flags.aligned
    assert not found.flags.writeable


def test_several_record_batches_are_one_batch() -> None:
    chunks = [[1.0, 2.0], [], [3.0], [4.0, 5.0, 6.0]]
    found = arrow_prices(written(pa.table({"x": pa.chunked_array(chunks, pa.float64())})))
    assert found.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_part_of_a_larger_table() -> None:
    batch = pa.record_batch({"price": np.arange(100.0)}).slice(30, 5)
    assert arrow_prices(written(batch)).tolist() == [30.0, 31.0, 32.0, 33.0, 34.0]


def test_no_prices() -> None:
    empty: list[float] = []
    assert arrow_prices(stream_of(empty, pa.float64())).size == 0
    assert arrow_prices(written(pa.record_batch({"x": pa.array(empty, pa.int8())}))).size == 0


@pytest.mark.parametrize("name", ["price", "prices", "value", "values"])
def test_of_several_columns_the_one_named_so(name: str) -> None:
    table = pa.table({"a": [1.0] * COUNT, name: PRICES, "z": ["x"] * COUNT})
    assert same_bits(arrow_prices(written(table)), PRICES)


def test_the_only_column_may_have_any_name() -> None:
    for name in ("close", "", "Price", "\N{ROCKET}" * 50):
        assert same_bits(arrow_prices(written(pa.table({name: PRICES}))), PRICES)


def test_price_counts_before_value() -> None:
    table = pa.table({"value": [1.0], "price": [2.0]})
    assert arrow_prices(written(table)).tolist() == [2.0]


UNION_TYPES = pa.array([0] * COUNT, pa.int8())
NEIGHBOURS = {
    "null": pa.nulls(COUNT),
    "bool": pa.array([True, None, False, True, None]),
    "string": pa.array(["a", None, "c" * 40, "", "e"]),
    "large string": pa.array(["a"] * COUNT, pa.large_string()),
    "string view": pa.array(["a", None, "c" * 40, "d" * 40, ""], pa.string_view()),
    "binary view": pa.array([b"a" * 50] * COUNT, pa.binary_view()),
    "binary": pa.array([b"ab"] * COUNT, pa.binary(2)),
    "decimal": pa.array([1, 2, None, 4, 5], pa.decimal128(10, 2)),
    "date": pa.array([1] * COUNT, pa.date32()),
    "time": pa.array([1] * COUNT, pa.time64("us")),
    "timestamp": pa.array([1] * COUNT, pa.timestamp("ns", "UTC")),
    "duration": pa.array([1] * COUNT, pa.duration("s")),
    "interval": pa.array([(1, 2, 3)] * COUNT, pa.month_day_nano_interval()),
    "list": pa.array([[1], None, [2, 3], [], [4]]),
    "large list": pa.array([[1]] * COUNT, pa.large_list(pa.int8())),
    "list view": pa.array([["x"]] * COUNT, pa.list_view(pa.string())),
    "list of fixed size": pa.array([[1, 2]] * COUNT, pa.list_(pa.float32(), 2)),
    "struct": pa.array([{"a": 1, "b": {"c": "x", "d": ["y" * 20]}}] * COUNT),
    "map": pa.array([[("k", 1)]] * COUNT, pa.map_(pa.string(), pa.int8())),
    "dictionary": pa.array(["a", "b", "a", None, "c"]).dictionary_encode(),
    "dictionary of lists": pa.DictionaryArray.from_arrays(
        pa.array([0] * COUNT), pa.array([["a", "b"]])
    ),
    "sparse union": pa.UnionArray.from_sparse(UNION_TYPES, [pa.array(["v"] * COUNT)]),
    "dense union": pa.UnionArray.from_dense(
        UNION_TYPES, pa.array(range(COUNT), pa.int32()), [pa.array(["v"] * COUNT)]
    ),
    "run end encoded": pa.RunEndEncodedArray.from_arrays([COUNT], ["x"]),
}


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_columns_of_every_type_beside_it(kind: str) -> None:
    table = pa.table({"before": NEIGHBOURS[kind], "price": PRICES, "after": NEIGHBOURS[kind]})
    assert same_bits(arrow_prices(written(table)), PRICES)


def test_columns_of_all_types_before_it() -> None:
    table = pa.table(NEIGHBOURS).append_column("price", pa.array(PRICES))
    assert same_bits(arrow_prices(written(table)), PRICES)


def test_metadata_of_version_4() -> None:
    table = pa.table({"s": NEIGHBOURS["string"], "price": PRICES})
    body = written(table, metadata_version=pa.ipc.MetadataVersion.V4)
    assert same_bits(arrow_prices(body), PRICES)


def test_streams_of_polars() -> None:
    pl = pytest.importorskip("polars")
    categories = pl.Series(["a", "b", "a", "c", "b"], dtype=pl.Categorical)
    frame = pl.DataFrame({"c": categories, "s": ["x" * 30] * COUNT, "price": PRICES})
    for shown in (frame, frame.select("price"), pl.concat([frame, frame], rechunk=False)):
        stream = io.BytesIO()
        shown.write_ipc_stream(stream)
        assert same_bits(arrow_prices(stream.getvalue()), shown["price"].to_list())


def test_streams_of_nanoarrow() -> None:
    na = pytest.importorskip("nanoarrow")
    ipc = pytest.importorskip("nanoarrow.ipc")
    stream = io.BytesIO()
    with ipc.StreamWriter.from_writable(stream) as writer:
        column = na.c_array(PRICES, na.float64())
        struct_type = na.struct({"price": na.float64()})
        writer.write_stream(na.c_array_from_buffers(struct_type, COUNT, [None], children=[column]))
    assert same_bits(arrow_prices(stream.getvalue()), PRICES)


def test_extension_types_and_metadata_are_passed_over() -> None:
    field = pa.field("x", pa.float64(), metadata={"ARROW:extension:name": "mine"})
    schema = pa.schema([field], metadata={"pandas": "{}"})
    assert same_bits(arrow_prices(written(pa.table([pa.array(PRICES)], schema))), PRICES)


def test_a_stream_that_ends_without_its_mark() -> None:
    """The end of the body is the end of the stream as well; only whole messages count."""
    assert same_bits(arrow_prices(stream_of(PRICES)[:-8]), PRICES)


# --- Nulls


@pytest.mark.parametrize(
    ("values", "index"),
    [([None], 0), ([1.0, None], 1), ([1.0] * 20 + [None] * 2, 20)],
)
def test_the_first_null_is_named(values: list[float | None], index: int) -> None:
    with pytest.raises(InvalidBatchError, match=rf"got null - at `values\[{index}\]`") as caught:
        arrow_prices(stream_of(values, pa.float64()))
    assert caught.value.index == index


def test_nulls_are_counted_over_all_record_batches() -> None:
    table = pa.table({"x": pa.chunked_array([[1.0, 2.0], [3.0, None]])})
    with pytest.raises(InvalidBatchError) as caught:
        arrow_prices(written(table))
    assert caught.value.index == 3


def test_nulls_of_other_columns_matter_to_nobody() -> None:
    table = pa.table({"price": PRICES, "x": [None] * COUNT})
    assert same_bits(arrow_prices(written(table)), PRICES)


# --- What is refused


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers(codec: str) -> None:
    table = pa.table({"price": np.arange(1000.0)})
    with pytest.raises(ArrowCompressionError, match="without compression"):
        arrow_prices(written(table, compression=codec))


WRONG_TYPES = {
    "utf8": pa.array(["1.5"]),
    "bool": pa.array([True]),
    "null": pa.nulls(1),
    "decimal": pa.array([1], pa.decimal128(10, 2)),
    "timestamp": pa.array([1], pa.timestamp("us")),
    "duration": pa.array([1], pa.duration("us")),
    "list": pa.array([[1.5]]),
    "struct": pa.array([{"price": 1.5}]),
    "utf8_view": pa.array(["1.5"], pa.string_view()),
    "a dictionary": pa.array([1.5]).dictionary_encode(),
    "run_end_encoded": pa.RunEndEncodedArray.from_arrays([1], [1.5]),
}


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_columns_of_other_types(kind: str) -> None:
    with pytest.raises(ArrowStreamError) as caught:
        arrow_prices(written(pa.table({"price": WRONG_TYPES[kind]})))
    assert str(caught.value) == (
        f"Expected a column of float64, other floats or integers, got {kind} - at column `price`"
    )


def test_columns_none_of_which_is_named_so() -> None:
    for names in ([], ["bid", "ask"], ["price", "price"], ["Price", "b"]):
        table = pa.table([pa.array([1.0])] * len(names), names)
        with pytest.raises(ArrowStreamError, match="Expected one column, or one of several named"):
            arrow_prices(written(table))


def an_arrow_file() -> bytes:
    stream = io.BytesIO()
    table = pa.table({"price": PRICES})
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write(table)
    return stream.getvalue()


GOOD = stream_of(PRICES)
SCHEMA_BYTES = 8 + int.from_bytes(GOOD[4:8], "little")
REFUSED = {
    "nothing": (b"", "got no schema"),
    "the end alone": (b"\xff\xff\xff\xff\0\0\0\0", "got no schema"),
    "text": (b"1.5,2.5,3.5", "got 312e352c - at `body[0]`"),
    "an Arrow file": (an_arrow_file(), "got an Arrow file (Feather)"),
    "a stream of before 2019": (
        written(pa.table({"x": [1.0]}), use_legacy_format=True),
        "begins with ffffffff",
    ),
    "cut in a head": (GOOD[:6], "got 6 bytes of it"),
    "cut in the schema": (GOOD[:50], "got 50 bytes of it"),
    "cut in the prices": (GOOD[:-20], f"got {len(GOOD) - 20} bytes of it"),
    "two streams": (GOOD + GOOD, f"got {len(GOOD)} bytes more - at `body[{len(GOOD)}]`"),
    "two schemas": (GOOD[:SCHEMA_BYTES] * 2, "got another message"),
    "prices without a schema": (GOOD[SCHEMA_BYTES:], "got another message"),
    "too many messages": (
        GOOD[:SCHEMA_BYTES] + GOOD[SCHEMA_BYTES:-8] * 5000,
        "at most 1024 messages",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_stream_of_prices(kind: str) -> None:
    body, message = REFUSED[kind]
    with pytest.raises(ArrowStreamError) as caught:
        arrow_prices(body)
    assert message in str(caught.value)
    assert " - at `body" in str(caught.value)


def test_big_endian_is_told() -> None:
    """PyArrow writes none; here is a schema without columns, by hand."""
    message_vtable = struct.pack("<6H4x", 12, 12, 4, 6, 8, 0)
    message = struct.pack("<ihBxI", 16, 4, 1, 12)  # version V5, a schema, 12 bytes ahead
    schema_vtable = struct.pack("<3H2x", 6, 8, 4)
    for endianness, expected in ((1, "got big-endian"), (0, "got none")):
        schema = struct.pack("<ih2x", 8, endianness)
        metadata = struct.pack("<I", 20) + message_vtable + message + schema_vtable + schema
        body = b"\xff\xff\xff\xff" + struct.pack("<I", len(metadata)) + metadata
        with pytest.raises(ArrowStreamError, match=expected):
            arrow_prices(body)


def test_columns_within_columns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema may name one field in many places: 20 structs of two, 2^20 fields."""
    deep: Any = pa.float64()
    for _ in range(10):
        deep = pa.struct([("a", deep)])
    body = written(pa.table({"x": pa.nulls(1, deep), "price": [1.0]}))
    assert arrow_prices(body).tolist() == [1.0]
    for limit in ("_DEPTH_MAX", "FIELDS_MAX"):
        with monkeypatch.context() as patch:
            patch.setattr(arrow_batch, limit, 9)
            with pytest.raises(ArrowStreamError, match=r"damaged \(Expected at most"):
                arrow_prices(body)


# --- Anything at all


def refuses_or_reads(body: bytes) -> None:
    try:
        prices = arrow_prices(body)
    except (ArrowStreamError, ArrowCompressionError, InvalidBatchError):
        return
    assert prices.nbytes <= len(body)
    prices.copy()  # every byte is there to be read


SEEDS = [
    GOOD,
    written(pa.table({"b": NEIGHBOURS["struct"], "v": NEIGHBOURS["string view"], "price": PRICES})),
    written(pa.table({"d": NEIGHBOURS["dictionary"], "price": [1.0, None, 2.0, 3.0, 4.0]})),
]
WORDS = st.sampled_from([0, 1, -1, 127, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, -(2**63)])


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_bytes_that_are_wrong(seed: bytes, changes: list[tuple[int, int]]) -> None:
    body = bytearray(seed)
    for at, value in changes:
        body[at % len(body)] = value
    refuses_or_reads(bytes(body))


def test_every_single_bit_that_is_wrong() -> None:
    """One such bit ends the process of a library that was tried."""
    for bit in range(8 * len(GOOD)):
        body = bytearray(GOOD)
        body[bit // 8] ^= 1 << bit % 8
        refuses_or_reads(bytes(body))


@given(st.sampled_from(SEEDS), st.integers(0, 10_000), WORDS)
def test_words_that_are_wrong(seed: bytes, at: int, word: int) -> None:
    at %= len(seed) - 8
    refuses_or_reads(
        seed[:at] + struct.pack("<q", max(min(word, 2**63 - 1), -(2**63))) + seed[at + 8 :]
    )


@given(st.sampled_from(SEEDS), st.integers(0, 10_000), st.integers(0, 20), st.binary(max_size=20))
def test_pieces_that_are_missing_or_more(seed: bytes, at: int, cut: int, put: bytes) -> None:
    at %= len(seed)
    refuses_or_reads(seed[:at] + put + seed[at + cut :])


@given(st.binary(max_size=200))
@example(b"\xff\xff\xff\xff\xff\xff\xff\xff")
@example(b"\xff\xff\xff\xff\x04\0\0\0\0\0\0\0")
@example(b"\xff\xff\xff\xff\x08\0\0\0\x04\0\0\0\x00\0\0\0")
def test_bytes_of_any_kind(body: bytes) -> None:
    refuses_or_reads(body)
    refuses_or_reads(b"\xff\xff\xff\xff" + len(body).to_bytes(4, "little") + body)


@given(st.binary(max_size=64), st.integers(0, 8))
def test_a_flatbuffer_of_any_bytes(data: bytes, field: int) -> None:
    def looked(read: Any) -> Any:
        try:
            return read()
        except FlatBufferError:
            return None

    root = looked(lambda: FlatTable.root(data))
    if root is not None:
        looked(lambda: root.number(field, "q"))
        looked(lambda: root.text(field))
        looked(lambda: root.rows(field, "qq"))
        looked(lambda: root.table(field))
        assert len(looked(lambda: list(root.tables(field, 3))) or []) <= 3
