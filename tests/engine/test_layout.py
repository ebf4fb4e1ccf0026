"""The layout of a region: its invariants for any geometry, and its bytes for one."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.engine import layout
from financial_data_service.engine.layout import FIELDS, LEVELS_MAX, PAGE_BYTES, Geometry
from financial_data_service.engine.ring import Ring

geometries = st.builds(
    Geometry,
    st.one_of(st.integers(10, 10**8), st.integers(10, 300)),
    st.integers(1, 10).map(lambda shift: 2**shift),
    st.one_of(st.integers(1, 10**6), st.integers(1, 300)),
)


@given(geometries)
def test_capacity_is_window_and_batch_in_whole_top_blocks(geometry: Geometry) -> None:
    top = geometry.fanout**geometry.levels
    needed = max(geometry.largest_window, geometry.batch_max) + geometry.batch_max
    assert geometry.capacity % top == 0
    assert needed <= geometry.capacity < needed + top


@given(geometries)
def test_levels_are_all_whose_blocks_fit_the_largest_window(geometry: Geometry) -> None:
    assert geometry.fanout**geometry.levels <= geometry.largest_window
    assert geometry.fanout ** (geometry.levels + 1) > geometry.largest_window
    assert geometry.levels <= LEVELS_MAX
    assert 2**geometry.fanout_shift == geometry.fanout


@given(geometries)
def test_parts_lie_on_pages_one_after_the_other(geometry: Geometry) -> None:
    sizes = [geometry.fanout**level for level in range(1, geometry.levels + 1)]
    levels = [8 * FIELDS * (geometry.capacity // size) for size in sizes]
    lengths = [layout.HEADER_BYTES, 8 * geometry.capacity, *levels]
    starts = [0, *(8 * offset for offset in geometry.offsets)]
    assert len(starts) == len(lengths) + 1
    for (begin, end), length in zip(itertools.pairwise(starts), lengths, strict=True):
        assert begin % PAGE_BYTES == 0
        assert begin + length <= end < begin + length + PAGE_BYTES
    assert starts[-1] == geometry.size_bytes


@given(geometries)
def test_header_words_fit_before_the_count(geometry: Geometry) -> None:
    words = geometry.header_words()
    assert len(words) == layout.WORD_OFFSETS + geometry.levels + 1 <= layout.WORD_COUNT
    assert all(-(2**63) <= word < 2**63 for word in words)


def test_the_default_sizes_take_8_5_bytes_a_price_at_most() -> None:
    geometry = Geometry(10**8)
    assert (geometry.fanout, geometry.levels, geometry.batch_max) == (128, 3, 10_000)
    assert geometry.size_bytes / 10**8 <= 8.5


def test_golden_header() -> None:
    """Whoever changes a byte of it changes the version."""
    header = bytes(Ring(Geometry(10, 2, 4)).header)
    golden = b"fds ring" + struct.pack(
        "<11q",
        1,  # version
        (512 + 4 * 512) * 8,  # size in bytes: header, prices and three levels of a page each
        10,  # largest window
        4,  # batch_max
        16,  # capacity: 14 in whole blocks of 8
        1,  # log2 of the fanout
        3,  # levels
        512,  # prices
        1024,  # level 1
        1536,  # level 2
        2048,  # level 3
    )
    assert header[: len(golden)] == golden
    assert header[len(golden) :] == bytes(4096 - len(golden))


def test_golden_count() -> None:
    """The count is word 64: at byte 512, alone on its cache line."""
    ring = Ring(Geometry(10, 2, 4))
    ring.header[layout.WORD_COUNT] = 0x0102030405060708
    assert bytes(ring.header)[512:520] == bytes(range(8, 0, -1))
    assert not any(bytes(ring.header)[520:576])


def test_golden_constants() -> None:
    assert (layout.VERSION, layout.WORD_COUNT, layout.FIELDS) == (1, 64, 5)
    assert struct.pack("<q", layout.MAGIC) == b"fds ring"
    assert (layout.PAGE_BYTES, layout.HEADER_BYTES) == (4096, 4096)
    assert layout.LARGEST_WINDOW_MAX == 10**8


@pytest.mark.parametrize("largest", [-1, 0, 9, 10**8 + 1, 2**63])
def test_largest_windows_out_of_range_are_refused(largest: int) -> None:
    with pytest.raises(ValueError, match=f"^Expected largest_window between .* got {largest}$"):
        Geometry(largest)


@pytest.mark.parametrize("fanout", [-2, -1, 0, 1, 3, 127, 129, 2048, 2**20])
def test_fanouts_out_of_range_are_refused(fanout: int) -> None:
    with pytest.raises(ValueError, match=f"^Expected fanout a power of two.* got {fanout}$"):
        Geometry(10, fanout)


@pytest.mark.parametrize("batch_max", [0, -1])
def test_batches_of_no_prices_are_refused(batch_max: int) -> None:
    with pytest.raises(ValueError, match=f"^Expected batch_max of at least 1, got {batch_max}$"):
        Geometry(10, 2, batch_max)


@pytest.mark.parametrize("largest", [10, 100, 10**8])
def test_the_edges_of_every_range_are_accepted(largest: int) -> None:
    for fanout, batch_max in itertools.product((2, 1024), (1, 10_000)):
        assert np.isfinite(Geometry(largest, fanout, batch_max).size_bytes)
