"""The memory of one symbol: a mapped region with a header, a ring of prices and room for levels.

The bytes are laid out as :mod:`~financial_data_service.engine.layout` says. This module gets the
memory, writes the header, and reads prices back; what stands in the levels is no business of it.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.layout import HEADER_WORDS, WORD_COUNT, WORD_FLOOR, Geometry
from financial_data_service.errors import InsufficientStorageError

__all__ = ["Ring"]

# Untouched pages of a region cost nothing, so the kernel need not set memory aside for them.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if hasattr(mmap, "MAP_ANONYMOUS") else 0)


class Ring:
    """One symbol's region of memory, gone when it is closed or the process ends.

    One writer at a time. A fresh ring costs a page or two, whatever its size; pages come into
    being as prices reach them.

    Parameters
    ----------
    geometry : Geometry
        Sizes of the region.
    mapping : mmap.mmap, optional
        A region that has its header already, such as that of a file. Anonymous memory if not
        given.

    Attributes
    ----------
    header : int64[512]
        The region's header; ``header[WORD_COUNT]`` is the number of prices ever appended.
    region : float64[size_bytes / 8]
        The whole region.

    Raises
    ------
    InsufficientStorageError
        When the system has no address space for the region.
    """

    def __init__(self, geometry: Geometry, mapping: mmap.mmap | None = None) -> None:
        self.geometry = geometry
        self._prices_start = geometry.offsets[0]
        self._map = _anonymous_map(geometry.size_bytes) if mapping is None else mapping
        self.region: npt.NDArray[np.float64] = np.frombuffer(self._map, dtype="<f8")
        self.header: npt.NDArray[np.int64] = self.region[:HEADER_WORDS].view("<i8")
        # A memory view reads one word three times as fast as an array does.
        self._count = self.header.data[WORD_COUNT : WORD_COUNT + 1]
        if mapping is None:
            words = geometry.header_words()
            self.header[: len(words)] = words

    @property
    def sequence(self) -> int:
        """Number of prices ever appended; -1 once the symbol was deleted."""
        return self._count[0]

    @property
    def oldest(self) -> int:
        """Sequence number of the oldest price that is still in the ring.

        A batch that is refused half-way has overwritten slots all the same: so the slots that the
        next batch would take, ``batch_max`` of them, do not count as held. Nor do prices below the
        floor: those that prices which a loss of power took back had overwritten.
        """
        floor = int(self.header[WORD_FLOOR])
        return max(floor, self.sequence - (self.geometry.capacity - self.geometry.batch_max))

    def read(self, begin: int, end: int) -> npt.NDArray[np.float64]:
        """Return prices number ``begin`` to ``end``, oldest first.

        A view on the ring where they do not wrap around its end, a copy where they do. O(1) and
        O(n) respectively.

        Parameters
        ----------
        begin, end : int
            ``oldest <= begin <= end <= sequence``; whether that still holds once they are read is
            the caller's to check, where another process appends.
        """
        assert 0 <= begin <= end <= begin + self.geometry.capacity
        capacity = self.geometry.capacity
        prices = self.region[self._prices_start : self._prices_start + capacity]
        first = begin % capacity
        length = end - begin
        if first + length <= capacity:
            return prices[first : first + length]
        return np.concatenate((prices[first:], prices[: first + length - capacity]))

    def close(self) -> None:
        """Give the memory back once no array refers to it any more. Idempotent."""
        self._count = memoryview(b"\0" * 8).cast("q")
        self.region = np.empty(0)
        # Kernels do not check bounds: a header of no prices keeps a late reader off lost memory.
        self.header = np.zeros(HEADER_WORDS, dtype=np.int64)
        try:
            self._map.close()
        except BufferError:
            # Somebody still holds a view: the mapping lives until that view is gone.
            return


def _anonymous_map(size_bytes: int) -> mmap.mmap:
    try:
        return mmap.mmap(
            -1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        )
    except OSError as error:
        raise InsufficientStorageError(
            f"No memory for a symbol of {size_bytes} bytes: {error.strerror}"
        ) from error
