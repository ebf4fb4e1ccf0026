"""Byte layout of the memory region of one symbol: the position of each price and each summary.

A region is one run of memory, mapped as a whole::

    0        4096                                                          size_bytes
    +--------+----------------------+---------------------+-----+----------------------+
    | header | prices               | level 1             | ... | level L              |
    | int64  | float64[capacity]    | float64[5][blocks₁] |     | float64[5][blocks_L] |
    +--------+----------------------+---------------------+-----+----------------------+

Each part starts on a page (4096 bytes). Price number ``i`` (counted from the first ever appended)
lies in slot ``i mod capacity``. Level ``l`` holds a summary of each whole run of ``fanout**l``
prices, as five arrays one after the other: min, max, sum_high, sum_low, m2
(:class:`~financial_data_service.engine.summary.Summary`); block ``b`` of it lies in slot
``b mod blocks_l`` with ``blocks_l = capacity / fanout**l``.

The header is 512 little-endian 64-bit words, named by the ``WORD_*`` constants below::

    words     bytes        what                                            written
    0–62      0–503        magic, version, geometry, time of creation      once, at creation
    63        504–511      checksum of words 0–62 and 256–511              once, at creation
    64        512–519      count: prices ever appended; -1: deleted        by each append, last
    72–77     576–623      session: state, boot id, floor, count, checksum at opening and closing
    80–82     640–663      hints of the running processes, not trusted     by appends and syncs
    128–132   1024–1063    durable record A                                by every other sync
    192–196   1536–1575    durable record B                                by the syncs between
    256–511   2048–4095    name of the symbol, UTF-8, zero-padded          once, at creation

A region without a file uses the geometry and the count only. Sessions, records and names belong to
files (:mod:`~financial_data_service.storage.header`).

Invariants
----------
* ``capacity`` is a whole number of top-level blocks, so no block ever wraps.
* ``capacity >= max(largest_window, batch_max) + batch_max``. So an append overwrites nothing that a
  window of the previous count reads, nor the previous batch, which a client may send again. Until
  the new count is stored, the append has not happened.
* ``fanout`` is a power of two. So slots and block numbers are computed with shifts and masks. The
  mean of a complete block is its sum divided by a power of two, which does not round.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["DEFAULT_FANOUT", "HEADER_BYTES", "LARGEST_WINDOW_MAX", "PAGE_BYTES", "Geometry"]

PAGE_BYTES = 4096
HEADER_BYTES = PAGE_BYTES

MAGIC = struct.unpack("<q", b"fds ring")[0]
VERSION = 1

WORD_MAGIC = 0
WORD_VERSION = 1
WORD_SIZE_BYTES = 2
WORD_LARGEST_WINDOW = 3
WORD_BATCH_MAX = 4
WORD_CAPACITY = 5
WORD_FANOUT_SHIFT = 6  # log2 of the fanout
WORD_LEVELS = 7
WORD_OFFSETS = 8  # first float64 of the prices, then of each level, counted from the region's start
LEVELS_MAX = 26  # log2(10^8) rounded down: the levels of the largest window at fanout 2
WORD_CREATED_NS = 40  # nanoseconds since 1970
WORD_NAME_BYTES = 41  # length of the symbol's name
WORD_STATIC_CHECKSUM = 63
WORD_COUNT = 64  # prices ever appended; published by the writer, alone on its cache line
WORD_COUNT_COPIES = 65  # two words: copies of the count, stored just before it, for recovery
WORD_STATE = 72  # first word of the session: in use, or how the file was closed
WORD_BOOT_ID = 73  # two words
WORD_FLOOR = 75  # number of the oldest price that is known to be intact
WORD_CLOSED_COUNT = 76
WORD_SESSION_CHECKSUM = 77
WORD_APPEND_LIMIT = 80  # count up to which appends leave the durable records as they are
WORD_SYNCED_GENERATION = 81  # of the newest durable record that is known to have been synced
WORD_SYNC_FAILED = 82  # 1: a sync failed; pages that the system calls clean may not be on disk
WORD_RECORD_A = 128  # records lie in sectors of their own: a torn write can spoil only one
WORD_RECORD_B = 192
RECORD_WORDS = 5
WORD_NAME = 256
HEADER_WORDS = HEADER_BYTES // 8

DELETED = -1  # the count of a deleted symbol

FIELDS = 5  # min, max, sum_high, sum_low, m2

LARGEST_WINDOW_MAX = 10**8
"""Longest window in prices.

The sum of 10^8 squares of 10^150 is 10^308, close to the largest double. Exact division by a window
length requires a length of at most 27 bits.
"""

DEFAULT_FANOUT = 128
"""Prices per block, and blocks per block of the next level.

A smaller fanout needs more memory, but a query reads fewer items at the edges of a window. The
levels add 40 bytes per `fanout` prices: 3.9 % at 128, 7.9 % at 64, 16 % at 32. A query reads up to
``2 * (fanout - 1)`` items per level.
"""

FANOUT_MAX = 1024
"""Largest fanout.

Squared deviations are summed over up to twice the fanout, in one double per vector lane. If prices
alternate, the same rounding error repeats. The error of var is then 1.4e-15 at a fanout of 1024,
and 1.6e-14 at 16384. The documented bound is 1e-14.
"""

assert WORD_OFFSETS + LEVELS_MAX + 1 <= WORD_CREATED_NS
assert WORD_COUNT // 8 != WORD_STATE // 8 != WORD_APPEND_LIMIT // 8  # cache lines of their own
assert WORD_RECORD_A // 64 != WORD_RECORD_B // 64  # sectors of their own
assert LARGEST_WINDOW_MAX.bit_length() <= 27
assert 2**LEVELS_MAX <= LARGEST_WINDOW_MAX < 2 ** (LEVELS_MAX + 1)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes and offsets of a region. Everything follows from its three parameters.

    Parameters
    ----------
    largest_window : int
        Longest window that can be asked for, in prices; 10 to 10^8.
    fanout : int
        Prices per block, and blocks per block of the next level; a power of two, 2 to 1024.
    batch_max : int
        Maximum number of prices in one append; 1 or more.

    Raises
    ------
    ValueError
        When a number is out of its range.
    """

    largest_window: int
    fanout: int = DEFAULT_FANOUT
    batch_max: int = 10_000

    def __post_init__(self) -> None:
        if not 10 <= self.largest_window <= LARGEST_WINDOW_MAX:
            raise ValueError(
                f"Expected largest_window between 10 and {LARGEST_WINDOW_MAX}, "
                f"got {self.largest_window}"
            )
        if self.fanout.bit_count() != 1 or not 2 <= self.fanout <= FANOUT_MAX:
            raise ValueError(
                f"Expected fanout a power of two, 2 to {FANOUT_MAX}, got {self.fanout}"
            )
        if self.batch_max < 1:
            raise ValueError(f"Expected batch_max of at least 1, got {self.batch_max}")

    @property
    def fanout_shift(self) -> int:
        """Base-two logarithm of the fanout."""
        return self.fanout.bit_length() - 1

    @property
    def levels(self) -> int:
        """Number of levels of summaries: the largest ``L`` with ``fanout**L <= largest_window``."""
        return (self.largest_window.bit_length() - 1) // self.fanout_shift

    @property
    def capacity(self) -> int:
        """Prices in the ring: the larger of window and batch, plus a batch, in whole blocks."""
        top = 1 << (self.fanout_shift * self.levels)
        held = max(self.largest_window, self.batch_max)
        return -(-(held + self.batch_max) // top) * top

    @property
    def slack(self) -> int:
        """Prices that can follow a count without overwriting what windows of that count read."""
        return self.capacity - max(self.largest_window, self.batch_max)

    @property
    def offsets(self) -> list[int]:
        """First float64 of the prices and of each level, in float64s from the region's start."""
        page = PAGE_BYTES // 8
        offsets = [HEADER_BYTES // 8]
        length = self.capacity
        for level in range(1, self.levels + 2):
            offsets.append(offsets[-1] + -(-length // page) * page)
            length = FIELDS * (self.capacity >> (self.fanout_shift * level))
        return offsets

    @property
    def size_bytes(self) -> int:
        """Length of the region."""
        return self.offsets[-1] * 8

    def header_words(self) -> list[int]:
        """Return the words that a header of this geometry starts with, up to the offsets."""
        return [
            MAGIC,
            VERSION,
            self.size_bytes,
            self.largest_window,
            self.batch_max,
            self.capacity,
            self.fanout_shift,
            self.levels,
            *self.offsets[:-1],
        ]
