"""The header of a symbol's file.

It holds the file's identity, whether the file is in use, and which prices are on disk.

:mod:`~financial_data_service.engine.layout` lists the words. There are three parts, each with a
checksum (XXH3, 64 bits, of the bytes before it):

* the *static* part, written once: magic, version, geometry, name of the symbol;
* the *session*: whether the file is in use or was closed cleanly, and in which boot;
* two *durable records*, written in turn: how many prices are known to be on disk.

A record is ``(generation, sequence, base, prices checksum, checksum)``. Prices up to ``base`` were
on disk before the record was written. Prices from ``base`` to ``sequence`` may have been written
together with it; they are on disk if their checksum matches. So one flush makes the prices and the
record durable. Writing the prices first and the record afterwards would take two flushes. The valid
record with the higher generation is used. The other one describes the state before it.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from financial_data_service.engine.layout import (
    HEADER_WORDS,
    MAGIC,
    RECORD_WORDS,
    VERSION,
    WORD_APPEND_LIMIT,
    WORD_BATCH_MAX,
    WORD_COUNT,
    WORD_COUNT_COPIES,
    WORD_CREATED_NS,
    WORD_FANOUT_SHIFT,
    WORD_LARGEST_WINDOW,
    WORD_MAGIC,
    WORD_NAME,
    WORD_NAME_BYTES,
    WORD_RECORD_A,
    WORD_RECORD_B,
    WORD_SESSION_CHECKSUM,
    WORD_STATE,
    WORD_STATIC_CHECKSUM,
    WORD_SYNC_FAILED,
    WORD_SYNCED_GENERATION,
    WORD_VERSION,
    Geometry,
)

__all__ = [
    "CLEAN",
    "IN_USE",
    "NOTHING_DURABLE",
    "DurableRecord",
    "HeaderError",
    "Identity",
    "Session",
    "checksum",
    "erase_record",
    "read_identity",
    "read_records",
    "read_session",
    "records_written",
    "refuse_strays",
    "write_identity",
    "write_record",
    "write_session",
]

Words = npt.NDArray[np.int64]

IN_USE = 1
CLEAN = 2

NOTHING_DURABLE = -1
"""The sequence in a revoking record.

After such a record, newer prices may overwrite the prices that older records cover.
"""

_SYMBOL_BYTES_MAX = 512  # 128 characters of up to 4 bytes
_SLOTS = (WORD_RECORD_A, WORD_RECORD_B)
_RECORD = struct.Struct(f"<{RECORD_WORDS - 1}q")
_CHECKSUM = struct.Struct("<q")

assert WORD_NAME + _SYMBOL_BYTES_MAX // 8 <= HEADER_WORDS


class HeaderError(Exception):
    """A header is invalid. A caller that knows the file turns this into an error for users."""


class Identity(NamedTuple):
    """The static part of a header."""

    geometry: Geometry
    symbol: str
    created_ns: int


class Session(NamedTuple):
    """Whether a file is in use, or how it was closed.

    Attributes
    ----------
    state : int
        ``IN_USE`` or ``CLEAN``.
    boot_id : bytes
        16 bytes: the boot in which the file was opened.
    floor : int
        Number of the oldest price that is known to be intact.
    sequence : int
        Number of prices when the file was closed; 0 while it is in use.
    """

    state: int
    boot_id: bytes
    floor: int
    sequence: int


class DurableRecord(NamedTuple):
    """What is known to be on disk; see the module docstring."""

    generation: int
    sequence: int
    base: int
    prices_checksum: int


def checksum(*parts: npt.NDArray[Any] | bytes) -> int:
    """Return the 64-bit XXH3 of arrays, one after the other, as a signed word."""
    whole: Any = parts[0] if len(parts) == 1 else b"".join(map(bytes, parts))
    word: int = _CHECKSUM.unpack(xxhash.xxh3_64_intdigest(whole).to_bytes(8, "little"))[0]
    return word


def write_identity(words: Words, identity: Identity) -> None:
    """Write the static part."""
    numbers = identity.geometry.header_words()
    words[: len(numbers)] = numbers
    name = identity.symbol.encode()
    words[WORD_CREATED_NS] = identity.created_ns
    words[WORD_NAME_BYTES] = len(name)
    padded = name.ljust((HEADER_WORDS - WORD_NAME) * 8, b"\0")
    words[WORD_NAME:] = np.frombuffer(padded, dtype="<i8")
    words[WORD_STATIC_CHECKSUM] = _static_checksum(words)


def read_identity(words: Words) -> Identity:
    """Return the static part.

    Raises
    ------
    HeaderError
        When it belongs to another program or a later version, or is damaged.
    """
    if words[WORD_MAGIC] != MAGIC:
        got = words[WORD_MAGIC : WORD_MAGIC + 1].tobytes()
        raise HeaderError(f"expected the magic bytes {_magic()!r}, got {got!r}: not a file of fds")
    version = int(words[WORD_VERSION])
    is_whole = words[WORD_STATIC_CHECKSUM] == _static_checksum(words)
    if version != VERSION and not _is_whole_as(words, VERSION):
        raise HeaderError(
            f"expected format version {VERSION}, got {version}: made by another version of fds"
        )
    if not is_whole:
        raise HeaderError("the header's checksum does not match: its fixed part is damaged")
    geometry = Geometry(
        int(words[WORD_LARGEST_WINDOW]),
        1 << int(words[WORD_FANOUT_SHIFT]),
        int(words[WORD_BATCH_MAX]),
    )
    name = words[WORD_NAME:].tobytes()[: int(words[WORD_NAME_BYTES])]
    return Identity(geometry, name.decode(), int(words[WORD_CREATED_NS]))


def _magic() -> bytes:
    return struct.pack("<q", MAGIC)


def _static_checksum(words: Words) -> int:
    return checksum(words[:WORD_STATIC_CHECKSUM], words[WORD_NAME:])


def _is_whole_as(words: Words, version: int) -> bool:
    """Whether the checksum matches with the current version number.

    If so, the version word was damaged, and the file does not come from a later version.
    """
    mended = words.copy()
    mended[WORD_VERSION] = version
    return bool(words[WORD_STATIC_CHECKSUM] == _static_checksum(mended))


def write_session(words: Words, session: Session) -> None:
    """Write the session at once: the system may write the page to disk at any time."""
    boot = np.frombuffer(session.boot_id, dtype="<i8")
    part = np.array([session.state, *boot, session.floor, session.sequence], dtype="<i8")
    words[WORD_STATE : WORD_SESSION_CHECKSUM + 1] = np.append(part, checksum(part))


def read_session(words: Words) -> Session:
    """Return the session.

    Raises
    ------
    HeaderError
        When it is damaged.
    """
    part = words[WORD_STATE:WORD_SESSION_CHECKSUM]
    state = int(part[0])
    if words[WORD_SESSION_CHECKSUM] != checksum(part) or state not in (IN_USE, CLEAN):
        raise HeaderError("the header's checksum does not match: its session is damaged")
    return Session(state, part[1:3].tobytes(), int(part[3]), int(part[4]))


def write_record(words: Words, slot: int, record: DurableRecord) -> None:
    """Write a record to slot 0 or 1."""
    fields = _RECORD.pack(*record)
    begin = _SLOTS[slot] * 8
    _bytes_of(words)[begin : begin + RECORD_WORDS * 8] = fields + _CHECKSUM.pack(checksum(fields))


def erase_record(words: Words, slot: int) -> None:
    """Erase a record, as if it had never been written."""
    words[_SLOTS[slot] : _SLOTS[slot] + RECORD_WORDS] = 0


def read_records(words: Words) -> list[DurableRecord | None]:
    """Return the two records; None for one that is torn, damaged or was never written."""
    records: list[DurableRecord | None] = []
    for slot in _SLOTS:
        part = _bytes_of(words)[slot * 8 : (slot + RECORD_WORDS) * 8].tobytes()
        fields = part[: _RECORD.size]
        is_whole = any(fields) and part[_RECORD.size :] == _CHECKSUM.pack(checksum(fields))
        records.append(DurableRecord._make(_RECORD.unpack(fields)) if is_whole else None)
    return records


def records_written(words: Words) -> int:
    """Return how many of the two records were ever written, completely or not."""
    return sum(bool(words[slot : slot + RECORD_WORDS].any()) for slot in _SLOTS)


def _bytes_of(words: Words) -> memoryview:
    return words.data.cast("B")


_KNOWN = (
    range(WORD_STATIC_CHECKSUM + 1),
    (WORD_COUNT, WORD_COUNT_COPIES, WORD_COUNT_COPIES + 1),
    (WORD_APPEND_LIMIT, WORD_SYNCED_GENERATION, WORD_SYNC_FAILED),
    range(WORD_STATE, WORD_SESSION_CHECKSUM + 1),
    *(range(begin, begin + RECORD_WORDS) for begin in _SLOTS),
    range(WORD_NAME, HEADER_WORDS),
)
_STRAYS = np.array(sorted(set(range(HEADER_WORDS)).difference(*_KNOWN)))


def refuse_strays(words: Words) -> None:
    """Check that unused words are zero.

    Raises
    ------
    HeaderError
        When one is not.
    """
    strays = _STRAYS[words[_STRAYS] != 0]
    if strays.size:
        raise HeaderError(f"expected zero in word {strays[0]} of the header: it is damaged")
