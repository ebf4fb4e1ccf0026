"""Allocation: no part of the ring is a hole when a price is stored there."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.storage import allocation, disk
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.file_stats import FileStats

PAGES = Geometry(10_000, 8, 100)


def test_the_last_of_the_ring_is_allocated_whatever_the_count_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems count blocks of their own as the file's, and so may hide a hole."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(disk, "allocate", lambda _, begin, end: asked.append((begin, end)))
    manager = SymbolManager(store=DirectoryStore(tmp_path / "data", PAGES))
    manager.open()
    manager.add_batch("S", np.arange(100.0))
    stats = manager["S"]
    assert isinstance(stats, FileStats)
    fstat = os.fstat

    def all_there(descriptor: int) -> Any:
        status = fstat(descriptor)
        return SimpleNamespace(st_blocks=PAGES.size_bytes // 512, st_size=status.st_size)

    monkeypatch.setattr(allocation, "os", SimpleNamespace(**{**vars(os), "fstat": all_there}))
    stats.file.room.reserve(stats.sequence, PAGES.capacity + 1)
    monkeypatch.undo()
    covered = set()
    for first, last in asked:
        covered |= set(range(first // 4096, -(-last // 4096)))
    assert covered == set(range(PAGES.size_bytes // 4096))
    manager.close()
