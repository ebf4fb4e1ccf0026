"""Reading a plain batch from JSON bytes, as fast as possible.

A *plain* body is ``{"symbol": "…", "values": [numbers], "from_sequence": n}`` and nothing else,
with the keys in any order and the last one optional. For any other body, wrong or merely unusual,
the readers return None. The validating path then reads the body again and creates the error
message. So a reader may return None for any body, but a result must equal that of the validating
path.

simdjson (Langdale, Lemire: Parsing gigabytes of JSON per second, VLDB Journal 28, 2019,
doi:10.1007/s00778-019-00578-5) returns the array as one buffer of doubles. It accepts three kinds
of input that this API rejects: it flattens nested arrays, takes the first of repeated keys, and
skips a byte order mark. A test covers each of them. simdjson rejects integers of more than 64 bits.
For Python versions without a simdjson wheel, msgspec reads the body, at about half the speed.
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
    """Return the fastest reader available on this machine."""
    return simdjson_reader() if Parser is not None else msgspec_reader()


def simdjson_reader() -> PlainReader:
    """Return a reader that uses simdjson, with its own parser and buffers. For one thread."""
    parse: Callable[[bytes], Any] = Parser().parse
    frombuffer = np.frombuffer

    def read(body: bytes) -> PlainBatch | None:
        """Return the parts of a plain batch, or None for any other body."""
        if not _has_one_array(body):
            return None
        try:
            batch = parse(body)
            symbol = batch["symbol"]
            prices = batch["values"].as_buffer(of_type="d")
            # If the number of keys is as expected, no key is repeated or unknown.
            keys = len(batch)
            from_sequence = None if keys == 2 else batch["from_sequence"]
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
            # It raises RuntimeError for an integer of more than 64 bits.
            return None
        if keys > 3 or type(symbol) is not str or not _is_sequence(from_sequence):
            return None
        return symbol, frombuffer(prices), from_sequence

    return read


class _JsonBatch(msgspec.Struct, forbid_unknown_fields=True):
    symbol: str
    values: list[float]
    from_sequence: int | None = None


def msgspec_reader() -> PlainReader:
    """Return a reader that uses msgspec."""
    decode = msgspec.json.Decoder(_JsonBatch).decode

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
    """Whether a body starts as an object and contains a single opening bracket.

    A symbol with a bracket in its name takes the slower path, with the same result.
    """
    opening = body.find(b"[")
    return opening > 0 and body.startswith(b"{") and body.find(b"[", opening + 1) < 0


def _is_sequence(from_sequence: Any) -> bool:
    return from_sequence is None or (type(from_sequence) is int and from_sequence >= 0)
