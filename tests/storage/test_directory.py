"""DirectoryStore: what others do to a directory meanwhile, and what is left when something fails.

How: two stores share one directory, as two processes do. One of them acts at the moment that
matters, because the test replaces the step before. What a killed process leaves is made by hand.
Each test ends with a comparison of everything that is served with what was appended.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import (
    DELETED,
    WORD_COUNT,
    WORD_FLOOR,
    WORD_RECORD_A,
    WORD_RECORD_B,
    Geometry,
)
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import (
    DataDirectoryError,
    InsufficientStorageError,
    SequenceConflictError,
    SymbolFileError,
    SymbolLimitError,
    SymbolNotFoundError,
)
from financial_data_service.storage import directory_access, directory_lock, disk
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.directory_access import DirectoryAccess
from financial_data_service.storage.directory_lock import SETTINGS_FILE
from financial_data_service.storage.durability import Durability
from financial_data_service.storage.file_stats import FileStats
from financial_data_service.storage.inventory import Inventory
from financial_data_service.storage.recovery import FileState
from financial_data_service.storage.symbol_file import SymbolFile
from support.data_directories import TINY, fill, leave, spoil, state_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def opened() -> Iterator[Callable[..., SymbolManager]]:
    """What opens a directory, and closes it in the end."""
    with ExitStack() as stack:

        def open_it(path: Path, max_symbols: int = 10, **options: Any) -> SymbolManager:
            manager = SymbolManager(store=DirectoryStore(path, TINY, max_symbols, **options))
            manager.open()
            stack.callback(manager.close)
            return manager

        yield open_it


Opened = Callable[..., SymbolManager]


def file_of(manager: SymbolManager, symbol: str) -> SymbolFile:
    stats = manager[symbol]
    assert isinstance(stats, FileStats)
    return stats.file


def failing(code: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


def meanwhile(patch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """Have something happen just before a function is called for the first time."""
    function = getattr(owner, name)
    acted = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal acted
        if not acted:
            acted = True
            act()
        return function(*args, **kwargs)

    patch.setattr(owner, name, call)


@contextmanager
def no_descriptor_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


# Symbols that come and go


def test_a_deletion_that_was_cut_short_is_finished(path: Path, opened: Opened) -> None:
    """Its process was killed between the note in the file and the removal of the name."""
    one, two, three = opened(path), opened(path), opened(path)
    for symbol in "ABC":
        one.add_batch(symbol, [1.0])
        assert two.stats(symbol, 1).sequence == 1
        kernels.publish(one[symbol].ring.header, DELETED)
    assert two.get("A") is None
    assert not (path / "A.ring").exists()
    assert two.add_batch("B", [2.0, 3.0]) == ("B", 2, 2)
    with pytest.raises(SymbolNotFoundError):
        two.stats("C", 1)
    assert three.add_batch("C", [4.0], 0) == ("C", 1, 1)
    assert one.symbols() == two.symbols() == three.symbols() == ["B", "C"]
    assert one.stats("B", 1).last == three.stats("B", 1).last == 3.0


def test_a_deletion_that_was_cut_short_is_finished_by_the_next_to_open(
    path: Path, opened: Opened
) -> None:
    fill(path, {"A": [1.0], "B": [2.0]}, TINY)
    living = opened(path)
    kernels.publish(living["A"].ring.header, DELETED)
    late = opened(path)
    assert (late.symbols(), late.refused) == (["B"], {})
    assert not (path / "A.ring").exists()


def test_a_symbol_deleted_while_another_process_joins(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened(path)
    for symbol in "AB":
        one.add_batch(symbol, [1.0])
    paths = list(path.glob("*.ring"))
    monkeypatch.setattr(Inventory, "paths", lambda _: iter(paths))
    one.delete("A")
    two = opened(path)
    monkeypatch.undo()
    assert (two.symbols(), two.refused) == (["B"], {})
    assert two.get("A") is None


def test_a_symbol_made_anew_while_another_process_looks_for_it(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited for the lock of the old file neither finds nothing nor removes the new one."""
    one, two = opened(path), opened(path)
    one.add_batch("A", [1.0])

    def make_anew() -> None:
        one.delete("A")
        one.add_batch("A", [2.0, 3.0])

    meanwhile(monkeypatch, DirectoryAccess, "exclusively", make_anew)
    assert two.stats("A", 1).last == 3.0
    assert one.add_batch("A", [4.0]) == ("A", 1, 3)
    assert two.stats("A", 1).last == 4.0


def test_a_retry_to_a_symbol_that_is_being_deleted_makes_it_anew(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = opened(path), opened(path)
    one.add_batch("A", [1.0, 2.0])
    assert two.stats("A", 1).sequence == 2
    with monkeypatch.context() as patch:
        meanwhile(patch, FileStats, "writing", lambda: one.delete("A"))
        assert two.add_batch("A", [5.0], 0) == ("A", 1, 1)
    with monkeypatch.context() as patch:
        meanwhile(patch, FileStats, "writing", lambda: one.delete("A"))
        with pytest.raises(SequenceConflictError, match="at most 0") as caught:
            two.add_batch("A", [6.0], 1)
    assert caught.value.sequence == 0
    assert "A" not in one


@pytest.mark.parametrize("windows_before", [0, 1])
def test_windows_of_a_symbol_deleted_between_them(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, windows_before: int
) -> None:
    """All are of the symbol, or none."""
    geometry = Geometry(1000, 2, 5)
    one, two = (SymbolManager(store=DirectoryStore(path, geometry)) for _ in range(2))
    one.open()
    two.open()
    one.add_batch("A", [1.0])
    stats = two["A"]
    seen = 0
    window = RunningStats._window

    def count(self: RunningStats, length: int, as_of: int = -1) -> Any:
        nonlocal seen
        if seen == windows_before:
            one.delete("A")
        seen += 1
        return window(self, length, as_of)

    monkeypatch.setattr(RunningStats, "_window", count)
    with pytest.raises(SymbolNotFoundError):
        two.all_stats("A")
    assert {answer.sequence for answer in stats.all_stats()} == {-1}
    one.close()
    two.close()


def test_values_of_a_symbol_overwritten_and_then_deleted_while_they_are_read(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = opened(path), opened(path)
    for begin in range(0, 30, 5):
        one.add_batch("A", np.arange(begin, begin + 5.0))
    stats = two["A"]
    assert stats.values(12).tolist() == list(range(18, 30))

    def overrun() -> None:
        for _ in range(10):
            one.add_batch("A", [-1.0] * 5)
        one.delete("A")

    meanwhile(monkeypatch, SymbolFile, "read", overrun)
    assert stats.values(12).tolist() == []


def test_a_symbol_made_anew_is_the_youngest(path: Path, opened: Opened) -> None:
    """Even if the file system gives it the inode of the one before."""
    one, two = opened(path), opened(path)
    for symbol in "ABC":
        one.add_batch(symbol, [1.0])
    for oldest, order in (("A", "BCA"), ("B", "CAB"), ("C", "ABC")):
        assert one.symbols() == two.symbols()
        one.delete(oldest)
        two.run_housekeeping()
        one.add_batch(oldest, [1.0])
        assert one.symbols() == two.symbols() == list(order)


# Files that contradict themselves


def spoil_count(words: Any) -> None:
    words[WORD_COUNT] = 10**12


def spoil_records(words: Any) -> None:
    words[[WORD_RECORD_A + 1, WORD_RECORD_B + 1]] ^= 1


def spoil_session(words: Any) -> None:
    words[WORD_FLOOR] += 1


@pytest.mark.parametrize("spoil", [spoil_count, spoil_records, spoil_session])
def test_what_was_refused_stays_refused(
    path: Path, opened: Opened, spoil: Callable[[Any], None]
) -> None:
    """Of a file left by a kill: at each question, to each process, and once it was closed."""
    leave(path, {"A": np.arange(1.0, 11.0), "B": [1.0, 2.0]}, TINY)
    content = bytearray((path / "A.ring").read_bytes())
    spoil(np.frombuffer(content, dtype="<i8"))
    (path / "A.ring").write_bytes(content)
    for _ in range(2):
        one, two = opened(path), opened(path)
        for manager in (one, two):
            reason = manager.refused["A.ring"]
            assert reason.startswith(("expected ", "the header's checksum "))
            for _ in range(2):
                with pytest.raises(SymbolFileError, match=r"is damaged$"):
                    manager.stats("A", 1)
                with pytest.raises(SymbolFileError, match=r"is damaged$"):
                    manager.add_batch("A", [1.0])
            assert manager.symbols() == ["B"]
        one.add_batch("B", [3.0])
        one.close()
        two.close()
        assert (path / "A.ring").read_bytes() == content
        assert state_of(path / "B.ring") is FileState.CLEAN


def test_refused_files_count_and_whoever_is_one_too_many_is_told(
    path: Path, opened: Opened
) -> None:
    fill(path, {symbol: [1.0] for symbol in "ABC"}, TINY)
    spoil(path / "A.ring")
    spoil(path / "B.ring")
    manager = opened(path, max_symbols=3)
    assert manager.symbols() == ["C"]
    with pytest.raises(SymbolLimitError, match=r"\(3\) reached; 2 of them cannot be served, see"):
        manager.add_batch("D", [1.0])


def test_a_refused_file_that_others_have_put_right(path: Path, opened: Opened) -> None:
    """Who refused the file that was there before serves what came instead."""
    fill(path, {"A": [1.0], "B": [1.0]}, TINY)
    os.truncate(path / "A.ring", 5000)
    one, two = opened(path), opened(path)
    assert list(one.refused) == list(two.refused) == ["A.ring"]
    (path / "A.ring").unlink()
    assert one.add_batch("A", [2.0, 3.0]) == ("A", 2, 2)
    assert two.symbols() == ["B", "A"]
    two.run_housekeeping()
    assert not two.refused
    assert two.stats("A", 1).last == 3.0
    one.close()
    two.close()
    assert state_of(path / "A.ring") is FileState.CLEAN


def test_who_never_asked_again_closes_what_came_instead(path: Path, opened: Opened) -> None:
    fill(path, {"A": [1.0]}, TINY)
    os.truncate(path / "A.ring", 5000)
    one, two = opened(path), opened(path)
    (path / "A.ring").unlink()
    one.add_batch("A", [2.0, 3.0])
    one.close()
    two.close()
    assert state_of(path / "A.ring") is FileState.CLEAN


def test_a_file_damaged_while_it_is_open_is_not_closed_cleanly(path: Path, opened: Opened) -> None:
    manager = opened(path)
    manager.add_batch("A", [1.0])
    manager.add_batch("B", [1.0])
    manager["A"].ring.header[WORD_COUNT] = 10**12
    manager.close()
    assert state_of(path / "B.ring") is FileState.CLEAN
    with pytest.raises(
        SymbolFileError,
        match=r"one count of prices, got 1000000000000 and, in its copies, 1 and 1:",
    ):
        state_of(path / "A.ring")


# What is no file of a symbol


@pytest.mark.parametrize(
    "kind",
    ["pipe", "socket", "directory", "dangling link", "link to itself", "link to another"],
)
def test_something_else_by_the_name_of_a_file(path: Path, opened: Opened, kind: str) -> None:
    fill(path, {"A": [1.0]}, TINY)
    strange = path / "B.ring"
    if kind == "pipe":
        os.mkfifo(strange)
    elif kind == "socket":
        os.mknod(strange, stat.S_IFSOCK | 0o600)
    elif kind == "directory":
        strange.mkdir()
    else:
        target = {"dangling link": "nowhere", "link to itself": "B.ring"}.get(kind, "A.ring")
        strange.symlink_to(target)
    manager = opened(path)
    assert manager.stats("A", 1).last == 1.0
    assert manager.symbols() == ["A"]
    if kind == "dangling link":
        assert manager.add_batch("B", [2.0]).sequence == 1
        return
    not_regular = "not a regular file"
    reason = {
        **dict.fromkeys(["pipe", "socket", "directory"], not_regular),
        "link to itself": "cannot be opened: Too many levels of symbolic links",
        "link to another": "expected the name A.ring for the symbol A",
    }[kind]
    assert manager.refused["B.ring"].startswith(reason)
    with pytest.raises(SymbolFileError, match=reason):
        manager.add_batch("B", [2.0])


def test_a_link_to_a_file_that_lies_elsewhere_is_served(
    path: Path, tmp_path: Path, opened: Opened
) -> None:
    fill(path, {"A": [1.0]}, TINY)
    (path / "A.ring").rename(tmp_path / "A.ring")
    (path / "A.ring").symlink_to(tmp_path / "A.ring")
    manager = opened(path)
    assert manager.add_batch("A", [2.0]) == ("A", 1, 2)
    manager.close()
    assert state_of(path / "A.ring") is FileState.CLEAN


@pytest.mark.parametrize("content", [b"", b"\xff{", b"[" * 60_000, b"[1]", b"null", b"{}"])
def test_settings_that_cannot_be_read(path: Path, opened: Opened, content: bytes) -> None:
    """No process can join one that uses the directory. One that is alone writes them again."""
    fill(path, {"A": [1.0]}, TINY)
    one = opened(path)
    (path / SETTINGS_FILE).write_bytes(content)
    with (
        no_descriptor_is_left(),
        pytest.raises(DataDirectoryError, match="by another process with"),
    ):
        opened(path)
    one.close()
    assert opened(path).stats("A", 1).last == 1.0
    assert json.loads((path / SETTINGS_FILE).read_bytes())["pid"] == os.getpid()


# Opening and closing


def test_another_process_comes_between_the_two_locks(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once all is recovered the lock is exchanged for a shared one; between them there is none."""
    fill(path, {"A": [1.0]}, TINY)
    flock = directory_access.fcntl.flock  # type: ignore[attr-defined]
    written = json.dumps({"pid": 1, "largest_window": 99})

    def come_between(descriptor: int, operation: int) -> None:
        if operation == directory_access.fcntl.LOCK_SH:  # type: ignore[attr-defined]
            (path / SETTINGS_FILE).write_text(written)
        flock(descriptor, operation)

    monkeypatch.setattr(directory_access.fcntl, "flock", come_between)  # type: ignore[attr-defined]
    with no_descriptor_is_left(), pytest.raises(DataDirectoryError, match=r"process 1 with .* 99"):
        opened(path)


@pytest.mark.parametrize("name", ["sync_directory", "NO_ROOM"])
def test_a_directory_that_cannot_be_opened_is_let_go_of(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(path, {"A": [1.0], "B": [2.0]}, TINY)
    if name == "NO_ROOM":
        monkeypatch.setattr(os, "pwrite", failing(errno.ENOSPC))
        said = "No space left on device"
    else:
        monkeypatch.setattr(disk, name, failing(errno.EIO))
        said = "Input/output error"
    with (
        no_descriptor_is_left(),
        pytest.raises(DataDirectoryError, match=f"{path}: cannot be used: {said}"),
    ):
        opened(path)
    monkeypatch.undo()
    assert not directory_lock.is_in_use(path)
    assert opened(path).stats("A", 1).last == 1.0


def test_directories_made_on_the_way_are_on_disk(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(disk, "sync_directory", synced.append)
    opened(tmp_path / "a" / "b" / "data")
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a/b/data"}


def test_a_temporary_directory_never_waits_for_the_disk(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sync_file", "sync_range", "sync_directory"):
        monkeypatch.setattr(disk, name, failing(errno.EIO))
    one, two = (opened(path, temporary=True) for _ in range(2))
    for begin in range(0, 100, 5):
        manager = one if begin % 2 else two
        manager.add_batch("A", np.arange(begin, begin + 5.0), begin)
        manager.run_housekeeping()
    assert one.window("A", 12) == two.window("A", 12)
    assert two.stats("A", 1).sequence == 100
    one.delete("A")
    two.add_batch("A", [1.0])
    one.close()
    assert two.stats("A", 1).last == 1.0
    two.close()
    assert not path.exists()


# Making and deleting on a disk that fails

STEPS: dict[str, tuple[Any, str]] = {
    "room for the header": (disk, "allocate"),
    "prices": (disk, "sync_range"),
    "its name": (Path, "rename"),
    "the directory": (disk, "sync_directory"),
}


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("step", STEPS)
def test_a_symbol_that_cannot_be_made(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, step: str, durability: Durability
) -> None:
    one, two = (opened(path, durability=durability) for _ in range(2))
    one.add_batch("A", [1.0])
    before = sorted(os.listdir(path))
    with no_descriptor_is_left(), monkeypatch.context() as patch:
        patch.setattr(*STEPS[step], failing(errno.EIO))
        with pytest.raises(SymbolFileError) as refusal:
            one.add_batch("B", [2.0])
    assert str(refusal.value) == (
        f"{path}/B.ring: the disk fails (Input/output error): nothing of the batch was stored"
    )
    assert sorted(os.listdir(path)) == before
    assert one.symbols() == two.symbols() == ["A"]
    assert two.get("B") is None
    assert one.add_batch("A", [3.0]).sequence == 2
    assert two.add_batch("B", [4.0]).sequence == 1


def test_a_symbol_seen_before_it_is_known_to_last(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finds it under its name; then the disk fails, and it is gone for both."""
    one, two = opened(path), opened(path)
    seen: list[RunningStats | None] = []

    def fail(_: Path) -> None:
        # The other process had mapped it already when this one made it.
        seen.append(two.get("A"))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync_directory", fail)
        patch.setattr(DirectoryAccess, "exclusively", unlocked)
        with pytest.raises(SymbolFileError, match="nothing of the batch was stored"):
            one.add_batch("A", [1.0])
    assert seen[0] is not None
    assert seen[0].sequence == DELETED
    assert two.get("A") is None
    assert two.add_batch("A", [2.0]) == ("A", 1, 1)
    assert one.stats("A", 1).last == 2.0


@contextmanager
def unlocked(_: DirectoryStore) -> Iterator[None]:
    yield


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["room for the header", "its name"])
def test_a_symbol_there_is_no_room_for(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    manager = opened(path)
    with no_descriptor_is_left(), monkeypatch.context() as patch:
        patch.setattr(*STEPS[step], failing(code))
        with pytest.raises(InsufficientStorageError, match=os.strerror(code)):
            manager.add_batch("B", [2.0])
    assert os.listdir(path) == [SETTINGS_FILE]
    assert manager.add_batch("B", [4.0]).sequence == 1


def test_a_symbol_that_cannot_be_deleted_is_there_still(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = opened(path), opened(path)
    one.add_batch("A", [1.0])
    assert two.stats("A", 1).last == 1.0
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", failing(errno.EROFS))
        with pytest.raises(SymbolFileError, match=r"Read-only file system\): it was not deleted"):
            one.delete("A")
    assert one.add_batch("A", [2.0]) == ("A", 1, 2)
    assert two.stats("A", 1).last == 2.0


def test_a_deletion_that_may_not_last(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = opened(path), opened(path)
    one.add_batch("A", [1.0])
    assert two.stats("A", 1).last == 1.0
    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync_directory", failing(errno.EIO))
        with pytest.raises(SymbolFileError, match="a loss of power may bring it back"):
            one.delete("A")
    assert one.symbols() == []
    assert one.get("A") is two.get("A") is None
    assert two.add_batch("A", [3.0]) == ("A", 1, 1)


def test_what_was_opened_ahead_is_let_go_of_once_deleted(path: Path, opened: Opened) -> None:
    """A directory is opened with all its files; those of symbols deleted since are closed."""
    fill(path, {symbol: [1.0] for symbol in "ABCDEF"}, TINY)
    one = opened(path)
    two = opened(path)
    before = len(os.listdir("/proc/self/fd"))
    for symbol in "ABCDEF":
        one.delete(symbol)
        if symbol < "D":
            assert two.get(symbol) is None
    two.run_housekeeping()
    # Before Python 3.13 a mapping has one of its own.
    per_file = 1 if sys.version_info >= (3, 13) else 2
    assert len(os.listdir("/proc/self/fd")) == before - 12 * per_file


def test_opening_waits_for_no_clock(path: Path, opened: Opened) -> None:
    """Neither alone nor among others; and who leaves others behind does so soon."""
    began = time.monotonic()
    managers = [opened(path) for _ in range(3)]
    assert time.monotonic() - began < 5
    for manager in managers:
        manager.close()
    assert time.monotonic() - began < 10
