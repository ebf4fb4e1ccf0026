"""A reader for FlatBuffers: tables, strings and vectors, as far as Arrow's metadata uses them.

Every position comes from untrusted bytes. It is checked against the buffer before it is read, and
the amount that is read is limited. So an invalid buffer can only cause a refusal.

The layout (https://flatbuffers.dev/internals/): A table begins with the distance back to its
vtable. The vtable holds its own size, the table's size, and for each field its distance from the
start of the table (0 if the field is absent). Strings, vectors and nested tables are found by a
forward distance. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Self

__all__ = ["FlatBufferError", "FlatTable"]

TEXT_BYTES_MAX = 64
"""Maximum number of bytes decoded from a string.

The limit is needed because many fields may refer to one long string.
"""


class FlatBufferError(ValueError):
    """Bytes that are not a FlatBuffer. The caller turns this into its own error."""


class FlatTable:
    """A table within a buffer. Fields are numbered as in the schema. A union takes two numbers.

    Parameters
    ----------
    data : bytes
        The whole buffer.
    position : int
        Where the table begins.
    """

    __slots__ = ("_data", "_position", "_vtable", "_vtable_bytes")

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - self._read("<i", position)
        self._vtable_bytes = self._read("<H", self._vtable)

    @classmethod
    def root(cls, data: bytes) -> Self:
        """Return the root table of a buffer."""
        if len(data) < 4:
            raise FlatBufferError(f"Expected a FlatBuffer, got {len(data)} bytes")
        return cls(data, int.from_bytes(data[:4], "little"))

    def number(self, field: int, form: str, default: int = 0) -> int:
        """Return a number; the format is one of :mod:`struct`."""
        position = self._field(field)
        return self._read(f"<{form}", position) if position else default

    def table(self, field: int) -> FlatTable | None:
        """Return a table within this one, if it is there."""
        position = self._field(field)
        return FlatTable(self._data, self._forward(position)) if position else None

    def text(self, field: int) -> str:
        """Return the beginning of a string; invalid UTF-8 is replaced."""
        position = self._field(field)
        if not position:
            return ""
        begin, length = self._vector(position, 1)
        return self._data[begin : begin + min(length, TEXT_BYTES_MAX)].decode("utf-8", "replace")

    def tables(self, field: int, most: int) -> Iterator[FlatTable]:
        """Yield the tables of a vector, `most` of them at most."""
        position = self._field(field)
        if position:
            begin, length = self._vector(position, 4)
            if length > most:
                raise FlatBufferError(f"Expected at most {most} items, got {length}")
            for at in range(begin, begin + 4 * length, 4):
                yield FlatTable(self._data, self._forward(at))

    def rows(self, field: int, form: str) -> list[tuple[int, ...]]:
        """Return a vector of structs; the format is one of :mod:`struct`."""
        position = self._field(field)
        if not position:
            return []
        row = struct.Struct(f"<{form}")
        begin, length = self._vector(position, row.size)
        return list(row.iter_unpack(self._data[begin : begin + length * row.size]))

    def _field(self, field: int) -> int:
        """Return the position of a field; 0 if it is absent, because no field is at 0."""
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_bytes:
            return 0
        distance = self._read("<H", self._vtable + entry)
        return self._position + distance if distance else 0

    def _forward(self, position: int) -> int:
        return position + self._read("<I", position)

    def _vector(self, position: int, item_bytes: int) -> tuple[int, int]:
        """Return where the items of a vector begin, and how many there are."""
        start = self._forward(position)
        length = self._read("<I", start)
        if start + 4 + length * item_bytes > len(self._data):
            raise FlatBufferError(f"Expected a vector of {length} items, got the buffer's end")
        return start + 4, length

    def _read(self, form: str, position: int) -> int:
        if position < 0:  # It would be counted from the end.
            raise FlatBufferError("Expected a position in the buffer, got one before it")
        try:
            value: int = struct.unpack_from(form, self._data, position)[0]
        except struct.error:
            raise FlatBufferError(
                f"Expected a position among {len(self._data)} bytes, got {position}"
            ) from None
        return value
