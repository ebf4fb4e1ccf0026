"""The ring: prices that are written are read back, and unwritten pages take no memory.

Memory is measured as the kernel counts it, in a process of its own.
"""

from __future__ import annotations

import errno
import mmap
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.ring import Ring
from financial_data_service.errors import FdsError, InsufficientStorageError

MEASURE = """
import numpy as np
from financial_data_service.engine.running_stats import RunningStats, warm_up
from financial_data_service.engine.symbol_manager import SymbolManager

def resident_kib():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

warm_up()
before = resident_kib()
"""


def measured(program: str) -> list[int]:
    """Run a program behind the lines above and return the numbers it prints."""
    command = [sys.executable, "-c", MEASURE + textwrap.dedent(program)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    return [int(word) for word in done.stdout.split()]


def filled(geometry: Geometry, count: int) -> Ring:
    ring = Ring(geometry)
    for price in range(count):
        kernels.append(ring.header, ring.region, np.array([float(price)]))
    return ring


@given(st.integers(0, 100), st.data())
def test_read_gives_what_was_appended(count: int, data: st.DataObject) -> None:
    ring = filled(Geometry(20, 4, 5), count)
    assert ring.sequence == count
    begin = data.draw(st.integers(ring.oldest, count))
    end = data.draw(st.integers(begin, count))
    assert ring.read(begin, end).tolist() == list(range(begin, end))


def test_read_is_a_view_where_it_can_be() -> None:
    ring = filled(Geometry(10, 2, 4), 20)  # 16 slots
    assert np.shares_memory(ring.read(17, 20), ring.region)
    assert np.shares_memory(ring.read(12, 16), ring.region)
    assert not np.shares_memory(ring.read(12, 17), ring.region)


@pytest.mark.parametrize("count", [0, 1, 12, 13, 16, 17, 64])
def test_oldest_leaves_room_for_a_batch_that_is_refused(count: int) -> None:
    """A batch that is refused half-way has been written half-way: to slots nobody reads."""
    geometry = Geometry(10, 2, 4)
    ring = filled(geometry, count)
    assert ring.oldest <= max(0, count - geometry.largest_window)
    refused = np.array([-1.0, -2.0, -3.0, np.nan])
    assert kernels.append(ring.header, ring.region, refused) == -1
    assert ring.read(ring.oldest, count).tolist() == list(range(ring.oldest, count))


def test_reading_what_no_ring_can_hold_is_a_bug_of_ours() -> None:
    ring = filled(Geometry(10, 2, 4), 20)
    for begin, end in ((0, ring.geometry.capacity + 1), (19, 18), (-1, 3)):
        with pytest.raises(AssertionError):
            ring.read(begin, end)


def test_a_view_outlives_close() -> None:
    ring = filled(Geometry(10, 2, 4), 5)
    view = ring.read(0, 5)
    ring.close()
    ring.close()
    assert view.tolist() == [0, 1, 2, 3, 4]
    assert ring.sequence == 0


def test_close_unmaps() -> None:
    ring = filled(Geometry(10, 2, 4), 5)
    ring.close()
    assert ring._map.closed


def test_no_memory_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    geometry = Geometry(10)
    with pytest.raises(InsufficientStorageError, match=f"{geometry.size_bytes} bytes: Cannot") as e:
        Ring(geometry)
    assert isinstance(e.value, FdsError)
    assert isinstance(e.value, OSError)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_ten_empty_symbols_of_the_largest_window_cost_next_to_nothing() -> None:
    """Ten of 840 MB each, empty and asked, then with a price each: under 50 MB together.

    Some pages, in fact; with huge pages for everything, some of those.
    """
    grown = measured("""
        rings = [RunningStats() for _ in range(10)]
        for ring in rings:
            ring.all_stats()
        print(resident_kib() - before)
        for ring in rings:
            ring.close()
        manager = SymbolManager()
        for number in range(10):
            manager.add_batch(f"S{number}", [1.0])
            manager.all_stats(f"S{number}")
        print(resident_kib() - before)
    """)
    assert max(grown) < 50 * 1000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_memory_comes_with_the_prices_and_goes_with_the_symbol() -> None:
    """5,000,000 prices: 8.5 bytes each at most, and none of them once the symbol is deleted."""
    full, empty, again = measured("""
        manager = SymbolManager()
        batch = np.arange(10_000.0)
        def fill():
            for _ in range(500):
                manager.add_batch("S", batch)
        fill()
        print(resident_kib() - before)
        manager.delete("S")
        print(resident_kib() - before)
        for _ in range(5):
            fill()
            manager.delete("S")
        print(resident_kib() - before)
    """)
    assert 40_000_000 <= full * 1024 <= 42_500_000 + 2**22
    assert empty < 1024
    assert again < 1024
