"""Reading a plain batch out of JSON bytes, as fast as can be.

*Plain* is a body that is nothing but ``{"symbol": "…", "values": [numbers], "from_sequence": n}``
(the last one optional), keys in any order. Whatever else comes, be it wrong or merely unusual, is
answered ``None`` here and read again by the validating path, which has the words for it. So these
readers may refuse anything, but what they return must be what the validating path would read.

simdjson (Langdale, Lemire: Parsing gigabytes of JSON per second, VLDB Journal 28, 2019,
doi:10.1007/s00778-019-00578-5) hands the array over as one buffer of doubles. It is at ease with
things that JSON as this API reads it is not, each of which has a named test: nested arrays are
flattened, of a repeated key the first counts, a byte order mark is skipped, and an integer of more
than 64 bits is an error. Where there is no wheel of it, msgspec reads the body, at about half the
speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

try:
    from simdjson import Parser
except ImportError:  # no wheel for this version of Python
    Parser = None  # type: ignore[assignment, misc]

__all__ = ["PlainBatch", "PlainReader", "msgspec_reader", "plain_reader", "simdjson_reader"]

PlainBatch: TypeAlias = tuple[str, npt.NDArray[np.float64], int | None]
PlainReader: TypeAlias = Callable[[bytes], PlainBatch | None]


def plain_reader() -> PlainReader:
    """Return the fastest reader there is on this machine."""
    return simdjson_reader() if Parser is not None else msgspec_reader()


def simdjson_reader() -> PlainReader:
    """Return a reader by simdjson, with a parser and its buffers of its own; for one thread."""
    parse: Callable[[bytes], Any] = Parser().parse
    frombuffer = np.frombuffer

    def read(body: bytes) -> PlainBatch | None:
        """Return the parts of a plain batch, or None for a body that takes a closer look."""
        if not _has_one_array(body):
            return None
        try:
            batch = parse(body)
            symbol = batch["symbol"]
            prices = batch["values"].as_buffer(of_type="d")
            # As many keys as are asked for: none is repeated and none unknown.
            keys = len(batch)
            from_sequence = None if keys == 2 else batch["from_sequence"]
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
            # RuntimeError is what it raises for an integer of more than 64 bits.
            return None
        if keys > 3 or type(symbol) is not str or not _is_sequence(from_sequence):
            return None
        return symbol, frombuffer(prices), from_sequence

    return read


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    symbol: str
    values: list[float]
    from_sequence: int | None = None


def msgspec_reader() -> PlainReader:
    """Return a reader by msgspec."""
    decode = msgspec.json.Decoder(_Batch).decode

    def read(body: bytes) -> PlainBatch | None:
        if not _has_one_array(body):
            return None
        try:
            batch = decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not _is_sequence(batch.from_sequence):
            return None
        return batch.symbol, np.array(batch.values, dtype=np.float64), batch.from_sequence

    return read


def _has_one_array(body: bytes) -> bool:
    """Tell whether a body starts as an object and has one opening bracket in all.

    A symbol with a bracket in its name is read the other way; it costs time, not correctness.
    """
    opening = body.find(b"[")
    return opening > 0 and body.startswith(b"{") and body.find(b"[", opening + 1) < 0


def _is_sequence(from_sequence: Any) -> bool:
    return from_sequence is None or (type(from_sequence) is int and from_sequence >= 0)
