"""How much of a region is in memory: exactly the pages that were touched."""

from __future__ import annotations

import mmap
import threading
import time

import numpy as np
import numpy.typing as npt
import pytest

from financial_data_service.server.telemetry import resident as module
from financial_data_service.server.telemetry.resident import ResidentBytes

PAGE = mmap.PAGESIZE


def region(size: int, touched: list[int]) -> npt.NDArray[np.float64]:
    """Return a mapping of ``size`` bytes of whose pages some are in memory."""
    mapping = mmap.mmap(-1, size)
    for page in touched:
        mapping[page * PAGE] = 1
    return np.frombuffer(mapping, np.float64)


@pytest.fixture(autouse=True)
def _pages_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # A huge page would count as 512 touched ones: regions smaller than one have none.
    monkeypatch.setattr(module, "_PIECE_BYTES", 16 * PAGE)


@pytest.mark.parametrize("touched", [[], [0], [3, 15], list(range(16))])
def test_a_small_region_is_counted_at_once(touched: list[int]) -> None:
    assert ResidentBytes().of({"S": region(16 * PAGE, touched)}) == {"S": len(touched) * PAGE}


def test_a_large_region_is_counted_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STALE_SECONDS", 3600.0)
    counts = ResidentBytes()
    touched = [0, 15, 16, 40, 99]
    large = region(100 * PAGE, touched)
    assert counts.of({"L": large}) == {}
    counts.wait()
    assert counts.of({"L": large}) == {"L": len(touched) * PAGE}
    # A count that is not stale is not made again; a new region makes all be counted.
    np.asarray(large)[50 * PAGE // 8]  # Read, not touched: a page of zeros is no memory of its own.
    other = region(20 * PAGE, [1])
    assert counts.of({"L": large, "M": other}) == {"L": len(touched) * PAGE}
    counts.wait()
    assert counts.of({"L": large, "M": other})["M"] == PAGE


def test_a_stale_count_is_made_again_and_a_deleted_symbol_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = ResidentBytes()
    mapping = mmap.mmap(-1, 100 * PAGE)
    large = np.frombuffer(mapping, np.float64)
    monkeypatch.setattr(module, "_STALE_SECONDS", 0.0)
    counts.of({"L": large, "M": region(20 * PAGE, [])})
    counts.wait()
    mapping[7 * PAGE] = 1
    assert counts.of({"L": large}) == {"L": 0}
    counts.wait()
    assert counts.of({"L": large}) == {"L": PAGE}
    counts.wait()
    assert counts._counts.keys() == {"L"}


def test_a_scrape_does_not_wait_for_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()

    def slow(_: object) -> int:
        going_on.wait(10)
        return 5

    monkeypatch.setattr(module, "_resident_bytes", slow)
    counts = ResidentBytes()
    large = region(100 * PAGE, [])
    started = time.monotonic()
    assert counts.of({"L": large}) == {}
    assert counts.of({"L": large}) == {}
    assert time.monotonic() - started < 5
    going_on.set()
    counts.wait()
    assert counts.of({"L": large}) == {"L": 5}
