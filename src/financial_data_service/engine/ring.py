"""The memory of one symbol: a mapped region with a header, a ring of prices and room for levels.

:mod:`~financial_data_service.engine.layout` describes the bytes. This module maps the memory,
writes the header and reads prices. The kernels read and write the levels.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.layout import HEADER_WORDS, WORD_COUNT, WORD_FLOOR, Geometry
from financial_data_service.errors import InsufficientStorageError

__all__ = ["Ring"]

# Untouched pages of a region take no memory, so the kernel need not reserve any for them.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if hasattr(mmap, "MAP_ANONYMOUS") else 0)


class Ring:
    """One symbol's region of memory. It is released on close or at the end of the process.

    Only one writer at a time is allowed. A new ring uses one or two pages of memory, whatever its
    size. Further pages are allocated when prices are written to them.

    Parameters
    ----------
    geometry : Geometry
        Sizes of the region.
    mapping : mmap.mmap, optional
        A region with a header, such as a mapped file. Anonymous memory if not given.

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
        # A memory view reads one word three times as fast as an array.
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

        A refused batch may have overwritten slots before it was refused. So the ``batch_max`` slots
        after the newest price are treated as overwritten. Prices below the floor are treated in the
        same way: newer prices, lost in a power failure, may have overwritten them.
        """
        floor = int(self.header[WORD_FLOOR])
        return max(floor, self.sequence - (self.geometry.capacity - self.geometry.batch_max))

    def read(self, begin: int, end: int) -> npt.NDArray[np.float64]:
        """Return prices number ``begin`` to ``end``, oldest first.

        The result is a view of the ring, O(1). If the prices wrap around the end of the ring, it is
        a copy, O(n).

        Parameters
        ----------
        begin, end : int
            ``oldest <= begin <= end <= sequence``. If another process may append, the caller checks
            after reading that this still holds.
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
        """Release the memory as soon as no array refers to it. Idempotent."""
        self._count = memoryview(b"\0" * 8).cast("q")
        self.region = np.empty(0)
        # Kernels do not check bounds. A header of zeros prevents a late reader from accessing
        # unmapped memory.
        self.header = np.zeros(HEADER_WORDS, dtype=np.int64)
        try:
            self._map.close()
        except BufferError:
            # A view still refers to the mapping. The mapping is released together with the view.
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
