"""What no implementation in this language can beat: the copy, the empty call, the cache lines.

The copy is NumPy's slice assignment (a ``memcpy``) into an identical ring. A query's floor is the
call of a compiled kernel that does nothing with the same arguments, and of one that reads each
cache line that the query has to read and does nothing with it.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from financial_data_service import RunningStats, WindowStats
from financial_data_service.engine.layout import FIELDS, WORD_COUNT, Geometry
from financial_data_service.engine.ring import Ring

__all__ = ["CopyRing", "empty_query", "items_read", "read_lines"]

compiled: Any = njit(cache=True, nogil=True)

_LINE = 8  # float64s to a cache line of 64 bytes


class CopyRing:
    """A ring of the same geometry into which batches are copied, and nothing else.

    Parameters
    ----------
    geometry : Geometry
        Sizes of the ring.
    mapping : mmap.mmap, optional
        Where it lies, such as a mapped file; memory of its own if not given.
    """

    def __init__(self, geometry: Geometry, mapping: mmap.mmap | None = None) -> None:
        self.capacity = geometry.capacity
        start = geometry.offsets[0]
        # The engine's own mapping: another kind of memory would have page faults of another price.
        self._prices = Ring(geometry, mapping).region[start : start + self.capacity]
        self.sequence = 0

    def append(self, values: npt.NDArray[np.float64] | list[float]) -> None:
        """Copy a batch to the newest end."""
        slot = self.sequence % self.capacity
        end = slot + len(values)
        if end <= self.capacity:
            self._prices[slot:end] = values
        else:
            before_wrap = self.capacity - slot
            self._prices[slot:] = values[:before_wrap]
            self._prices[: end - self.capacity] = values[before_wrap:]
        self.sequence += len(values)

    def tail(self, length: int) -> npt.NDArray[np.float64]:
        """Return the last prices as one array; a copy where they wrap around the ring's end."""
        end = self.sequence % self.capacity
        if length <= end:
            return self._prices[end - length : end]
        return np.concatenate((self._prices[end - length :], self._prices[:end]))

    def assert_same(self, stats: RunningStats) -> None:
        """Check that a RunningStats holds the very same prices.

        Raises
        ------
        AssertionError
            When it does not.
        """
        begin, end = max(0, self.sequence - stats.largest_window), self.sequence
        assert stats.sequence == end
        for first in range(begin, end, 1 << 20):
            prices = stats.prices(first, min(end, first + (1 << 20)))
            slots = np.arange(first, first + len(prices)) % self.capacity
            assert np.array_equal(prices, self._prices[slots])


@compiled
def _empty(header, region, length):  # type: ignore[no-untyped-def]
    return 0.0, 0.0, 0.0, 0.0, 0.0, length, header[WORD_COUNT]


@compiled
def _read(region, starts, lengths):  # type: ignore[no-untyped-def]
    total = 0.0
    for run in range(len(starts)):
        for index in range(starts[run], starts[run] + lengths[run], _LINE):
            total += region[index]
    return total


def empty_query(stats: RunningStats, length: int) -> Callable[[], WindowStats]:
    """Return a call of a kernel that does nothing, dressed as a query."""
    # The benchmark looks inside: a floor needs the very arguments that the engine passes.
    header, region = stats._ring.header, stats._ring.region
    return lambda: WindowStats._make((length, *_empty(header, region, length)))


def read_lines(stats: RunningStats, length: int) -> Callable[[], float]:
    """Return a call that reads the cache lines which the query of a window has to read."""
    region, geometry = stats._ring.region, stats._ring.geometry
    runs: list[tuple[int, int]] = []
    for level, slot, run_length in _runs(geometry, stats.sequence, length):
        stride = geometry.capacity >> (geometry.fanout_shift * level)
        start = geometry.offsets[level] + slot
        runs += [(start + f * stride, run_length) for f in range(FIELDS if level else 1)]
    starts, lengths = np.array(runs, dtype=np.int64).T.copy()
    return lambda: float(_read(region, starts, lengths))


def items_read(stats: RunningStats, length: int) -> int:
    """Return how many prices and block summaries the query of a window reads."""
    return sum(run[2] for run in _runs(stats._ring.geometry, stats.sequence, length))


def _runs(geometry: Geometry, sequence: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Yield ``(level, slot, length)`` of what a query reads; the plan of ``kernels.window``."""
    shift = geometry.fanout_shift
    end = sequence
    begin = end - min(length, sequence)
    level = 0
    while level < geometry.levels and end - begin >= 2 << shift:
        first_whole, end_whole = -(-begin >> shift), end >> shift
        yield from _wrapped(geometry, level, begin, first_whole << shift)
        yield from _wrapped(geometry, level, end_whole << shift, end)
        begin, end = first_whole, end_whole
        level += 1
    yield from _wrapped(geometry, level, begin, end)


def _wrapped(
    geometry: Geometry, level: int, begin: int, end: int
) -> Iterator[tuple[int, int, int]]:
    if begin < end:
        blocks = geometry.capacity >> (geometry.fanout_shift * level)
        slot = begin % blocks
        before_wrap = min(end - begin, blocks - slot)
        yield level, slot, before_wrap
        if before_wrap < end - begin:
            yield level, 0, end - begin - before_wrap
