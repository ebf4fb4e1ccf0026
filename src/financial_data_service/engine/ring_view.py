"""What of a symbol can be read while others append to it, and whether it still is what was read.

Readers take no lock. A price stays where it is until newer ones come round to its slot, so whoever
has read prices asks afterwards whether the writer can have reached them by then: not beyond one
batch after the count (:mod:`~financial_data_service.engine.layout`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from financial_data_service.engine import kernels
from financial_data_service.engine.intrinsics import fence_acquire
from financial_data_service.engine.layout import FIELDS, WORD_COUNT, WORD_FLOOR, Geometry
from financial_data_service.engine.ring import Ring
from financial_data_service.errors import OverwrittenError, SymbolNotFoundError
from financial_data_service.windows import WindowStats

__all__ = ["Held"]

Floats: TypeAlias = npt.NDArray[np.float64]

compiled: Any = njit(cache=True, nogil=True)


@compiled
def count_after(header):  # type: ignore[no-untyped-def]
    """Return the count as it is after all that has been read so far."""
    fence_acquire()
    return header[WORD_COUNT]


class Held:
    """The prices and levels of a symbol as they can be read now, with or without a writer about.

    Keeps the memory of a symbol that is closed or deleted meanwhile; so it may be used in another
    thread than the symbol's.

    Parameters
    ----------
    symbol : str
        Its name, for errors.
    ring : Ring
        In memory or over a file.
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
        """Number of the oldest price that is there; whatever has been read up to now was there.

        One batch beyond the count may be being written.
        """
        geometry = self.geometry
        written = self.sequence + geometry.batch_max
        return max(int(self._header[WORD_FLOOR]), written - geometry.capacity)

    @property
    def longest_window(self) -> int:
        """Prices in the largest window."""
        return min(self.sequence, self.geometry.largest_window)

    def must_hold(self, begin: int) -> None:
        """Check that prices number ``begin`` and later are still what was read.

        Raises
        ------
        OverwrittenError
            When they are not.
        """
        oldest = self.oldest
        if begin < oldest:
            raise OverwrittenError(
                f"Prices {begin:,} to {oldest - 1:,} of symbol {self.symbol} were overwritten by "
                "newer ones before they were read"
            )

    def run(self, begin: int, end: int) -> Floats:
        """Return prices number ``begin`` to ``end``, which must not go round the ring's end."""
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
        """Return the statistics of a window as the service answers them.

        Raises
        ------
        OverwrittenError
            When some of its prices are no longer there.
        """
        answer = WindowStats._make(
            (length, *kernels.window(self._header, self._region, length, as_of))
        )
        if answer.values < 0:
            self.must_hold(max(0, as_of - length))
        if answer.sequence < 0:
            raise SymbolNotFoundError(self.symbol)
        return answer
