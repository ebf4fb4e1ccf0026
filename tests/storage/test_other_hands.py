"""Changes to a data directory from outside: files removed, moved and replaced while a service runs;
locks that are not released; no descriptor left.

How: managers of this process stand for services that share the directory, one for each.
"""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import financial_data_service as fds
from financial_data_service.engine.layout import WORD_COUNT, WORD_RECORD_A, WORD_RECORD_B, Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import DataDirectoryError, SymbolFileError
from financial_data_service.storage import directory_access, directory_lock, symbol_file
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.directory_lock import SETTINGS_FILE, is_in_use
from financial_data_service.storage.recovery import FileState
from support.data_directories import SMALL, add, fill, in_use, leave, state_of
from support.raw_http import get
from support.service_process import started

PRICES = np.arange(1.0, 501.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", {"A": PRICES[:3], "B": PRICES[:2]})


@pytest.fixture
def opened() -> Iterator[Callable[..., SymbolManager]]:
    """What opens a directory as a service has it, and closes it in the end."""
    with ExitStack() as stack:

        def open_it(path: Path, geometry: Geometry = SMALL, **options: Any) -> SymbolManager:
            manager = SymbolManager(store=DirectoryStore(path, geometry, **options))
            manager.open()
            stack.callback(manager.close)
            return manager

        yield open_it


Opened = Callable[..., SymbolManager]


def last(manager: SymbolManager, symbol: str = "A") -> tuple[int, float]:
    answer = manager.stats(symbol, 1)
    return answer.sequence, answer.last


# --- Files


def test_a_file_that_is_removed_is_gone_for_all(path: Path, opened: Opened) -> None:
    one, two = opened(path), opened(path)
    assert last(one) == last(two) == (3, 3.0)
    (path / "A.ring").unlink()
    one.run_housekeeping()
    assert one.get("A") is None
    assert two.get("A") is None  # though it has not looked itself
    assert one.add_batch("A", [7.0]) == ("A", 1, 1)
    assert two.add_batch("A", [8.0]) == ("A", 1, 2)
    assert last(one) == last(two) == (2, 8.0)
    assert one.symbols() == two.symbols() == ["B", "A"]


def test_a_file_that_is_moved_away_keeps_its_prices(
    path: Path, tmp_path: Path, opened: Opened
) -> None:
    one, two = opened(path), opened(path)
    assert last(one) == last(two) == (3, 3.0)
    one.add_batch("A", [4.0])
    (path / "A.ring").rename(tmp_path / "kept")
    for manager in (one, two):
        manager.run_housekeeping()
        assert manager.get("A") is None
    assert one.add_batch("A", [7.0]) == ("A", 1, 1)
    assert last(two) == (1, 7.0)
    one.delete("A")
    assert two.get("A") is None
    (tmp_path / "kept").rename(path / "A.ring")
    assert last(one) == last(two) == (4, 4.0)
    assert two.add_batch("A", [5.0], 4) == ("A", 1, 5)


def test_a_file_that_is_replaced_is_what_counts(path: Path, opened: Opened) -> None:
    shutil.copy(path / "A.ring", path / "copy")
    one, two = opened(path), opened(path)
    one.add_batch("A", [4.0])
    (path / "copy").rename(path / "A.ring")
    one.run_housekeeping()
    assert last(one) == last(two) == (3, 3.0)


def test_what_was_never_asked_for_is_let_go_of_as_well(path: Path, opened: Opened) -> None:
    one = opened(path)
    before = len(os.listdir("/proc/self/fd"))
    (path / "A.ring").unlink()
    one.run_housekeeping()
    assert len(os.listdir("/proc/self/fd")) < before
    assert one.get("A") is None
    one.run_housekeeping()


def test_a_link_that_leads_nowhere_is_no_symbol(path: Path, opened: Opened) -> None:
    (path / "C.ring").symlink_to(path / "nowhere")
    one = opened(path, max_symbols=3)
    one.add_batch("D", [1.0])
    assert one.symbols() == ["A", "B", "D"]


# --- The directory


def test_a_directory_that_is_removed(path: Path, opened: Opened) -> None:
    one = opened(path)
    assert last(one) == (3, 3.0)
    shutil.rmtree(path)
    with pytest.raises(DataDirectoryError, match="cannot be used: No such file"):
        one.symbols()
    with pytest.raises(DataDirectoryError, match="cannot be used: No such file"):
        one.add_batch("C", [1.0])
    one.run_housekeeping()
    assert "was removed or replaced" in one.refused[SETTINGS_FILE]
    assert one.get("A") is None


def test_a_service_tells_that_its_directory_is_gone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    flags = ["--port", "0", "--largest-window", "1000", "--data-dir", str(data)]
    with started(tmp_path, flags) as service:
        assert service.add(b'{"symbol": "A", "values": [1, 2]}').status == 201
        shutil.rmtree(data)
        for symbol in ("new", "newer"):
            body = b'{"symbol": "%b", "values": [1]}' % symbol.encode()
            reply = service.add(body)
            assert reply.status == 503
            assert "cannot be used: No such file" in reply.json()["detail"]
        for target in ("/symbols", "/stats/"):
            assert service.ask(get(target)).status == 503
        deadline = time.monotonic() + 20
        while service.get("/readyz")["status"] != "degraded":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert service.add(b'{"symbol": "A", "values": [3]}').status == 503
        assert "Traceback" not in service.log.read_text()


def test_settings_that_are_replaced_are_told_and_nothing_is_vouched_for(
    path: Path, opened: Opened
) -> None:
    one = opened(path)
    (path / SETTINGS_FILE).unlink()
    one.run_housekeeping()
    assert "was removed or replaced" in one.refused[SETTINGS_FILE]
    one.add_batch("A", [4.0])
    one.close()
    assert state_of(path / "A.ring") is FileState.KILLED
    two = opened(path)
    assert last(two) == (4, 4.0)


def test_settings_replaced_while_they_are_locked(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever locks a file that is no longer there has locked nothing."""
    shutil.copy(path / SETTINGS_FILE, path / "other")
    original = directory_lock.try_lock  # type: ignore[attr-defined]

    def lock(descriptor: int) -> bool:
        if (path / "other").exists():
            (path / "other").rename(path / SETTINGS_FILE)
        return bool(original(descriptor))

    monkeypatch.setattr(directory_lock, "try_lock", lock)
    one = opened(path)
    one.run_housekeeping()
    assert not one.refused


# --- Locks


@contextmanager
def locked(path: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Have the lock of a file or directory held by somebody who does not give it back."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_a_file_whose_lock_is_not_given_back(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    """Those who write to it are told so; everything else goes on."""
    monkeypatch.setattr(symbol_file, "LOCK_SECONDS", 0.2)
    one = opened(path)
    with locked(path / "A.ring", kind):
        for seconds in (0.2, 0.0):  # Only the first of them waits.
            began = time.monotonic()
            for from_sequence in (None, 3):
                with pytest.raises(SymbolFileError, match="does not give it back") as caught:
                    one.add_batch("A", [4.0], from_sequence)
                assert caught.value.is_passing
            assert time.monotonic() - began >= seconds
        with pytest.raises(SymbolFileError, match="does not give it back"):
            one.delete("A")
        assert last(one) == (3, 3.0)
        assert one.add_batch("B", [9.0]) == ("B", 1, 3)
        assert not one.refused
        one.run_housekeeping()
    assert one.add_batch("A", [4.0], 3) == ("A", 1, 4)


def test_a_directory_whose_lock_is_not_given_back(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_access, "LOCK_SECONDS", 0.1)
    one = opened(path)
    with locked(path):
        with pytest.raises(DataDirectoryError, match="does not give it back"):
            one.add_batch("C", [1.0])
        with pytest.raises(DataDirectoryError, match="does not give it back"):
            one.delete("A")
        assert one.add_batch("A", [4.0]) == ("A", 1, 4)
    assert one.add_batch("C", [1.0]) == ("C", 1, 1)


def test_a_service_that_starts_waits_with_an_end(
    path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_access, "START_SECONDS", 0.2)
    (path / SETTINGS_FILE).write_text('{"pid": 4194305}')  # more than there can be
    with (
        locked(path / SETTINGS_FILE),
        pytest.raises(DataDirectoryError, match=r"another process starts or ends there"),
    ):
        opened(path)
    assert last(opened(path)) == (3, 3.0)


def test_a_service_that_waits_says_for_whom(
    path: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(path / SETTINGS_FILE), caplog.at_level("INFO", "financial_data_service.storage"):
        waiting = threading.Thread(target=lambda: opened(path).close())
        waiting.start()
        deadline = time.monotonic() + 10
        while not any("waiting for process" in each.message for each in caplog.records):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    waiting.join(10)
    assert not waiting.is_alive()


def test_who_only_looks_is_not_taken_for_a_service(path: Path) -> None:
    """However many look at once."""
    found: list[bool] = []

    def look() -> None:
        found.extend(is_in_use(path) for _ in range(300))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 900
    assert not any(found)
    with in_use(path):
        assert is_in_use(path)


# --- Descriptors


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_left_is_no_fault_of_a_file(path: Path, opened: Opened) -> None:
    one = opened(path)
    one.add_batch("B", [4.0])  # Kernels come from files, too.
    assert last(one) == (3, 3.0)
    with in_use(path) as two:
        add(two, "C", PRICES[:5])
    with no_descriptors():
        assert one.add_batch("A", [4.0]) == ("A", 1, 4)
        with pytest.raises((SymbolFileError, DataDirectoryError), match="Too many open files"):
            one.symbols()
        with pytest.raises(SymbolFileError, match="Too many open files") as caught:
            one.get("C")
        assert caught.value.is_passing
        with pytest.raises((SymbolFileError, DataDirectoryError), match="Too many open files"):
            one.add_batch("D", [1.0])
        one.run_housekeeping()
        assert not one.refused
    assert one.symbols() == ["A", "B", "C"]
    assert last(one, "C") == (5, 5.0)


# --- Readers


@pytest.mark.parametrize("words", [(WORD_COUNT,), (WORD_RECORD_A, WORD_RECORD_B)])
def test_a_reader_refuses_what_the_service_at_work_refuses(
    tmp_path: Path, opened: Opened, words: tuple[int, ...]
) -> None:
    left = leave(tmp_path / "data", {"A": PRICES[:50], "B": PRICES[:50]})
    with (left / "A.ring").open("r+b") as file:
        for word in words:
            file.seek(word * 8 + 2)
            file.write(b"\x01")
    service = opened(left)
    assert list(service.refused) == ["A.ring"]
    with fds.open(left) as data:
        with pytest.raises(SymbolFileError, match="it is damaged"):
            data["A"]
        assert data["B"].stats(2).sequence == 50


def test_a_reader_does_not_believe_a_file_that_a_service_of_other_settings_left_alone(
    tmp_path: Path, opened: Opened
) -> None:
    left = leave(tmp_path / "data", {"A": PRICES})
    service = opened(left, Geometry(100, 8, 100))
    assert list(service.refused) == ["A.ring"]
    with fds.open(left) as data, pytest.raises(SymbolFileError, match="was killed"):
        data["A"]


def test_a_reader_leaves_a_file_that_is_gone(path: Path, tmp_path: Path, opened: Opened) -> None:
    with fds.open(path) as data:
        assert data["A"].sequence == 3
        (path / "A.ring").rename(tmp_path / "kept")
        service = opened(path)
        service.add_batch("A", [50.0, 60.0])
        assert data["A"].stats(1).last == 60.0
        shutil.rmtree(path)
        assert repr(data) == f"<DataDirectory {str(path)!r}: gone>"


def test_a_torn_record_of_a_closed_file_is_called_what_it_is(path: Path) -> None:
    with (path / "A.ring").open("r+b") as file:
        file.seek((WORD_RECORD_A + 4) * 8)
        file.write(b"\xff\xff")
    with pytest.raises(SymbolFileError, match="expected whole durable records"):
        state_of(path / "A.ring")
