"""Durability across a loss of power: when prices are on disk, and how a file records it.

`power`: a batch is acknowledged once it is on disk. `process`: a batch is acknowledged at once,
because the page cache outlives the process; the file is synced in the background from time to time.

Both modes keep one invariant: **nothing that the newest durable record on disk counts on has been
overwritten.** Slots are reused, so at most ``unsynced_max`` prices may follow a durable record.
Before that limit, `power` writes a newer record. `process` also writes a newer record if its
background sync is in time. Otherwise it revokes the records: it writes to disk that nothing is
durable. After that, appends do not wait for the disk.

The two records are written alternately. The record that is known to be on disk is never
overwritten. So it stays valid if writing the new record fails.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import Literal

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import (
    WORD_APPEND_LIMIT,
    WORD_RECORD_A,
    WORD_RECORD_B,
    WORD_SYNCED_GENERATION,
)
from financial_data_service.storage.boot import boot_id
from financial_data_service.storage.header import (
    CLEAN,
    NOTHING_DURABLE,
    DurableRecord,
    Session,
    read_session,
    write_record,
    write_session,
)
from financial_data_service.storage.recovery import NO_LIMIT
from financial_data_service.storage.symbol_file import SymbolFile

__all__ = [
    "BackgroundSync",
    "Durability",
    "close_cleanly",
    "commit",
    "complete_record",
    "renew",
    "revoke",
]

Durability = Literal["process", "power"]

SYNC_SECONDS = 10.0
"""Interval of the background syncs of a file.

In `process` mode a loss of power loses at most the prices of this interval, if prices arrive no
faster than half the slack per interval (33,000 a second by default).
"""


def complete_record(file: SymbolFile) -> None:
    """Make sure that the newest published price has a record on disk. The lock is held.

    The price has no record if the process that published it was killed before it wrote one. Must be
    called before the next prices are written, which might overwrite what the old record counts on.

    Raises
    ------
    OSError
        When the disk fails. Durable prices stay durable.
    """
    if _synced_sequence(file) < file.sequence:
        renew(file)


def commit(file: SymbolFile, new_sequence: int) -> None:
    """Put stored prices on disk with a record of them, and publish them. The lock is held.

    All prices before them have a record; see :func:`complete_record`.

    Raises
    ------
    OSError
        When the disk fails. Then no price of the batch is published.
    """
    base = file.sequence
    generation = _write_next(file, new_sequence, base, file.checksum_of(base, new_sequence))
    file.sync_prices(base, new_sequence)
    file.words[WORD_APPEND_LIMIT] = new_sequence + file.unsynced_max
    kernels.publish(file.header, new_sequence)
    # Mark the record as synced last, because the record of an unpublished batch must not be used.
    file.words[WORD_SYNCED_GENERATION] = generation


def revoke(file: SymbolFile) -> None:
    """Record on disk that nothing is known to be durable. The lock is held.

    Raises
    ------
    OSError
        When the disk fails. Then the previous records still hold.
    """
    generation = _write_next(file, NOTHING_DURABLE)
    file.sync_header()
    _note_synced(file, generation, NO_LIMIT)


def renew(file: SymbolFile) -> None:
    """Put everything on disk, and then a record of it. The lock is held.

    Raises
    ------
    OSError
        When the disk fails. Durable prices stay durable.
    """
    if file.has_sync_failed:
        file.make_dirty()
    sequence = file.sequence
    file.sync()
    generation = _write_next(file, sequence)
    file.sync_header()
    _note_synced(file, generation, sequence + file.unsynced_max)


def close_cleanly(file: SymbolFile) -> None:
    """Put everything on disk and record that the file was closed cleanly. The lock is held.

    Only the last process that has the file open may call this. The record is written after
    everything else.

    Raises
    ------
    OSError
        When the disk fails. Then the file counts as left by a killed process.
    """
    if read_session(file.header).state == CLEAN:
        return
    renew(file)
    write_session(file.header, Session(CLEAN, boot_id(), file.oldest, file.sequence))
    file.sync_header()


class BackgroundSync:
    """Background syncs of one file in `process` mode, one step per call of :meth:`advance`.

    Another thread waits for the disk; the thread that uses the file does everything else.
    """

    def __init__(self, file: SymbolFile, executor: Executor) -> None:
        self._file = file
        self._executor = executor
        self._began = 0.0
        self._data: tuple[int, Future[None]] | None = None
        self._record: tuple[int, Future[None]] | None = None

    def advance(self, now: float) -> None:
        """Take the next step if the disk is ready: sync prices, write a record, sync the record.

        Parameters
        ----------
        now : float
            Seconds of any monotonic clock.

        Raises
        ------
        OSError
            When the disk has failed. Durable prices stay durable.
        """
        if self._data is not None:
            sequence, future = self._data
            if future.done():
                self._data = None
                future.result()
                self._write_record(sequence)
        elif self._record is not None:
            generation, future = self._record
            if future.done():
                self._record = None
                future.result()
                self._confirm(generation)
        elif self._is_due(now):
            self._began = now
            if self._file.has_sync_failed:
                with self._file:
                    self._file.make_dirty()
            self._data = self._file.sequence, self._executor.submit(self._file.sync)

    def _is_due(self, now: float) -> bool:
        if now - self._began < SYNC_SECONDS:
            return False
        return self._file.sequence > _newest(self._file).sequence

    def wait(self) -> None:
        """Wait until no other thread uses the file."""
        for step in (self._data, self._record):
            if step is not None:
                step[1].exception()

    def _write_record(self, sequence: int) -> None:
        """Write a record that prices up to `sequence` are durable.

        Write none if too many prices were appended after them.
        """
        file = self._file
        with file:
            limit = sequence + file.unsynced_max
            # A rejected batch may have overwritten the slots after the newest price.
            overwritten = file.sequence + file.geometry.batch_max - file.geometry.slack
            if not max(_newest(file).sequence + 1, overwritten) <= sequence:
                return
            if file.has_sync_failed or not sequence <= file.sequence <= limit:
                return
            # Until the new record is known to be on disk, the previous one may be the newest on
            # disk, so its limit still applies. The limit is set before the record is written,
            # because the system may write the record to disk even after this process was killed.
            file.words[WORD_APPEND_LIMIT] = min(limit, file.append_limit)
            generation = _write_next(file, sequence)
        self._record = generation, self._executor.submit(file.sync)

    def _confirm(self, generation: int) -> None:
        file = self._file
        with file:
            newest = _newest(file)
            if newest.generation == generation and not file.has_sync_failed:
                _note_synced(file, generation, newest.sequence + file.unsynced_max)


def _newest(file: SymbolFile) -> DurableRecord:
    return max(record for record in file.records() if record is not None)


def _write_next(
    file: SymbolFile, sequence: int, base: int | None = None, prices_checksum: int = 0
) -> int:
    """Overwrite the record that is not known to be on disk; return the new generation."""
    words = file.words
    first, second = words[WORD_RECORD_A], words[WORD_RECORD_B]
    slot = int(first == words[WORD_SYNCED_GENERATION])
    generation = max(first, second) + 1
    record = DurableRecord(
        generation, sequence, sequence if base is None else base, prices_checksum
    )
    write_record(file.header, slot, record)
    return generation


def _synced_sequence(file: SymbolFile) -> int:
    """Return the sequence of the record that is known to be on disk."""
    words = file.words
    is_first = words[WORD_RECORD_A] == words[WORD_SYNCED_GENERATION]
    return words[(WORD_RECORD_A if is_first else WORD_RECORD_B) + 1]


def _note_synced(file: SymbolFile, generation: int, append_limit: int) -> None:
    file.words[WORD_SYNCED_GENERATION] = generation
    file.words[WORD_APPEND_LIMIT] = append_limit
