"""Times of syncs: each store reports its own, and only while it has an observer."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.sync_times import SyncTimes

TINY = Geometry(100, 4, 10)


def test_a_store_reports_its_own_syncs_to_its_own_observer(tmp_path: Path) -> None:
    managers = [
        SymbolManager(store=DirectoryStore(tmp_path / name, TINY, durability="power"))
        for name in ("one", "two")
    ]
    times: list[list[int]] = [[], []]
    for manager, observed in zip(managers, times, strict=True):
        manager.observe_syncs(observed.append)
    one, two = managers
    with closing(one), closing(two):
        one.open()
        two.open()
        for observed in times:
            observed.clear()
        one.add_batch("A", [1.0])
        one.add_batch("A", [2.0])
        count = len(times[0])
        assert count >= 3, "the first batch, the name of the file, the second batch"
        assert all(nanoseconds > 0 for nanoseconds in times[0])
        assert times[1] == []
        two.add_batch("B", [1.0])
        assert len(times[0]) == count
        assert times[1] != []
        one.observe_syncs(None)
        one.add_batch("A", [3.0])
        assert len(times[0]) == count
        assert one.stats("A", 1).last == 3.0


def test_symbols_that_were_opened_report_too(tmp_path: Path) -> None:
    first = SymbolManager(store=DirectoryStore(tmp_path, TINY, durability="power"))
    first.open()
    first.add_batch("A", np.ones(3))
    first.close()
    times: list[int] = []
    second = SymbolManager(store=DirectoryStore(tmp_path, TINY, durability="power"))
    second.observe_syncs(times.append)
    with closing(second):
        second.open()
        times.clear()
        second.add_batch("A", [2.0])
        assert times != []


def test_a_sync_that_fails_is_measured_too() -> None:
    def fail(path: str) -> None:
        time.sleep(0.002)
        raise OSError(path)

    times: list[int] = []
    syncs = SyncTimes()
    with pytest.raises(OSError, match="here"):
        syncs.measure(fail, "here")
    assert times == []
    syncs.observer = times.append
    with pytest.raises(OSError, match="here"):
        syncs.measure(fail, "here")
    (nanoseconds,) = times
    assert nanoseconds >= 2_000_000
