"""FlatBuffers written here byte by byte, as https://flatbuffers.dev/internals/ describes them.

What real writers make, and every way to damage it, is in ``test_arrow_batch.py``.
"""

from __future__ import annotations

import struct

import pytest

from financial_data_service.server.formats.flatbuffer import (
    TEXT_BYTES_MAX,
    FlatBufferError,
    FlatTable,
)

BUFFER = b"".join(
    [
        struct.pack("<I", 20),  # 0: the root table is at 20
        struct.pack("<8H", 16, 24, 4, 0, 8, 12, 16, 20),  # 4: the vtable; field 1 is absent
        struct.pack("<i", 16),  # 20: the table; its vtable is 16 before it
        struct.pack("<h2x", -7),  # 24: field 0, a number
        struct.pack("<I", 16),  # 28: field 2, a string at 44
        struct.pack("<I", 20),  # 32: field 3, a vector of structs at 52
        struct.pack("<I", 36),  # 36: field 4, a vector of tables at 72
        struct.pack("<I", 44),  # 40: field 5, a table at 84
        struct.pack("<I4s", 3, b"\xe2\x82\xac"),  # 44: the string, with its NUL
        struct.pack("<I4i", 2, 1, 2, 3, -4),  # 52: two structs of two int32
        struct.pack("<3I", 2, 8, 4),  # 72: two tables, both at 84
        struct.pack("<iI", -8, 99),  # 84: a table of one number; its vtable is at 92
        struct.pack("<3H", 6, 8, 4),  # 92
    ]
)


@pytest.fixture
def table() -> FlatTable:
    return FlatTable.root(BUFFER)


def test_fields(table: FlatTable) -> None:
    assert table.number(0, "h") == -7
    assert table.text(2) == "€"
    assert table.rows(3, "2i") == [(1, 2), (3, -4)]
    assert [each.number(0, "I") for each in table.tables(4, 2)] == [99, 99]
    inner = table.table(5)
    assert inner is not None
    assert inner.number(0, "I") == 99


@pytest.mark.parametrize("field", [1, 6, 10_000])
def test_absent_fields_have_defaults(table: FlatTable, field: int) -> None:
    assert table.number(field, "h", default=5) == 5
    assert table.text(field) == ""
    assert table.table(field) is None
    assert table.rows(field, "2i") == []
    assert list(table.tables(field, 0)) == []


def test_no_more_tables_are_read_than_asked_for(table: FlatTable) -> None:
    with pytest.raises(FlatBufferError, match="at most 1 items, got 2"):
        list(table.tables(4, 1))


def test_the_beginning_of_a_long_string_is_decoded() -> None:
    text = b"x" * (TEXT_BYTES_MAX - 1) + "é".encode() * 50
    header = struct.pack("<I3HxxiI", 12, 6, 8, 4, 8, 4)
    read = FlatTable.root(header + struct.pack("<I", len(text)) + text).text(0)
    assert read == "x" * (TEXT_BYTES_MAX - 1) + "\ufffd"


@pytest.mark.parametrize("size", range(len(BUFFER)))
def test_a_buffer_that_is_cut_short_is_refused(size: int) -> None:
    with pytest.raises(FlatBufferError):
        test_fields(FlatTable.root(BUFFER[:size]))


@pytest.mark.parametrize(
    ("position", "form", "value"),
    [
        (0, "<I", 2**32 - 1),  # the root is beyond the end
        (20, "<i", 2**31 - 1),  # the vtable is before the buffer
        (20, "<i", -(2**31)),  # and beyond it
        (28, "<I", 2**32 - 1),  # the string is beyond the end
        (44, "<I", 2**32 - 1),  # the string is longer than the buffer
        (52, "<I", 2**31),  # and so is the vector
        (40, "<I", 2**31),
    ],
)
def test_a_position_outside_the_buffer_is_refused(position: int, form: str, value: int) -> None:
    damaged = bytearray(BUFFER)
    struct.pack_into(form, damaged, position, value)
    with pytest.raises(FlatBufferError):
        test_fields(FlatTable.root(bytes(damaged)))
