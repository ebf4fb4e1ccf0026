"""RingView: reads prices and summaries of a symbol while another thread or process may append.

Readers take no lock. A price stays in its slot until newer prices come round to it. So a reader
reads first, and checks afterwards that the writer cannot have reached what was read. The writer may
be at work up to one batch beyond the count (:mod:`~financial_data_service.engine.layout`). This is
a seqlock whose sequence is the count. :meth:`RingView.read_newest` is the one place that reads
again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from financial_data_service.engine import kernels
from financial_data_service.engine.intrinsics import fence_acquire
from financial_data_service.engine.layout import FIELDS, WORD_COUNT, WORD_FLOOR, Geometry
from financial_data_service.engine.ring import Ring
from financial_data_service.errors import OverwrittenError, SymbolNotFoundError
from financial_data_service.windows import WindowStats

__all__ = ["TRIES", "RingView"]

Floats: TypeAlias = npt.NDArray[np.float64]

Result = TypeVar("Result")

TRIES = 5
"""Maximum number of attempts if newer prices overwrite those being read."""

compiled: Any = njit(cache=True, nogil=True)


@compiled
def count_after(header):  # type: ignore[no-untyped-def]
    """Return the count. An acquire fence ensures that it is read after all earlier reads."""
    fence_acquire()
    return header[WORD_COUNT]


class RingView:
    """A view on the prices and levels of a symbol, with or without a concurrent writer.

    It keeps the memory mapped even if the symbol is closed or deleted, so any thread may use it.

    Parameters
    ----------
    symbol : str
        Name of the symbol, for errors.
    ring : Ring
        The symbol's ring, in memory or over a file.

    Raises
    ------
    SymbolNotFoundError
        When the ring is closed.
    """

    def __init__(self, symbol: str, ring: Ring) -> None:
        self.symbol = symbol
        self.geometry: Geometry = ring.geometry
        self._header = ring.header
        self._region = ring.region
        if self._region.size == 0:  # It was closed just now.
            raise SymbolNotFoundError(symbol)

    @property
    def sequence(self) -> int:
        """Prices ever appended.

        Raises
        ------
        SymbolNotFoundError
            When the symbol was deleted.
        """
        sequence = int(count_after(self._header))
        if sequence < 0:
            raise SymbolNotFoundError(self.symbol)
        return sequence

    @property
    def oldest(self) -> int:
        """Number of the oldest price that is certainly intact.

        It was also intact during any earlier read.

        A batch beyond the count may be in progress.
        """
        geometry = self.geometry
        written = self.sequence + geometry.batch_max
        return max(int(self._header[WORD_FLOOR]), written - geometry.capacity)

    @property
    def longest_window(self) -> int:
        """Prices in the largest window."""
        return min(self.sequence, self.geometry.largest_window)

    def read_newest(self, read: Callable[[int], Result]) -> Result:
        """Return ``read(sequence)`` at the newest sequence.

        If newer prices overwrite the range during the read, it is read again at the new sequence.

        Parameters
        ----------
        read : callable
            Takes a sequence, and calls :meth:`check_not_overwritten` after reading.

        Raises
        ------
        OverwrittenError
            When newer prices overwrote the range in all ``TRIES`` attempts.
        SymbolNotFoundError
            When the symbol was deleted.
        """
        for _ in range(TRIES - 1):
            with suppress(OverwrittenError):
                return read(self.sequence)
        return read(self.sequence)

    def check_not_overwritten(self, begin: int) -> None:
        """Check that prices number ``begin`` and later were intact when they were read.

        Raises
        ------
        OverwrittenError
            When they may have been overwritten meanwhile.
        """
        oldest = self.oldest
        if begin < oldest:
            raise OverwrittenError(
                f"Prices {begin:,} to {oldest - 1:,} of symbol {self.symbol} were overwritten by "
                "newer ones before they were read"
            )

    def run(self, begin: int, end: int) -> Floats:
        """Return a view on prices number ``begin`` to ``end``, which must not wrap around. O(1)."""
        capacity = self.geometry.capacity
        slot = begin % capacity
        assert 0 <= end - begin <= capacity - slot
        start = self.geometry.offsets[0] + slot
        return self._region[start : start + end - begin]

    def summaries(self, level: int, first: int, end: int) -> Floats:
        """Return a copy of summaries ``first`` to ``end`` of a level, as float64[5, n]."""
        geometry = self.geometry
        blocks = geometry.capacity >> (geometry.fanout_shift * level)
        slot = first % blocks
        assert 0 <= end - first <= blocks - slot
        start = geometry.offsets[level] + slot
        fields = range(start, start + FIELDS * blocks, blocks)
        return np.stack([self._region[field : field + end - first] for field in fields])

    def window(self, length: int, as_of: int) -> WindowStats:
        """Return the statistics of a window that ends at sequence `as_of`, as the service does.

        Raises
        ------
        OverwrittenError
            When some of its prices were overwritten.
        """
        answer = WindowStats._make(
            (length, *kernels.window(self._header, self._region, length, as_of))
        )
        if answer.values < 0:
            self.check_not_overwritten(max(0, as_of - length))
        if answer.sequence < 0:
            raise SymbolNotFoundError(self.symbol)
        return answer
