"""A full disk, and one that fails: a clear error, reads that still work, nothing half stored.

How: a small file system in memory if it may be mounted (root), filled by prices and by other files;
otherwise a limit on the size of files. For a disk that fails, its functions are replaced.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from math import ulp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import InsufficientStorageError, SymbolFileError
from financial_data_service.storage import disk
from financial_data_service.storage.allocation import Allocation
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.durability import Durability
from support.oracle import VAR_PROMISED, exact_moments
from support.paths import TESTS
from support.raw_http import batch, get
from support.service_process import end, started

SIZES = Geometry(10**6, batch_max=10_000)  # 8.6 MB a symbol
PRICES = np.random.default_rng(3).uniform(1, 2, 10**6)
MOUNT_BYTES = 4 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_at(tmp_path / "small", f"size={MOUNT_BYTES}") as path:
        yield path


@contextmanager
def mounted_at(path: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory for a while."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        # Lazily: what a failed test has left open must not keep it.
        subprocess.run(["umount", "-l", path], check=True)


def opened(path: Path, durability: Durability = "process") -> SymbolManager:
    manager = SymbolManager(store=DirectoryStore(path, SIZES, durability=durability))
    manager.open()
    return manager


def fill(manager: SymbolManager, symbol: str, begin: int = 0) -> int:
    """Append until the disk is full; return how many prices there are."""
    stored = begin
    while True:
        try:
            stored = manager.add_batch(symbol, PRICES[stored : stored + 10_000]).sequence
        except InsufficientStorageError as full:
            error = full
            break
    assert f"for more prices of symbol {symbol} (No space left on device)" in str(error)
    return stored


def use_up(path: Path) -> None:
    """Write what there is room for."""
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def check(manager: SymbolManager, symbol: str, sequence: int) -> None:
    stats = manager[symbol]
    assert stats.sequence == sequence
    assert np.array_equal(stats.values(10**6), PRICES[:sequence])
    for length in (10, 1000, 100_000, 10**6):
        prices = PRICES[max(0, sequence - length) : sequence]
        answer = stats.window(length)
        assert answer[1:4] == (prices.min(), prices.max(), prices[-1])
        avg, var = exact_moments(prices)
        assert abs(Fraction(answer.avg) - avg) <= ulp(float(avg))
        assert abs(Fraction(answer.var) - var) <= VAR_PROMISED * var


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_full_disk(small_disk: Path, durability: Durability) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(MOUNT_BYTES // 2))
    manager = opened(small_disk / "data", durability)
    stored = fill(manager, "A")
    assert stored > 0
    check(manager, "A", stored)
    use_up(small_disk / "rest")
    for _ in range(3):
        with pytest.raises(InsufficientStorageError):
            manager.add_batch("A", PRICES[stored : stored + 10_000])
    with pytest.raises(InsufficientStorageError):
        manager.add_batch("B", [1.0])
    assert manager.symbols() == ["A"]
    assert sorted(os.listdir(small_disk / "data")) == ["A.ring", "directory.json"]
    check(manager, "A", stored)

    ballast.unlink()
    more = fill(manager, "A", stored)
    assert more > stored
    check(manager, "A", more)
    manager.close()
    manager = opened(small_disk / "data", durability)
    check(manager, "A", more)
    manager.close()


def test_a_full_disk_over_http(small_disk: Path, tmp_path: Path) -> None:
    flags = ["--port", "0", "--largest-window", "1000000", "--data-dir", str(small_disk / "data")]
    with started(tmp_path, flags) as service:
        stored = 0
        while True:
            reply = service.add(batch("A", PRICES[stored : stored + 10_000].tolist()))
            if reply.status != 201:
                break
            stored = reply.json()["sequence"]
        assert reply.status == 507
        assert "batches are taken again once there is room" in reply.json()["detail"]
        assert service.get("/stats/A/5")["sequence"] == stored
        assert service.ask(get("/readyz")).status == 200
        end(service)


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """The whole file is beyond the limit: the symbol is not made, and nothing is left of it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    manager = opened(tmp_path / "data")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
        with pytest.raises(InsufficientStorageError, match="File too large"):
            manager.add_batch("A", [1.0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path / "data") == ["directory.json"]
    manager.add_batch("A", PRICES[:100])
    check(manager, "A", 100)
    manager.close()


@pytest.mark.parametrize("function", ["sync_range", "sync_file"])
def test_a_disk_that_fails_to_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """A batch that is not on disk has not happened; once the disk works, batches are taken."""
    manager = opened(tmp_path / "data", "power")
    manager.add_batch("A", PRICES[:1000])

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        for name in {"sync_range", function}:
            patch.setattr(disk, name, fail)
        with pytest.raises(SymbolFileError, match="Input/output error"):
            manager.add_batch("A", PRICES[1000:2000])
        check(manager, "A", 1000)
    manager.add_batch("A", PRICES[1000:1500])
    check(manager, "A", 1500)
    manager.close()
    manager = opened(tmp_path / "data", "power")
    check(manager, "A", 1500)
    manager.close()


def test_a_service_starts_on_a_full_disk(small_disk: Path) -> None:
    """After an orderly end and after a kill: what is stored is served, and room is all it takes."""
    data = small_disk / "data"
    manager = opened(data)
    for begin in range(0, 100_000, 10_000):
        manager.add_batch("A", PRICES[begin : begin + 10_000])
    manager.close()
    ballast = small_disk / "ballast"
    use_up(ballast)
    for _ in range(2):
        manager = opened(data)
        assert not manager.refused
        check(manager, "A", 100_000)
        with pytest.raises(InsufficientStorageError):
            manager.add_batch("B", [1.0])
        manager.close()
    left = opened(data)
    abandon(left)
    manager = opened(data)
    check(manager, "A", 100_000)
    ballast.unlink()
    manager.add_batch("A", PRICES[100_000:110_000])
    check(manager, "A", 110_000)
    manager.close()


def abandon(manager: SymbolManager) -> None:
    """Leave a directory as a process does that is killed."""
    store: Any = manager._store
    for stats in store._given:
        os.close(stats.file._descriptor)
        stats.file._descriptor = -1
    os.close(store._access.release())


def test_no_file_can_be_made(tmp_path: Path) -> None:
    """There is room for prices, but for no more names."""
    with mounted_at(tmp_path / "small", "size=1G,nr_inodes=5") as path:
        manager = opened(path / "data")
        manager.add_batch("A", PRICES[:1000])
        manager.add_batch("B", PRICES[:1000])
        with pytest.raises(InsufficientStorageError, match=r"No room in .*/data for more prices"):
            manager.add_batch("C", [1.0])
        assert manager.symbols() == ["A", "B"]
        manager.add_batch("B", PRICES[1000:2000])
        check(manager, "B", 2000)
        manager.delete("A")
        assert manager.add_batch("C", [1.0]).sequence == 1
        manager.close()


PAGE_BY_PAGE = """
import os, sys
from pathlib import Path
from service.test_disk_full import PAGES, abandon, use_up
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import InsufficientStorageError
from financial_data_service.storage.directory import DirectoryStore
import numpy as np

small = Path(sys.argv[1])
manager = SymbolManager(store=DirectoryStore(small / "data", PAGES, durability=sys.argv[2]))
manager.open()
ballast = small / "ballast"
use_up(ballast)
os.truncate(ballast, ballast.stat().st_size - 12 * 4096)  # a page of each part
manager.add_batch("S", np.arange(100.0))
use_up(ballast)
refusals = 0
while (sequence := manager["S"].sequence) < 3 * PAGES.capacity:
    try:
        manager.add_batch("S", np.arange(sequence, sequence + 100.0))
    except InsufficientStorageError:
        refusals += 1
        os.truncate(ballast, ballast.stat().st_size - 4096)
    if sequence % 700 == 0:
        abandon(manager)
        manager = SymbolManager(store=DirectoryStore(small / "data", PAGES, durability=sys.argv[2]))
        manager.open()
    answer = manager.window("S", 1000)
    sequence = answer.sequence
    assert (answer.min, answer.max) == (max(0, sequence - 1000), sequence - 1)
print(refusals)
manager.close()
"""

PAGES = Geometry(10_000, 8, 100)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_room_that_comes_page_by_page(small_disk: Path, durability: Durability) -> None:
    """At no point of the ring is there a store into a hole: that would be the end of the process.

    Nor is there when one is that a killed process had not come to.
    """
    done = page_by_page(small_disk, durability)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 10


def test_a_store_into_a_hole_is_found(small_disk: Path) -> None:
    """The test before would see it: planted here."""
    planted = "from financial_data_service.storage.allocation import Allocation\n"
    planted += "Allocation.reserve = lambda *_: None\n"
    assert page_by_page(small_disk, "process", planted).returncode == -signal.SIGBUS


def page_by_page(
    path: Path, durability: Durability, planted: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", planted + PAGE_BY_PAGE, path, durability],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_disk_that_fails_to_allocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = opened(tmp_path / "data")
    manager.add_batch("A", PRICES[:1000])

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(disk, "allocate", fail)
        patch.setattr(Allocation, "reserve", Allocation._allocate)
        with pytest.raises(SymbolFileError, match=r"the disk fails \(Input/output error\)"):
            manager.add_batch("A", PRICES[1000:2000])
        check(manager, "A", 1000)
    manager.add_batch("A", PRICES[1000:2000])
    check(manager, "A", 2000)
    manager.close()
