"""A full disk, and one that fails: an error that says so, reads that go on, nothing half stored.

How: a small file system in memory where this may be mounted (root), filled up by prices and by
files of somebody else's; a limit on the size of files elsewhere; and for a disk that fails,
stand-ins for what is asked of it.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import InsufficientStorageError, SymbolFileError
from financial_data_service.storage import disk
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.durability import Durability
from oracle import Oracle
from raw_http import batch, get
from service_process import end, started

SIZES = Geometry(10**6, batch_max=10_000)  # 8.6 MB a symbol
PRICES = np.random.default_rng(3).uniform(1, 2, 10**6)
MOUNT_BYTES = 4 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", path],
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
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def check(manager: SymbolManager, symbol: str, sequence: int) -> None:
    stats = manager[symbol]
    assert stats.sequence == sequence
    assert np.array_equal(stats.last_values(10**6), PRICES[:sequence])
    for length in (10, 1000, 100_000, 10**6):
        Oracle(PRICES[:sequence]).check(stats.window(length), length)


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
