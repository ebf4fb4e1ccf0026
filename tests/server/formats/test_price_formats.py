"""Prices as JSON, CSV, float64 and Arrow: each is read back to the bit by a reader of its own.

The readers are those of the standard library and of PyArrow, none of which wrote the bytes.
"""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.server.formats.price_formats import FORMATS, Span

Read = tuple[list[int], list[float]]

FIRST = 2**53 + 1  # a number that no double can hold


def from_json(content: bytes) -> Read:
    said = json.loads(content)
    assert list(said) == ["symbol", "sequence", "first", "values"]
    assert said["symbol"] == 'A"\\\n€'
    assert said["sequence"] - said["first"] == len(said["values"])
    # A whole number may be written without a point; JSON has one kind of number.
    return list(range(said["first"], said["sequence"])), [float(each) for each in said["values"]]


def from_csv(content: bytes) -> Read:
    header, *rows = csv.reader(io.StringIO(content.decode("ascii"), newline=""))
    assert header == ["sequence", "price"]
    return [int(sequence) for sequence, _ in rows], [float(price) for _, price in rows]


def from_float64(content: bytes) -> Read:
    prices = [price for (price,) in struct.iter_unpack("<d", content)]
    return list(range(FIRST, FIRST + len(prices))), prices


def from_arrow(content: bytes) -> Read:
    table = pa.ipc.open_stream(content).read_all()
    expected = [
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
    ]
    assert list(table.schema) == expected
    return table["sequence"].to_pylist(), table["price"].to_pylist()


READERS: dict[str, Callable[[bytes], Read]] = {
    "json": from_json,
    "csv": from_csv,
    "float64": from_float64,
    "arrow": from_arrow,
}

PIECES = st.lists(
    st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=5), min_size=1, max_size=4
)


def test_every_format_has_a_reader_here() -> None:
    assert FORMATS.keys() == READERS.keys()


@pytest.mark.parametrize("name", READERS)
@given(pieces=PIECES)
def test_every_price_is_read_back_to_the_bit(name: str, pieces: list[list[float]]) -> None:
    prices = [price for piece in pieces for price in piece]
    written = FORMATS[name](Span('A"\\\n€', FIRST, FIRST + len(prices)))
    content = written.begin()
    first = FIRST
    for piece in pieces:
        content += written.piece(first, np.array(piece))
        first += len(piece)
    content += written.end()
    assert written.content_length() in (None, len(content))
    sequences, read = READERS[name](content)
    assert sequences == list(range(FIRST, FIRST + len(prices)))
    assert struct.pack(f"<{len(read)}d", *read) == struct.pack(f"<{len(prices)}d", *prices)


def test_only_float64_knows_its_length_beforehand() -> None:
    lengths = {name: kind(Span("A", 3, 10)).content_length() for name, kind in FORMATS.items()}
    assert lengths == {"json": None, "csv": None, "float64": 56, "arrow": None}
