"""Which syncs are requested, and when: no more than needed, in the order that is needed.

How: the calls that sync are recorded in their order. The test decides when a background sync ends.
``test_power_loss`` tests whether these syncs are enough.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from financial_data_service.engine.layout import (
    HEADER_BYTES,
    WORD_SYNC_FAILED,
    WORD_SYNCED_GENERATION,
    Geometry,
)
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import InvalidBatchError, SymbolFileError
from financial_data_service.storage import disk, durability, symbol_files
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.durability import SYNC_SECONDS, BackgroundSync, Durability
from financial_data_service.storage.file_stats import FileStats
from financial_data_service.storage.header import NOTHING_DURABLE, DurableRecord
from financial_data_service.storage.recovery import NO_LIMIT, FileState
from financial_data_service.storage.symbol_file import SymbolFile

TINY = Geometry(12, 2, 5)  # capacity 24, slack 12, at most 6 prices behind a record
LARGE = Geometry(100_000, 128, 10_000)


class Calls:
    """Notes what is asked of the disk; may let it fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.fails = False
        patch.setattr(disk, "sync_file", lambda _: self._note("all"))
        patch.setattr(disk, "sync_range", lambda _, end: self._note(self._range(end)))
        patch.setattr(disk, "sync_directory", lambda _: self._note("names"))

    @staticmethod
    def _range(end: int) -> str:
        return "header" if end == HEADER_BYTES else "prices"

    def _note(self, what: str) -> None:
        self.made.append(what)
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def note_writes(self, patch: pytest.MonkeyPatch) -> None:
        """Note prices that are written, too."""
        write = SymbolFile.write

        def noting(file: SymbolFile, begin: int, prices: np.ndarray[Any, Any]) -> None:
            self._note("write")
            write(file, begin, prices)

        patch.setattr(SymbolFile, "write", noting)

    def since(self) -> list[str]:
        """Return the calls since this was last asked."""
        made, self.made = self.made, []
        return made


class Slow(Executor):
    """What is to be done by another thread is done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    def work(self) -> None:
        for future, work in self.waiting:
            try:
                future.set_result(work())
            except OSError as error:
                future.set_exception(error)
        self.waiting.clear()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


def opened(path: Path, kind: Durability, geometry: Geometry = TINY) -> SymbolManager:
    manager = SymbolManager(store=DirectoryStore(path, geometry, durability=kind))
    manager.open()
    return manager


def file_of(manager: SymbolManager, symbol: str = "A") -> SymbolFile:
    stats = manager[symbol]
    assert isinstance(stats, FileStats)
    return stats.file


def numbers(begin: int, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.arange(begin, begin + length, dtype=np.float64)


def extend(manager: SymbolManager, length: int) -> int:
    sequence = manager["A"].sequence if "A" in manager else 0
    return manager.add_batch("A", numbers(sequence, length)).sequence


# Batches


@pytest.mark.parametrize("kind", ["process", "power"])
def test_a_symbol_is_made(path: Path, calls: Calls, kind: Durability) -> None:
    """With its first batch, in one flush, whatever the durability; then its name."""
    manager = opened(path, kind)
    calls.since()
    extend(manager, 5)
    assert calls.since() == ["prices", "names"]
    assert max(filter(None, file_of(manager).records())).sequence == 5


def test_power_asks_once_a_batch(path: Path, calls: Calls) -> None:
    manager = opened(path, "power")
    extend(manager, 5)
    calls.since()
    for batch in range(1, 30):
        sequence = extend(manager, batch % 5 + 1)
        assert calls.since() == ["prices"]
        records = sorted(filter(None, file_of(manager).records()))
        assert records[1].sequence == sequence
        assert records[0].sequence == records[1].base
    manager.run_housekeeping()
    assert calls.since() == []
    with pytest.raises(InvalidBatchError):
        manager.add_batch("A", [1.0, np.nan])
    assert calls.since() == []


def test_the_disk_begins_with_a_large_batch_before_it_is_asked_to_sync(
    path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is a hint that the system takes."""
    manager = opened(path, "power", LARGE)
    manager.add_batch("A", [1.0])
    calls.since()
    assert disk._start_writing is not None
    begun: list[int] = []

    def start(descriptor: int, offset: int, length: int, flags: int) -> int:
        calls.made.append("start")
        begun.append(length)
        assert original(descriptor, offset, length, flags) == 0
        return 0

    original = disk._start_writing
    monkeypatch.setattr(disk, "_start_writing", start)
    assert extend(manager, 4000) == 4001
    assert calls.since() == ["prices"]
    assert extend(manager, 4096) == 8097
    assert calls.since() == ["start", "prices"]
    assert begun == [4096 * 8]
    manager.close()


def test_process_asks_for_nothing_but_to_revoke(path: Path, calls: Calls) -> None:
    """The header, once, as the prices come to what the record of the first batch counts on."""
    manager = opened(path, "process")
    extend(manager, 5)
    calls.since()
    asked = []
    for _ in range(30):
        before = calls.since()
        sequence = extend(manager, 3)
        asked.append((sequence, calls.since()))
        assert before == []
    assert [each for each in asked if each[1]] == [(14, ["header"])]
    file = file_of(manager)
    assert max(filter(None, file.records())).sequence == NOTHING_DURABLE
    assert file.append_limit == NO_LIMIT


def test_closing_asks_for_everything_then_for_what_vouches_for_it(path: Path, calls: Calls) -> None:
    manager = opened(path, "process")
    extend(manager, 5)
    extend(manager, 1)
    calls.since()
    manager.close()
    assert calls.since() == ["all", "header", "header"]
    manager = opened(path, "process")
    assert calls.since() == ["header", "names"]  # that it is in use, and what was renamed before
    manager.close()


def test_a_batch_acknowledged_before_power_mode_is_on_disk_in_it(path: Path, calls: Calls) -> None:
    """A service in process mode was killed; the next one is to keep the promise of power mode."""
    manager = opened(path, "process")
    for _ in range(10):
        extend(manager, 5)
    abandon(manager)
    manager = opened(path, "power")
    assert "all" in calls.since()
    assert max(filter(None, file_of(manager).records())).sequence == 50
    manager.close()


def test_power_mode_catches_up_with_who_was_killed_while_it_adopted(
    path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another service has joined by then: its first batch makes good what was not done.

    Before it writes a price: it might overwrite what the records on disk count on.
    """
    manager = opened(path, "process")
    for _ in range(10):
        extend(manager, 5)
    abandon(manager)
    with monkeypatch.context() as patch:
        patch.setattr(symbol_files, "renew", lambda _: None)
        first = opened(path, "power")
    second = opened(path, "power")
    abandon(first)
    calls.note_writes(monkeypatch)
    calls.since()
    assert extend(second, 2) == 52
    assert calls.since() == ["all", "header", "write", "prices"]
    assert extend(second, 2) == 54
    assert calls.since() == ["write", "prices"]
    second.close()


def abandon(manager: SymbolManager) -> None:
    """Leave a directory as a process does that is killed."""
    store: Any = manager._store
    for stats in store._given:
        os.close(stats.file._descriptor)
        stats.file._descriptor = -1
    os.close(store._access.release())


# In the background


@pytest.fixture
def background(path: Path, calls: Calls) -> Iterator[tuple[SymbolManager, BackgroundSync, Slow]]:
    """A service in process mode with six prices, the sync of its symbol, and who carries it out."""
    manager = opened(path, "process")
    extend(manager, 5)
    extend(manager, 1)
    slow = Slow()
    calls.since()
    yield manager, BackgroundSync(file_of(manager), slow), slow
    calls.fails = False
    slow.work()
    manager.close()


Background = tuple[SymbolManager, BackgroundSync, Slow]


def test_a_background_sync_from_beginning_to_end(background: Background, calls: Calls) -> None:
    manager, sync, slow = background
    file = file_of(manager)
    limit = file.append_limit
    sync.advance(100.0)
    sync.advance(100.0)
    assert (len(slow.waiting), calls.since()) == (1, [])
    slow.work()
    assert calls.since() == ["all"]
    sync.advance(100.0)  # The record is written, and on its way.
    newest = max(filter(None, file.records()))
    assert (newest.sequence, newest.base) == (6, 6)
    assert file.append_limit == limit, "the record before it may still be the truth"
    slow.work()
    assert calls.since() == ["all"]
    sync.advance(100.0)
    assert file.append_limit == 6 + file.unsynced_max
    extend(manager, 5)
    sync.advance(100.0 + SYNC_SECONDS - 0.1)
    assert not slow.waiting, "not due yet"
    sync.advance(100.0 + SYNC_SECONDS)
    assert len(slow.waiting) == 1


def test_nothing_new_is_not_synced(background: Background, calls: Calls) -> None:
    _, sync, slow = background
    for now in range(0, 1000, 5):
        sync.advance(100.0 + now)
        slow.work()
    assert calls.since() == ["all", "all"]


def test_prices_that_come_too_fast_leave_no_record(background: Background, calls: Calls) -> None:
    manager, sync, slow = background
    sync.advance(100.0)
    for _ in range(3):
        extend(manager, 5)
    slow.work()
    sync.advance(100.0)
    assert calls.since() == ["header", "all"]
    assert max(filter(None, file_of(manager).records())).sequence == NOTHING_DURABLE
    assert not slow.waiting


def test_a_batch_refused_half_way_leaves_no_record(path: Path, calls: Calls) -> None:
    """It may have been written over the oldest prices that a record would count on."""
    geometry = Geometry(12, 2, 4)  # capacity 16, slack 4: one batch
    manager = opened(path, "process", geometry)
    for _ in range(5):
        extend(manager, 4)
    slow = Slow()
    sync = BackgroundSync(file_of(manager), slow)
    for adds in (True, False):
        sync.advance(100.0 if adds else 200.0)
        if adds:
            extend(manager, 1)
        with pytest.raises(InvalidBatchError):
            manager.add_batch("A", [1.0, 2.0, 3.0, np.nan])
        slow.work()
        sync.advance(100.0)
        newest = max(filter(None, file_of(manager).records())).sequence
        assert newest == (NOTHING_DURABLE if adds else 21)
        slow.work()
        sync.advance(100.0)
    manager.close()


def test_two_processes_sync_one_file(background: Background, path: Path) -> None:
    """Whoever is later finds the record of the other, and leaves it or writes a newer one."""
    manager, sync, slow = background
    other = opened(path, "process")
    later = BackgroundSync(file_of(other), slow)
    file = file_of(manager)
    sync.advance(100.0)
    extend(other, 2)
    later.advance(100.0)
    slow.work()
    later.advance(100.0)
    sync.advance(100.0)
    assert max(filter(None, file.records())).sequence == 8
    slow.work()
    sync.advance(100.0)
    later.advance(100.0)
    assert file.append_limit == 8 + file.unsynced_max
    other.close()


def test_a_deleted_symbol_is_not_synced(background: Background, path: Path) -> None:
    manager, sync, slow = background
    file = file_of(manager)
    other = opened(path, "process")
    sync.advance(100.0)
    records = file.records()
    other.delete("A")
    slow.work()
    sync.advance(100.0)
    assert file.records() == records
    other.close()


# A disk that fails


@pytest.mark.parametrize("step", [1, 2])
def test_a_background_sync_that_fails(background: Background, calls: Calls, step: int) -> None:
    """What was durable is so still; later everything is written again before a record says so."""
    manager, sync, slow = background
    file = file_of(manager)
    sync.advance(100.0)
    if step == 2:
        slow.work()
        sync.advance(100.0)
    before = synced_record(file)
    calls.fails = True
    slow.work()
    with pytest.raises(OSError, match="Input/output error"):
        sync.advance(100.0)
    calls.fails = False
    assert file.has_sync_failed
    assert synced_record(file) == before
    assert file.append_limit <= before.sequence + file.unsynced_max
    extend(manager, 1)
    sync.advance(200.0)
    assert not file.has_sync_failed, "everything is to be written again"
    for _ in range(2):
        slow.work()
        sync.advance(200.0)
    assert max(filter(None, file.records())).sequence == 7
    assert file.append_limit == 7 + file.unsynced_max


@pytest.mark.parametrize("step", [1, 2])
def test_a_sync_of_others_that_fails_meanwhile(background: Background, step: int) -> None:
    """It may have been this one's prices, or its record."""
    manager, sync, slow = background
    file = file_of(manager)
    before, limit = synced_record(file), file.append_limit
    sync.advance(100.0)
    slow.work()
    if step == 2:
        sync.advance(100.0)
        slow.work()
    file.header[WORD_SYNC_FAILED] = 1
    sync.advance(100.0)
    assert file.append_limit == limit
    assert synced_record(file) == before


def test_what_cannot_be_synced_is_not_closed_cleanly(path: Path, calls: Calls) -> None:
    manager = opened(path, "process")
    extend(manager, 5)
    extend(manager, 1)
    calls.fails = True
    manager.close()
    calls.fails = False
    file = SymbolFile.open_read_only(path / "A.ring")
    assert file.plan_recovery().state is FileState.KILLED
    file.close()
    manager = opened(path, "process")
    assert manager["A"].sequence == 6
    assert file_of(manager).has_sync_failed
    manager.close()
    file = SymbolFile.open_read_only(path / "A.ring")
    assert file.plan_recovery().state is FileState.CLEAN
    assert not file.has_sync_failed
    file.close()


def test_a_record_that_cannot_be_revoked(path: Path, calls: Calls) -> None:
    """The batch that would overrun it is refused, again and again; smaller ones go in."""
    manager = opened(path, "process")
    extend(manager, 5)
    extend(manager, 5)
    calls.fails = True
    for _ in range(3):
        with pytest.raises(SymbolFileError, match="nothing of the batch was stored"):
            extend(manager, 5)
    assert manager["A"].sequence == 10
    assert extend(manager, 1) == 11
    calls.fails = False
    assert extend(manager, 5) == 16
    manager.close()


def test_everything_is_written_again(tmp_path: Path) -> None:
    """After it was said to be on disk, every page that holds something is dirty once more."""
    manager = opened(tmp_path / "data", "process", LARGE)
    for _ in range(25):  # twice around
        extend(manager, 10_000)
    file = file_of(manager)
    durability.renew(file)
    content = file.region.tobytes()
    synced = dirty_bytes(file.path)
    if synced > LARGE.size_bytes // 2:
        pytest.skip("a file system in memory, whose pages are never clean")
    file.make_dirty()
    assert dirty_bytes(file.path) >= LARGE.size_bytes - HEADER_BYTES
    assert file.region.tobytes() == content
    manager.close()


@pytest.mark.parametrize("count", [1, 100, 4096, 5000])
def test_pages_without_prices_are_left_alone(tmp_path: Path, count: int) -> None:
    """A store into a hole would take room, and be a signal on a full disk."""
    manager = opened(tmp_path / "data", "process", LARGE)
    manager.add_batch("A", numbers(0, count))
    file = file_of(manager)
    blocks = os.stat(file.path).st_blocks
    file.make_dirty()
    file.sync()
    assert os.stat(file.path).st_blocks == blocks
    manager.close()


def synced_record(file: SymbolFile) -> DurableRecord:
    """Return the record that is known to be on disk."""
    generation = file.words[WORD_SYNCED_GENERATION]
    return next(each for each in file.records() if each and each.generation == generation)


def dirty_bytes(path: Path) -> int:
    """Return how much of a mapped file this process has stored to since it was last synced."""
    total = 0
    is_ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            is_ours = line.endswith(str(path))
        elif is_ours and line.startswith(("Private_Dirty:", "Shared_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total
