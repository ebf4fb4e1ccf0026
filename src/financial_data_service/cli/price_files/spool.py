"""The prices of one symbol on their way from files to the service, in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from financial_data_service.cli.price_files.sources import large_temporary_file

__all__ = ["Spool"]

_PRICE_BYTES = 8
_BLOCK_PRICES = 1 << 18


class Spool:
    """Prices in a temporary file: 8 bytes each on disk, none in memory.

    Parameters
    ----------
    stack : ExitStack
        Closes the file, which removes it.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._file = large_temporary_file(stack)
        self._count = 0

    def __len__(self) -> int:
        """Return the number of prices."""
        return self._count

    def append(self, prices: npt.NDArray[np.float64]) -> None:
        """Add prices at the end."""
        self._file.write(np.ascontiguousarray(prices, np.float64).data)
        self._count += len(prices)

    def read(self, start: int, count: int) -> npt.NDArray[np.float64]:
        """Return ``count`` prices from ``start`` on, or those there are."""
        self._file.seek(start * _PRICE_BYTES)
        content = self._file.read(max(0, min(count, self._count - start)) * _PRICE_BYTES)
        return np.frombuffer(content, np.float64)

    def batches(self, start: int, size: int) -> Iterator[npt.NDArray[np.float64]]:
        """Yield all prices from ``start`` on, ``size`` at a time."""
        for block_start in range(start, self._count, max(size, _BLOCK_PRICES // size * size)):
            block = self.read(block_start, max(size, _BLOCK_PRICES // size * size))
            for offset in range(0, len(block), size):
                yield block[offset : offset + size]

    def reverse(self, start: int) -> None:
        """Turn the prices from ``start`` on round, in place: O(n) time, O(1) memory."""
        low, high = start, self._count
        while high - low > 1:
            count = min(_BLOCK_PRICES, (high - low + 1) // 2)
            first, last = self.read(low, count), self.read(high - count, count)
            self._write(low, last[::-1])
            self._write(high - count, first[::-1])
            low, high = low + count, high - count
        self._file.seek(self._count * _PRICE_BYTES)

    def _write(self, start: int, prices: npt.NDArray[Any]) -> None:
        self._file.seek(start * _PRICE_BYTES)
        self._file.write(np.ascontiguousarray(prices).data)
