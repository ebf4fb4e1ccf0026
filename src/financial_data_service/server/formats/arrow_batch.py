"""Read a batch from an Arrow IPC stream. Prices that are float64 are not copied.

The stream is a sequence of messages: a schema, then record batches. Dictionary messages are
skipped, because prices do not need them.

    +------------+---------------+--------------------+---------------------+
    | ffff ffff  | int32: length | metadata, a        | body: the buffers,  | …  ffff ffff 0000 0000
    |            | of metadata   | FlatBuffer         | each at an offset   |
    +------------+---------------+--------------------+---------------------+

The reader needs the names and types of the columns from the schema, and the two buffers of one
column from a record batch. To find these buffers, it must know how many buffers the columns before
it have.

No library is used, for two reasons. The small libraries, nanoarrow 0.9 and arro3 0.9, crash the
process on some streams with a single wrong bit in the metadata. PyArrow does not crash but takes
164 MB. Here every position is checked before it is used, and the number of prices is checked
against the number of bytes. (``docs/explanation/decisions.md`` has the numbers.)

Sources: Arrow columnar format 1.5, "Serialization and Interprocess Communication"; Message.fbs and
Schema.fbs of format version V5, from which the numbers of fields below are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service.errors import InvalidBatchError
from financial_data_service.server.formats.flatbuffer import FlatBufferError, FlatTable

__all__ = ["ArrowCompressionError", "ArrowStreamError", "arrow_prices"]

PRICE_COLUMNS = ("price", "prices", "value", "values")
"""Names of the price column if there are several columns. The first that exists is read."""

_CONTINUATION = b"\xff\xff\xff\xff"
_FILE_MAGIC = b"ARROW1"
_SCHEMA, _DICTIONARY, _RECORD_BATCH = 1, 2, 3
_V4, _V5 = 3, 4

FIELDS_MAX = 1024
"""Maximum number of columns, including nested ones.

A schema may refer to one field many times, so its size does not limit the number of columns.
"""

MESSAGES_MAX = 1024
"""Maximum messages of a stream. Each takes about 10 µs, in which no other request is served."""

_DEPTH_MAX = 64  # of columns within columns

# Type number → name of the type, and the number of buffers of such a column without its children.
_TYPES = {
    1: ("null", 0),
    2: ("int", 2),
    3: ("float", 2),
    4: ("binary", 3),
    5: ("utf8", 3),
    6: ("bool", 2),
    7: ("decimal", 2),
    8: ("date", 2),
    9: ("time", 2),
    10: ("timestamp", 2),
    11: ("interval", 2),
    12: ("list", 2),
    13: ("struct", 1),
    14: ("union", 1),
    15: ("fixed_size_binary", 2),
    16: ("fixed_size_list", 1),
    17: ("map", 2),
    18: ("duration", 2),
    19: ("large_binary", 3),
    20: ("large_utf8", 3),
    21: ("large_list", 2),
    22: ("run_end_encoded", 0),
    23: ("binary_view", 2),
    24: ("utf8_view", 2),
    25: ("list_view", 3),
    26: ("large_list_view", 3),
}
_INT, _FLOAT, _UNION = 2, 3, 14
_VIEWS = (23, 24)
_FLOATS = {0: "<f2", 1: "<f4", 2: "<f8"}
_INTS = {8, 16, 32, 64}


class ArrowStreamError(ValueError):
    """A body is not an Arrow stream with prices. The message says what it is."""


class ArrowCompressionError(ValueError):
    """The buffers of a stream are compressed."""


class _ArrowMessage(NamedTuple):
    kind: int
    version: int
    header: FlatTable
    body_start: int
    body_bytes: int


class _Column(NamedTuple):
    """The position of the prices in a record batch.

    Attributes
    ----------
    name, dtype : str
        Name of the column, and its type in NumPy's notation.
    node, buffer, views : int
        Numbers of columns, of buffers, and of columns with a variable number of buffers that
        precede it.
    """

    name: str
    dtype: str
    node: int
    buffer: int
    views: int


class _FieldSpan(NamedTuple):
    """The share of a field in a record batch, its children included."""

    nodes: int
    buffers: int
    views: int


def arrow_prices(body: bytes) -> npt.NDArray[np.floating | np.integer]:
    """Return the prices of an Arrow IPC stream, in the type of their column.

    O(1) for one record batch, O(n) for several.

    Returns
    -------
    array of shape (n,)
        A read-only view on the body, or a copy where there are several record batches.

    Raises
    ------
    ArrowStreamError
        When it is no such stream, or has no column of numbers that could be the prices.
    ArrowCompressionError
        When its buffers are compressed.
    InvalidBatchError
        When a price is null; ``index`` is its position.
    """
    try:
        parts = list(_parts(body))
    except FlatBufferError as error:
        raise ArrowStreamError(
            f"Expected an Arrow IPC stream, got metadata that are damaged ({error}) - at `body`"
        ) from None
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _parts(body: bytes) -> Iterator[npt.NDArray[np.floating | np.integer]]:
    """Yield the prices of each record batch. If there is no record batch, yield an empty array."""
    column: _Column | None = None
    count = 0
    is_empty = True
    for message in _messages(body):
        if message.kind == _SCHEMA and column is None:
            column = _price_column(message)
        elif message.kind == _RECORD_BATCH and column is not None:
            prices = _prices_of_batch(body, message, column, count)
            count += len(prices)
            is_empty = False
            yield prices
        elif message.kind != _DICTIONARY or column is None:
            raise ArrowStreamError(
                "Expected a schema and then record batches, got another message - at `body`"
            )
    if column is None:
        raise ArrowStreamError("Expected an Arrow IPC stream, got no schema - at `body`")
    if is_empty:
        yield np.empty(0)


def _messages(body: bytes) -> Iterator[_ArrowMessage]:
    """Yield the messages of a stream. No bytes may follow its end."""
    position = 0
    for _ in range(MESSAGES_MAX):
        if position == len(body):
            return
        if body[position : position + 4] != _CONTINUATION:
            raise ArrowStreamError(_what_else(body, position))
        metadata_start = position + 8
        metadata_bytes = int.from_bytes(body[position + 4 : metadata_start], "little")
        if metadata_start > len(body) or metadata_start + metadata_bytes > len(body):
            raise _cut_off(body)
        if metadata_bytes == 0:
            if metadata_start < len(body):
                raise ArrowStreamError(
                    f"Expected the end of the stream, got {len(body) - metadata_start} bytes more "
                    f"- at `body[{metadata_start}]`"
                )
            return
        body_start = metadata_start + metadata_bytes
        message = _message(body[metadata_start:body_start], body_start)
        position = body_start + message.body_bytes
        if message.body_bytes < 0 or position > len(body):
            raise _cut_off(body)
        yield message
    raise ArrowStreamError(f"Expected at most {MESSAGES_MAX} messages, got more - at `body`")


def _message(metadata: bytes, body_start: int) -> _ArrowMessage:
    root = FlatTable.root(metadata)
    header = root.table(2)
    if header is None:
        raise FlatBufferError("Expected a message, got an empty one")
    version = root.number(0, "h")
    if version not in (_V4, _V5):
        raise ArrowStreamError(
            f"Expected Arrow metadata of version V4 or V5, got V{version + 1} - at `body`"
        )
    return _ArrowMessage(root.number(1, "B"), version, header, body_start, root.number(3, "q"))


def _what_else(body: bytes, position: int) -> str:
    if body.startswith(_FILE_MAGIC):
        return "Expected an Arrow IPC stream, got an Arrow file (Feather) - at `body`"
    return (
        "Expected an Arrow IPC message, which begins with ffffffff, got "
        f"{body[position : position + 4].hex()} - at `body[{position}]`"
    )


def _cut_off(body: bytes) -> ArrowStreamError:
    return ArrowStreamError(
        f"Expected an Arrow IPC stream to its end, got {len(body)} bytes of it - at `body`"
    )


# Schema


def _price_column(message: _ArrowMessage) -> _Column:
    """Return the position of the prices.

    They are in the only column, or in the one with a name of a price column.
    """
    if message.header.number(0, "h"):
        raise ArrowStreamError("Expected little-endian Arrow data, got big-endian - at `body`")
    fields = list(message.header.tables(1, FIELDS_MAX))
    names = [field.text(0) for field in fields]
    index = _index_of_prices(names)
    dtype = _dtype(fields[index], names[index])
    counter = _SpanCounter(message.version)
    spans = [counter.span(field) for field in fields[:index]]
    nodes, buffers, views = (sum(column) for column in zip((0, 0, 0), *spans, strict=True))
    return _Column(names[index], dtype, nodes, buffers, views)


def _index_of_prices(names: list[str]) -> int:
    if len(names) == 1:
        return 0
    for name in PRICE_COLUMNS:
        if names.count(name) == 1:
            return names.index(name)
    shown = ", ".join(f"`{name[:32]}`" for name in names[:8]) or "none"
    wanted = ", ".join(f"`{name}`" for name in PRICE_COLUMNS)
    raise ArrowStreamError(
        f"Expected one column, or one of several named {wanted}, got {shown} - at `body`"
    )


def _dtype(field: FlatTable, name: str) -> str:
    kind = field.number(2, "B")
    found, _ = _TYPES.get(kind, ("an unknown type", 0))
    details = field.table(3)
    if field.table(4) is not None:
        found = "a dictionary"
    elif kind == _FLOAT and details is not None:
        precision = details.number(0, "h")
        if precision in _FLOATS:
            return _FLOATS[precision]
    elif kind == _INT and details is not None:
        bits = details.number(0, "i")
        if bits in _INTS:
            return f"<{'i' if details.number(1, 'B') else 'u'}{bits // 8}"
    raise ArrowStreamError(
        f"Expected a column of float64, other floats or integers, got {found} "
        f"- at column `{name[:32]}`"
    )


class _SpanCounter:
    """Counts the share of each field in a record batch; for one schema."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._fields = 0

    def span(self, field: FlatTable, depth: int = 0) -> _FieldSpan:
        """Return what a field takes, its children included."""
        self._fields += 1
        if self._fields > FIELDS_MAX or depth > _DEPTH_MAX:
            raise FlatBufferError(
                f"Expected at most {FIELDS_MAX} columns, {_DEPTH_MAX} within each other, got more"
            )
        kind = field.number(2, "B")
        if field.table(4) is not None:  # The batch has indices, the dictionary the rest.
            return _FieldSpan(1, 2, 0)
        if kind not in _TYPES:
            raise ArrowStreamError(
                f"Expected columns of types known in 2024, got type {kind} "
                f"- at column `{field.text(0)[:32]}`"
            )
        children = [self.span(child, depth + 1) for child in field.tables(5, FIELDS_MAX)]
        own = _FieldSpan(1, _TYPES[kind][1], int(kind in _VIEWS))
        if kind == _UNION:
            own = _FieldSpan(1, self._union_buffers(field), 0)
        return _FieldSpan(*(sum(column) for column in zip(own, *children, strict=True)))

    def _union_buffers(self, field: FlatTable) -> int:
        """Return the number of buffers of a union:

        one for types, one for offsets if it is dense, and one for nulls before V5.
        """
        details = field.table(3)
        is_dense = details is not None and details.number(0, "h") == 1
        return 1 + int(is_dense) + int(self._version < _V5)


# Record batches


def _prices_of_batch(
    body: bytes, message: _ArrowMessage, column: _Column, first: int
) -> npt.NDArray[np.floating | np.integer]:
    """Return the prices of a record batch; `first` prices came before it."""
    batch = message.header
    if batch.table(3) is not None:
        raise ArrowCompressionError(
            "Expected an Arrow stream without compression, got one with compressed buffers"
        )
    nodes = batch.rows(1, "qq")
    buffers = batch.rows(2, "qq")
    # View columns have additional buffers. Their number is stored in the record batch.
    variadic = [count for (count,) in batch.rows(4, "q")[: column.views]]
    at = column.buffer + sum(variadic)
    if column.node >= len(nodes) or not 0 <= at <= len(buffers) - 2 or len(variadic) < column.views:
        raise FlatBufferError("Expected buffers for each column, got fewer")
    length, null_count = nodes[column.node]
    validity, data = (_slice(message, buffer) for buffer in buffers[at : at + 2])
    dtype = np.dtype(column.dtype)
    if length < 0 or data.stop - data.start < length * dtype.itemsize:
        raise FlatBufferError(f"Expected {length} prices in a buffer, got fewer bytes")
    if null_count:
        _refuse_nulls(body[validity], length, first)
    return np.frombuffer(body, dtype, length, data.start) if length else np.empty(0, dtype)


def _slice(message: _ArrowMessage, buffer: tuple[int, ...]) -> slice:
    offset, length = buffer
    if offset < 0 or length < 0 or offset + length > message.body_bytes:
        raise FlatBufferError("Expected a buffer within the message, got one that is not")
    start = message.body_start + offset
    return slice(start, start + length)


def _refuse_nulls(validity: bytes, length: int, first: int) -> None:
    """Raise an error for the first null.

    A column with a nonzero null count may still have no null.
    """
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")[:length]
    if len(bits) < length:
        raise FlatBufferError("Expected a bit for each price, got fewer")
    if not bits.all():
        index = first + int(bits.argmin())
        raise InvalidBatchError(f"Expected `float`, got null - at `values[{index}]`", index)
