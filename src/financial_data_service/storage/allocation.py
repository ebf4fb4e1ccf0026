"""Disk space for the prices of a file, allocated ahead of their use.

A store into a hole of a file on a full disk is a signal (SIGBUS), not an error. So the blocks are
allocated before prices are written to them.
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
"""An eighth of the prices there are is allocated ahead, within these bounds (in prices). That takes
some 80 µs on ext4 each time, and a millisecond for at most 4 MiB on a file system in memory."""

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
            Number of prices that there is to be space for.

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
        # Once around the ring all slots are in use, unless the file is a copy with holes where
        # zeros were. Asking for that takes a second on some file systems. The block count may
        # include blocks of the file system, so it says nothing about slots that were never used.
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
