"""Allocation of disk space before prices are written.

On a full disk, a write through the mapping into a hole of the file raises the signal SIGBUS. It
does not return an error. So the blocks are allocated before prices are written to them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from financial_data_service.engine.layout import FIELDS, Geometry
from financial_data_service.errors import InsufficientStorageError
from financial_data_service.storage import disk

__all__ = ["GROWTH_MAX", "GROWTH_MIN", "Allocation", "byte_ranges", "no_room"]

GROWTH_MIN = 1 << 16
GROWTH_MAX = 1 << 19
"""An eighth of the prices there are is allocated ahead, within these bounds (in prices).

Each allocation takes about 80 µs on ext4. On an in-memory file system it takes at most a
millisecond, for at most 4 MiB.
"""

_ALL = 1 << 62  # more prices than there will ever be


class Allocation:
    """The part of a file for which there is disk space.

    Parameters
    ----------
    descriptor : int
        Of the file.
    geometry : Geometry
        Sizes of the file.
    symbol : str
        For errors.
    directory : Path
        For errors: where the file is.
    """

    def __init__(self, descriptor: int, geometry: Geometry, symbol: str, directory: Path) -> None:
        self._descriptor = descriptor
        self._geometry = geometry
        self._symbol = symbol
        self._directory = directory
        self._end = 0  # Up to this number of prices there certainly is space.

    def reserve(self, sequence: int, end: int) -> None:
        """Make sure that there is space for the prices up to number `end`.

        Parameters
        ----------
        sequence : int
            Number of prices in the file.
        end : int
            Number of prices for which space is needed.

        Raises
        ------
        InsufficientStorageError
            When there is none. The file stays as it is.
        """
        if end <= self._end:
            return
        begin = max(self._end, sequence)
        ahead = max(GROWTH_MIN, min(GROWTH_MAX, begin // 8))
        try:
            try:
                self._allocate(begin, end + ahead)
            except InsufficientStorageError:
                self._allocate(begin, end)  # The last of the space is used too.
        except InsufficientStorageError as error:
            raise no_room(self._symbol, self._directory, error) from error

    def _allocate(self, begin: int, end: int) -> None:
        """Allocate the slots of prices number ``begin`` to ``end``, and of blocks above them."""
        capacity = self._geometry.capacity
        if begin < capacity:
            for first, last in byte_ranges(self._geometry, begin, min(end, capacity)):
                disk.allocate(self._descriptor, first, last)
        if end < capacity:
            self._end = end
            return
        # After the ring has wrapped around, all slots have space, unless the file is a copy with
        # holes in place of zeros. The check avoids an allocation of the whole file, which takes a
        # second on some file systems. Before the wrap-around the check would not work, because
        # st_blocks may include the file system's own blocks.
        if os.fstat(self._descriptor).st_blocks * 512 < self._geometry.size_bytes:
            disk.allocate(self._descriptor, 0, self._geometry.size_bytes)
        self._end = _ALL


def byte_ranges(geometry: Geometry, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the byte ranges of the slots of prices ``begin`` to ``end`` and of their blocks."""
    prices, *levels = geometry.offsets[:-1]
    yield (prices + begin) * 8, (prices + end) * 8
    for level, start in enumerate(levels, 1):
        shift = geometry.fanout_shift * level
        blocks = geometry.capacity >> shift
        for field in range(FIELDS):
            first = start + field * blocks
            yield (first + (begin >> shift)) * 8, (first + -(-end >> shift)) * 8


def no_room(symbol: str, directory: Path, error: OSError) -> InsufficientStorageError:
    """Return the error for a batch on a full disk."""
    return InsufficientStorageError(
        f"No room in {directory} for more prices of symbol {symbol} ({error.strerror}): nothing "
        "of the batch was stored, what is stored can be read, and batches are taken again once "
        "there is room"
    )
