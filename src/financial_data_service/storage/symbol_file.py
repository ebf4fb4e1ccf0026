"""SymbolFile: the ring of one symbol in a memory-mapped file.

The bytes are those of a region (:mod:`~financial_data_service.engine.layout`), and the parts of the
header those of :mod:`~financial_data_service.storage.header`. The file is sparse and has its full
length from the start. At the default sizes ``ls -l`` shows 837 MB. ``du`` shows the disk space in
use.

Threads and processes
---------------------
Any number of processes map a file. A writer holds its lock (``flock``, which the kernel releases
when a process dies); readers take none. Within a process, one thread uses a file at a time.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.layout import (
    HEADER_BYTES,
    MAGIC,
    PAGE_BYTES,
    WORD_APPEND_LIMIT,
    WORD_SYNC_FAILED,
    WORD_SYNCED_GENERATION,
    Geometry,
)
from financial_data_service.engine.ring import Ring
from financial_data_service.errors import InsufficientStorageError, SymbolFileError
from financial_data_service.storage import disk
from financial_data_service.storage.allocation import Allocation, byte_ranges, no_room
from financial_data_service.storage.boot import boot_id
from financial_data_service.storage.header import (
    IN_USE,
    DurableRecord,
    HeaderError,
    Identity,
    Session,
    checksum,
    read_records,
    write_identity,
    write_record,
    write_session,
)
from financial_data_service.storage.identification import (
    checked_header,
    no_descriptor,
    open_descriptor,
)
from financial_data_service.storage.locks import LOCK_SECONDS, lock_within, try_lock
from financial_data_service.storage.recovery import RecoveryPlan, plan_recovery, unsynced_max
from financial_data_service.storage.sync_times import SyncTimes

__all__ = ["SymbolFile"]

_START_BYTES_MIN = 1 << 15
"""A write of at least this size is started before the sync.

For a smaller one, the extra call takes longer than it saves.
"""

# Prevents mmap from keeping a second descriptor of the file.
_MMAP_OPTIONS: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class SymbolFile(Ring):
    """A mapped file; made by :meth:`create` or :meth:`open`.

    ::

        bytes     0        4096                                              size_bytes
                  +--------+------------------+---------------------+-----+-----------+
                  | header | prices           | level 1             | ... | level L   |
                  +--------+------------------+---------------------+-----+-----------+
        header    0-511 magic, version, geometry, checksum   512 count   576 session
                  1024 durable record A   1536 durable record B   2048 symbol
        prices    float64[capacity], price i in slot i mod capacity
        level l   float64[5][capacity / fanout^l]: min, max, sum_high, sum_low, m2

    All of it is little-endian; ``docs/reference/file-format.md`` describes every word. One process
    writes at a time, with the lock held; any number reads without it.

    Attributes
    ----------
    path : Path
        The file.
    symbol : str
        The symbol of the prices.
    created_ns : int
        Time of creation, in nanoseconds since 1970.
    words : memoryview
        The header, for reading and writing single words.
    room : Allocation
        The part of the file for which there is disk space.
    unsynced_max : int
        Prices that may follow a durable record (:func:`~.recovery.unsynced_max`).
    sync_times : SyncTimes
        Where the times of syncs are reported.
    """

    def __init__(self, path: Path, descriptor: int, identity: Identity, *, read_only: bool) -> None:
        access = mmap.PROT_READ if read_only else mmap.PROT_READ | mmap.PROT_WRITE
        size_bytes = identity.geometry.size_bytes
        try:
            mapping = mmap.mmap(
                descriptor, size_bytes, flags=mmap.MAP_SHARED, prot=access, **_MMAP_OPTIONS
            )
        except OSError as error:
            if error.errno in disk.NO_DESCRIPTOR:
                raise no_descriptor(path, error) from error
            reason = f"no address space for a symbol of {size_bytes} bytes: {error.strerror}"
            raise InsufficientStorageError(f"{path}: {reason}") from error
        # MADV_RANDOM stops read-ahead, so the header is loaded into a small page of its own. If the
        # header were part of a large page, each sync of a few header words would write the whole
        # large page. The advice is then removed. Otherwise the system would sync the header and the
        # rest separately, because they have different advice.
        mapping.madvise(mmap.MADV_RANDOM, 0, HEADER_BYTES)
        assert mapping[0] == MAGIC & 0xFF or not read_only
        mapping.madvise(mmap.MADV_NORMAL, 0, HEADER_BYTES)
        super().__init__(identity.geometry, mapping)
        self.words = self.header.data  # single words, three times as fast as from the array
        # These are cached, because the geometry computes them at each access. That takes longer
        # than storing a batch of one price.
        self.unsynced_max = unsynced_max(identity.geometry)
        self._capacity = identity.geometry.capacity
        self.path = path
        self.symbol = identity.symbol
        self.created_ns = identity.created_ns
        self.sync_times = SyncTimes()
        self._descriptor = descriptor
        self._lock_depth = 0
        self._is_stuck = False  # Another process kept the lock too long.
        self.room = Allocation(descriptor, identity.geometry, identity.symbol, path.parent)

    @classmethod
    def create(cls, path: Path, geometry: Geometry, symbol: str) -> Self:
        """Create a file for a symbol, in use by this boot, without prices.

        Raises
        ------
        InsufficientStorageError
            When the disk is full.
        FileExistsError, PermissionError
            From the system.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                os.ftruncate(descriptor, geometry.size_bytes)
                disk.allocate(descriptor, 0, HEADER_BYTES)
            except OSError as error:
                if error.errno in disk.NO_ROOM:
                    raise no_room(symbol, path.parent, error) from error
                raise
            identity = Identity(geometry, symbol, time.time_ns())
            created = cls(path, descriptor, identity, read_only=False)
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        write_identity(created.header, identity)
        write_session(created.header, Session(IN_USE, boot_id(), 0, 0))
        write_record(created.header, 0, DurableRecord(1, 0, 0, checksum()))
        created.header[WORD_SYNCED_GENERATION] = 1
        created.header[WORD_APPEND_LIMIT] = unsynced_max(geometry)
        return created

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Self:
        """Map a file with a valid header.

        Raises
        ------
        SymbolFileError
            When the header is invalid.
        FileNotFoundError
            When the file does not exist.
        """
        descriptor = open_descriptor(path, read_only=read_only)
        try:
            identity = checked_header(path, descriptor, own=not read_only)
            return cls(path, descriptor, identity, read_only=read_only)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """Map a file for reading only. Errors as for :meth:`open`."""
        return cls.open(path, read_only=True)

    @property
    def is_closed(self) -> bool:
        """Whether the file is closed."""
        return self._descriptor < 0

    @property
    def descriptor(self) -> int:
        """Descriptor of the open file; -1 when it is closed."""
        return self._descriptor

    def is_at(self, path: Path) -> bool:
        """Whether a path leads to this file, and not to another one created since."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def plan_recovery(self) -> RecoveryPlan:
        """Return what a recovery would believe of the file as it is now.

        Raises
        ------
        SymbolFileError
            When a recovery would reject it.
        """
        try:
            return plan_recovery(self, boot_id())
        except HeaderError as error:
            raise SymbolFileError(str(self.path), str(error)) from None

    # The lock

    def lock(self) -> None:
        """Wait until no other process writes, and keep others from writing. May be nested.

        Raises
        ------
        SymbolFileError
            When another process holds the lock too long; it may have been stopped.
        """
        if self._lock_depth == 0 and not try_lock(self._descriptor):
            self._wait_for_lock()
        self._lock_depth += 1

    def _wait_for_lock(self) -> None:
        # After one wait has timed out, later calls wait only a hundredth of the time.
        seconds = LOCK_SECONDS / 100 if self._is_stuck else LOCK_SECONDS
        self._is_stuck = not lock_within(self._descriptor, seconds)
        if self._is_stuck:
            raise SymbolFileError(
                str(self.path),
                "another process holds its lock and does not give it back; nothing was written",
                is_passing=True,
            )

    def unlock(self) -> None:
        """Undo one :meth:`lock`."""
        self._lock_depth -= 1
        if self._lock_depth == 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.unlock()

    # What is on disk

    def write(self, begin: int, prices: npt.NDArray[np.float64]) -> None:
        """Write prices from number `begin` on into their slots, by a system call.

        Every process that has the file mapped sees them at once. The system then tracks which
        blocks to write. For writes through a mapping it tracks only pages, which may be large.
        """
        first = begin % self._capacity
        before_wrap = self._capacity - first
        if prices.size <= before_wrap:
            self._write_slots(first, prices)
        else:
            self._write_slots(first, prices[:before_wrap])
            self._write_slots(0, prices[before_wrap:])

    def _write_slots(self, slot: int, prices: npt.NDArray[np.float64]) -> None:
        offset = (self._prices_start + slot) * 8
        written = os.pwrite(self._descriptor, prices.data, offset)
        while written < prices.nbytes:  # The system may write less than asked for.
            rest = prices.data.cast("B")[written:]
            written += os.pwrite(self._descriptor, rest, offset + written)
        if written >= _START_BYTES_MIN:  # Worth the call: the checksum is computed meanwhile.
            disk.start_writing(self._descriptor, offset, written)

    def sync(self) -> None:
        """Return once all of the file is on disk. Safe to call from another thread."""
        try:
            self.sync_times.measure(disk.sync_file, self._descriptor)
        except OSError:
            self.words[WORD_SYNC_FAILED] = 1
            raise

    def sync_header(self) -> None:
        """Return once the header is on disk. The rest may follow later."""
        self._sync_range(HEADER_BYTES)

    def sync_prices(self, begin: int, end: int) -> None:
        """Return once the header and prices number ``begin`` to ``end`` are on disk.

        Levels may follow whenever the system writes them: they can be recomputed.
        """
        capacity = self._capacity
        wraps = begin // capacity != (end - 1) // capacity
        last = capacity if wraps else (end - 1) % capacity + 1
        self._sync_range((self._prices_start + last) * 8)

    def _sync_range(self, end: int) -> None:
        try:
            self.sync_times.measure(disk.sync_range, self._map, end)
        except OSError:
            self.words[WORD_SYNC_FAILED] = 1
            raise

    @property
    def has_sync_failed(self) -> bool:
        """Whether a sync has failed since everything was last made dirty."""
        return self.words[WORD_SYNC_FAILED] != 0

    def make_dirty(self) -> None:
        """Make the next sync write the whole file again. The lock is held. O(pages).

        After a failed write the system marks the page as clean, so the next sync succeeds without
        writing it (https://wiki.postgresql.org/wiki/Fsync_Errors). So every used page is modified
        here, and has to be written.
        """
        self.words[WORD_SYNC_FAILED] = 0  # First, so that a failure from now on is recorded.
        words = self.region.view("<i8")
        page = PAGE_BYTES // 8
        for first, last in byte_ranges(
            self.geometry, 0, min(self.sequence, self.geometry.capacity)
        ):
            begin, end = first // 8, last // 8
            words[begin:end][:1] |= 0
            pages = words[-(-begin // page) * page : end : page]
            np.bitwise_or(pages, 0, out=pages)

    def checksum_of(self, begin: int, end: int) -> int:
        """Return the checksum of prices number ``begin`` to ``end``. O(n), 0.1 ns per price."""
        first = self._prices_start + begin % self._capacity
        last = first + end - begin
        if last <= self._prices_start + self._capacity:
            return checksum(self.region[first:last])
        return checksum(self.read(begin, end))  # They wrap around the end of the ring.

    def records(self) -> list[DurableRecord | None]:
        """Return the two durable records; see :mod:`~financial_data_service.storage.header`."""
        return read_records(self.header)

    @property
    def append_limit(self) -> int:
        """Count up to which appends leave the durable records as they are."""
        return self.words[WORD_APPEND_LIMIT]

    def close(self) -> None:
        """Close the mapping and the file. Idempotent."""
        self.words = memoryview(bytes(HEADER_BYTES)).cast("q")
        super().close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
