"""Verification of a whole ring finds what is wrong and only that.

No series raises a false alarm, also while others append. Every planted fault is named by level,
block and field.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import (
    DELETED,
    FIELDS,
    WORD_COUNT,
    WORD_FLOOR,
    Geometry,
)
from financial_data_service.engine.ring import Ring
from financial_data_service.engine.ring_view import RingView
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.errors import OverwrittenError, SymbolNotFoundError
from financial_data_service.verify.levels import verify_levels, work_of_levels
from financial_data_service.verify.windows import check_window, check_windows
from support import series
from support.oracle import Oracle
from support.rings import SMALL, filled, trades, verified
from support.series import Prices

# Nothing to print_error of


@pytest.mark.parametrize("geometry", [Geometry(64, 2, 8), Geometry(2000, 16), Geometry(2000)])
@pytest.mark.parametrize("name", series.ALL)
def test_every_series_is_sound(name: str, geometry: Geometry) -> None:
    assert verified(filled(geometry, series.make(name, 2 * geometry.capacity - 5))) == ([], [])


@pytest.mark.parametrize("fanout", [2, 8, 128, 1024])
@pytest.mark.parametrize("orders", range(0, 56, 5))
def test_sums_that_are_taken_for_exact_are(fanout: int, orders: int) -> None:
    """Prices of ever wider spans: on both sides of the bound to which sums are compared exactly."""
    prices = np.asarray(
        series.of_exponents(0, orders + 1, signed=True)(np.random.default_rng(orders), 5000)
    )
    assert verify_levels(RingView("A", filled(Geometry(4096, fanout, 500), prices))).wrong == []


@pytest.mark.parametrize("count", range(200))
def test_rings_of_every_fill(count: int) -> None:
    prices = np.linspace(1.0, 2.0, count)
    held = RingView("A", filled(SMALL, prices))
    report = verify_levels(held)
    assert report.wrong == []
    oldest = max(0, count - (SMALL.capacity - SMALL.batch_max))
    expected = sum(count // size - -(-oldest // size) for size in (4, 16, 64))
    assert report.blocks == expected
    assert [check.differing for check in check_windows(held)] == ([[]] if count else [])


def test_what_lies_below_the_floor_is_left_out() -> None:
    """Prices that were overwritten by some which a loss of power took back."""
    ring = filled(SMALL, np.linspace(1.0, 2.0, 100))
    ring.header[WORD_FLOOR] = 37
    ring.region[SMALL.offsets[0] + 36] = 1e6
    assert verified(ring) == ([], [])
    ring.region[SMALL.offsets[0] + 40] = 1e6
    assert [block.number for block in verified(ring)[0]] == [10]


@pytest.mark.parametrize("fanout", [2, 128])
def test_real_prices(fanout: int) -> None:
    prices = trades()
    assert len(prices) == 2001
    for largest_window in (100, 1000, 5000):
        ring = filled(Geometry(largest_window, fanout, 100), prices)
        assert verified(ring) == ([], [])
        exact = Oracle(prices)
        for check in check_windows(RingView("A", ring)):
            assert exact.check(check.recomputed, check.length).var_relative <= 1e-15


def test_progress_adds_up_to_what_was_announced() -> None:
    held = RingView("A", filled(Geometry(10_000, 16), np.linspace(1.0, 2.0, 25_000)))
    steps: list[int] = []
    verify_levels(held, steps.append)
    assert sum(steps) == work_of_levels(held)
    steps.clear()
    check_windows(held, advance=steps.append)
    assert sum(steps) == held.longest_window == 10_000


# What is wrong


def flip(ring: Ring, index: int, bit: int) -> None:
    """Flip one bit of a float64 of the region."""
    ring.region.view(np.uint64)[index] ^= np.uint64(1 << bit)


def summaries_of(geometry: Geometry) -> Iterator[tuple[int, int, int, int]]:
    """Every word of every level: level, block, field, index in the region."""
    for level in range(1, geometry.levels + 1):
        blocks = geometry.capacity >> (geometry.fanout_shift * level)
        for field in range(FIELDS):
            for block in range(blocks):
                yield level, block, field, geometry.offsets[level] + field * blocks + block


# Sign, exponent, and mantissa from its highest bit to the lowest that counts.
BITS = {0: (63, 62, 52, 51, 20, 0), 4: (63, 62, 52, 51, 20, 10)}


def test_every_flipped_bit_of_a_summary_is_found_and_named() -> None:
    prices = np.round(np.random.default_rng(5).normal(100, 3, SMALL.capacity), 2)
    prices[:8] = [1e6, -1e6, 3.0, 0.1, 0.2, 0.3, 0.4, 0.7]
    ring = filled(SMALL, prices)
    assert ring.geometry.levels == 3
    names = ("min", "max", "sum", "sum", "m2")
    found = 0
    for level, block, field, index in summaries_of(SMALL):
        size = SMALL.fanout**level
        begin, end = block * size, (block + 1) * size
        if begin < ring.oldest:
            continue
        for bit in BITS.get(field, BITS[0]):
            before = float(ring.region[index])
            flip(ring, index, bit)
            after = float(ring.region[index])
            (fault,) = verify_levels(RingView("A", ring)).wrong if after != before else [None]
            if fault is not None:
                found += 1
                assert fault[:5] == (level, block, begin, end, names[field])
                stored, expected = repr(after), repr(before)
                assert stored in fault.stored
                if field < 2:
                    assert (stored, expected) == (fault.stored, fault.expected)
                if level > 1 or begin // 16 * 16 >= ring.oldest:
                    assert fault.verdict == "the summary has changed, its prices have not"
            flip(ring, index, bit)
    assert found > 500
    assert verified(ring) == ([], [])


def test_every_flipped_bit_of_a_price_is_found_and_its_block_named() -> None:
    prices = np.round(np.random.default_rng(6).normal(100, 3, 107), 2)
    ring = filled(SMALL, prices)
    start = SMALL.offsets[0]
    for number in range(ring.oldest, 104):
        for bit in (63, 62, 52, 51, 20, 1, 0):
            flip(ring, start + number % SMALL.capacity, bit)
            (fault,) = verify_levels(RingView("A", ring)).wrong
            assert fault.level == 1
            assert fault.begin <= number < fault.end == fault.begin + 4
            has_level_above = number < 96
            assert fault.verdict == (
                "one of these prices has changed, for the level above does not fit either"
                if has_level_above
                else "the summary or one of these prices has changed"
            )
            flip(ring, start + number % SMALL.capacity, bit)
    # The newest three are in no block yet.
    flip(ring, start + 105 % SMALL.capacity, 40)
    assert verify_levels(RingView("A", ring)).wrong == []


def test_a_fault_is_a_sentence() -> None:
    ring = filled(SMALL, np.arange(1.0, 65.0))
    maxima = SMALL.offsets[1] + (SMALL.capacity >> 2)
    ring.region[maxima + 5] = 1000.0
    (fault,), _ = verified(ring)
    assert str(fault) == (
        "level 1, block 5 (prices 20 to 23): max is stored as 1000.0, its prices give 24.0: "
        "the summary has changed, its prices have not"
    )
    sums = SMALL.offsets[2] + 2 * (SMALL.capacity >> 4)
    ring.region[maxima + 5] = 24.0
    ring.region[sums] = 137.0
    (fault,), _ = verified(ring)
    assert "sum is stored as 137.0 + 0.0, its prices give 136.0 + 0.0" in str(fault)


@given(st.data())
def test_what_stands_in_a_summary_may_be_anything(data: st.DataObject) -> None:
    ring = filled(SMALL, np.linspace(1.0, 2.0, 64))
    level, block, field, index = data.draw(
        st.sampled_from(
            [each for each in summaries_of(SMALL) if (each[1] + 1) * 4 ** each[0] <= 64]
        )
    )
    before = float(ring.region[index])
    ring.region[index] = data.draw(st.floats(width=64))
    after = float(ring.region[index])
    wrong, _ = verified(ring)
    if after != after or abs(after - before) > 1e-14 * abs(before):
        assert [fault[:2] for fault in wrong] == [(level, block)]
    elif field != 4 and after != before:
        assert wrong
    elif after == before:
        assert not wrong


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf, 1e300, -1.1e150])
def test_what_is_no_price_is_found(damage: float) -> None:
    ring = filled(SMALL, np.linspace(1.0, 2.0, 64))
    ring.region[SMALL.offsets[0] + 60] = damage
    (fault,), (check,) = verified(ring)
    assert (fault.level, fault.number) == (1, 15)
    assert {"avg", "var"} <= set(check.differing)
    assert "var is served as" in str(check)


def test_a_block_that_is_overwritten_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prices change once the summaries have been read; the count says so."""
    ring = filled(SMALL, np.linspace(1.0, 2.0, 128))
    summaries = RingView.summaries

    def slow(held: RingView, level: int, first: int, end: int) -> Prices:
        stored = summaries(held, level, first, end)
        for _ in range(5):
            kernels.append(ring.header, ring.region, np.full(8, 7.0))
        return stored

    monkeypatch.setattr(RingView, "summaries", slow)
    assert verify_levels(RingView("A", ring)).wrong == []


def test_a_symbol_that_is_deleted_meanwhile() -> None:
    ring = filled(SMALL, np.linspace(1.0, 2.0, 100))
    held = RingView("A", ring)
    ring.header[WORD_COUNT] = DELETED
    for ask in (verify_levels, check_windows):
        with pytest.raises(SymbolNotFoundError, match=r"^Symbol A not found$"):
            ask(held)


def test_a_ring_that_is_closed_meanwhile() -> None:
    ring = filled(SMALL, np.linspace(1.0, 2.0, 100))
    held = RingView("A", ring)
    ring.close()
    assert verify_levels(held).wrong == []
    assert check_window(held, 10).served.sequence == 100
    with pytest.raises(SymbolNotFoundError):
        RingView("A", ring)


@pytest.mark.parametrize("largest_window", [64, 10_000])
def test_no_false_alarm_while_prices_come(largest_window: int) -> None:
    """A thread appends as fast as it can (kernels release the GIL) while another verifies."""
    stats = RunningStats(largest_window, fanout=4, batch_max=largest_window // 8)
    rng = np.random.default_rng(3)
    batches = [
        np.round(rng.normal(100, 3, largest_window // 8) * 10.0**exponent, 2)
        for exponent in range(5)
    ]
    stats.append(batches[0])
    held = RingView("A", stats.ring)
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            for batch in batches:
                stats.append_prices(batch)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        begin = stats.sequence
        compared = windows = 0
        while windows < 20 or compared < 100 or stats.sequence < begin + 20 * largest_window:
            report = verify_levels(held)
            assert report.wrong == []
            compared += report.blocks
            for length in (10, largest_window // 4):
                try:
                    check = check_window(held, length)
                except OverwrittenError:
                    continue
                assert check.differing == [], str(check)
                windows += 1
    finally:
        is_over.set()
        writer.join()


@pytest.mark.deep
def test_a_full_ring_of_the_largest_size() -> None:
    """10^8 prices and some more: sound, and one flipped bit of one price is found."""
    stats = RunningStats()
    rng = np.random.default_rng(8)
    for _ in range(11_000):
        stats.append(np.round(40_000 + np.cumsum(rng.integers(-50, 51, 10_000)) * 0.01, 2))
    assert verified(stats.ring) == ([], [])
    number = 98_765_432
    flip(stats.ring, stats.geometry.offsets[0] + number % stats.geometry.capacity, 3)
    (fault,), wrong = verified(stats.ring)
    assert fault.begin <= number < fault.end == fault.begin + 128
    assert wrong == [], "so small a change is within what windows promise"
    stats.close()
