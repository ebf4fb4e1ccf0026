"""The header of a file: its bytes, its parts, and that no damage stays unnoticed.

How: one header is written here by hand, word by word, from ``docs/reference/file-format.md``. An
accidental change of the format fails against it. Any values are written and read again, every bit
of every part is flipped, and parts are torn at every word.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.engine.layout import (
    HEADER_WORDS,
    WORD_APPEND_LIMIT,
    WORD_COUNT,
    WORD_COUNT_COPIES,
    WORD_RECORD_A,
    WORD_RECORD_B,
    WORD_STATE,
    WORD_SYNC_FAILED,
    WORD_SYNCED_GENERATION,
    Geometry,
)
from financial_data_service.storage.header import (
    CLEAN,
    IN_USE,
    NOTHING_DURABLE,
    DurableRecord,
    HeaderError,
    Identity,
    Session,
    Words,
    checksum,
    erase_record,
    read_identity,
    read_records,
    read_session,
    records_written,
    refuse_strays,
    write_identity,
    write_record,
    write_session,
)

SMALL = Geometry(1000, 8, 100)
BOOT = bytes(range(16))

words63 = st.integers(-(2**63), 2**63 - 1)
records = st.builds(DurableRecord, st.integers(1, 2**62), words63, words63, words63)
sessions = st.builds(
    Session, st.sampled_from([IN_USE, CLEAN]), st.binary(min_size=16, max_size=16), words63, words63
)


def blank() -> Words:
    return np.zeros(HEADER_WORDS, dtype="<i8")


def whole() -> Words:
    """A header as that of a file in use, with two records."""
    words = blank()
    write_identity(words, Identity(SMALL, "BTC/USDT", 1_700_000_000_123_456_789))
    write_session(words, Session(IN_USE, BOOT, 7, 0))
    write_record(words, 0, DurableRecord(5, 1234, 1200, -3))
    write_record(words, 1, DurableRecord(4, 1200, 1200, 0))
    words[WORD_COUNT] = 1234
    return words


# Bytes


def test_golden_bytes() -> None:
    """Format version 1 as docs/reference/file-format.md describes it, without the code."""

    def put(offset: int, *values: int) -> None:
        golden[offset : offset + 8 * len(values)] = struct.pack(f"<{len(values)}q", *values)

    def sum_of(*parts: tuple[int, int]) -> int:
        digest = xxhash.xxh3_64(b"".join(bytes(golden[begin:end]) for begin, end in parts))
        return int.from_bytes(digest.digest(), "big", signed=True)

    golden = bytearray(4096)
    # 1000 + 100 prices, in whole blocks of 8^3: 1536. Prices from page 1 on, three pages of them;
    # 192 blocks of 40 bytes in two pages, 24 in one, 3 in one.
    golden[0:8] = b"fds ring"
    put(8, 1, 32768, 1000, 100, 1536, 3, 3, 512, 2048, 3072, 3584)
    put(320, 1_700_000_000_123_456_789, 8)
    golden[2048:2056] = b"BTC/USDT"
    put(504, sum_of((0, 504), (2048, 4096)))
    put(512, 1234)
    put(576, 1)
    golden[584:600] = BOOT
    put(600, 7, 0)
    put(616, sum_of((576, 616)))
    put(1024, 5, 1234, 1200, -3)
    put(1056, sum_of((1024, 1056)))
    put(1536, 4, 1200, 1200, 0)
    put(1568, sum_of((1536, 1568)))
    assert whole().tobytes() == golden


def test_checksums_are_those_of_the_reference() -> None:
    """XXH3 of nothing; XXH3 of parts is that of the whole."""
    assert checksum() == 0x2D06800538D394C2
    assert checksum(b"fds", b" ring") == checksum(b"fds ring")
    numbers = np.arange(100.0)
    assert checksum(numbers[:37], numbers[37:]) == checksum(numbers.tobytes())


# The static part


@given(
    st.builds(
        Geometry,
        st.integers(10, 10**8),
        st.sampled_from([2, 8, 128, 1024]),
        st.integers(1, 10**6),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128),
    st.integers(0, 2**63 - 1),
)
def test_identity_is_read_as_written(geometry: Geometry, symbol: str, created_ns: int) -> None:
    words = blank()
    identity = Identity(geometry, symbol, created_ns)
    write_identity(words, identity)
    assert read_identity(words) == identity
    refuse_strays(words)


def test_the_longest_name_fits() -> None:
    words = blank()
    write_identity(words, Identity(SMALL, "😀" * 128, 1))
    assert read_identity(words).symbol == "😀" * 128


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({0: 0}, r"expected the magic bytes b'fds ring', got b'\\x00.*: not a file of fds"),
        ({0: 7, 1: 2}, "expected the magic bytes"),
        ({1: 2, 63: 5}, "expected format version 1, got 2: made by another version of fds"),
        ({1: 0, 3: 5}, "expected format version 1, got 0"),
        ({1: 2}, "the header's checksum does not match: its fixed part is damaged"),
        ({3: 999}, "the header's checksum does not match: its fixed part is damaged"),
        ({63: 0}, "the header's checksum does not match: its fixed part is damaged"),
        ({300: 1}, "the header's checksum does not match: its fixed part is damaged"),
    ],
)
def test_refusals_of_the_static_part(change: dict[int, int], sentence: str) -> None:
    words = whole()
    for word, value in change.items():
        words[word] = value
    with pytest.raises(HeaderError, match=f"^{sentence}"):
        read_identity(words)


# Session


@given(sessions)
def test_session_is_read_as_written(session: Session) -> None:
    words = whole()
    before = words.copy()
    write_session(words, session)
    assert read_session(words) == session
    before[72:78] = words[72:78]
    assert (words == before).all()


@pytest.mark.parametrize("state", [0, 3, -1])
def test_a_session_of_no_known_state(state: int) -> None:
    words = whole()
    write_session(words, Session(state, BOOT, 0, 0))
    with pytest.raises(HeaderError, match="its session is damaged"):
        read_session(words)


def test_a_blank_session_is_none() -> None:
    with pytest.raises(HeaderError, match="its session is damaged"):
        read_session(blank())


# Records


@given(records, records)
def test_records_are_read_as_written(first: DurableRecord, second: DurableRecord) -> None:
    words = blank()
    assert read_records(words) == [None, None]
    assert records_written(words) == 0
    write_record(words, 1, second)
    assert read_records(words) == [None, second]
    assert records_written(words) == 1
    write_record(words, 0, first)
    assert read_records(words) == [first, second]
    assert records_written(words) == 2
    erase_record(words, 1)
    assert read_records(words) == [first, None]
    assert records_written(words) == 1
    erase_record(words, 0)
    assert not words.any()


def test_records_lie_in_sectors_of_their_own() -> None:
    for slot, begin in enumerate((WORD_RECORD_A, WORD_RECORD_B)):
        words = blank()
        write_record(words, slot, DurableRecord(-1, -1, -1, -1))
        touched = np.flatnonzero(words)
        assert touched.min() == begin
        assert touched.max() // 64 == begin // 64
        assert begin % 64 == 0


@given(records, records)
def test_a_torn_record_is_none(old: DurableRecord, new: DurableRecord) -> None:
    """Whatever words of it have arrived, in any order, it is the old, the new or none."""
    words = blank()
    write_record(words, 0, old)
    before = words[WORD_RECORD_A : WORD_RECORD_A + 5].copy()
    write_record(words, 0, new)
    after = words[WORD_RECORD_A : WORD_RECORD_A + 5].copy()
    for arrived in range(2**5):
        for word in range(5):
            words[WORD_RECORD_A + word] = (after if arrived >> word & 1 else before)[word]
        assert read_records(words)[0] in (old, new, None)
        torn = words[WORD_RECORD_A : WORD_RECORD_A + 5]
        if not (torn == before).all() and not (torn == after).all():
            assert read_records(words)[0] is None


def test_a_record_of_nothing_is_a_record() -> None:
    words = blank()
    write_record(words, 0, DurableRecord(1, NOTHING_DURABLE, NOTHING_DURABLE, 0))
    assert read_records(words)[0] == (1, -1, -1, 0)


# Damage


def said(words: Words) -> Any:
    """Everything a header says."""
    refuse_strays(words)
    return read_identity(words), read_session(words), read_records(words), int(words[WORD_COUNT])


def test_every_flipped_bit_is_seen() -> None:
    """But those of the hints, which nobody trusts. (Counts are checked by ``recovery``.)"""
    words = whole()
    before = said(words)
    unseen = set()
    for word in range(HEADER_WORDS):
        for bit in range(64):
            words.view(np.uint64)[word] ^= np.uint64(1 << bit)
            with suppress(HeaderError):
                if said(words) == before:
                    unseen.add(word)
            words.view(np.uint64)[word] ^= np.uint64(1 << bit)
    assert said(words) == before
    hints = {WORD_APPEND_LIMIT, WORD_SYNCED_GENERATION, WORD_SYNC_FAILED}
    assert unseen == {WORD_COUNT_COPIES, WORD_COUNT_COPIES + 1, *hints}


def test_words_without_a_meaning_are_zero() -> None:
    words = whole()
    refuse_strays(words)
    for word in (67, 71, 78, 79, 83, 127, 133, 191, 197, 255):
        words[word] = 1
        with pytest.raises(HeaderError, match=f"^expected zero in word {word} of the header"):
            refuse_strays(words)
        words[word] = 0
    words[WORD_STATE] = 9  # It has a meaning, if not this one.
    refuse_strays(words)
