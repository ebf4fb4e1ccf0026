"""FileStats: the rolling statistics of one symbol in a file that processes share."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from financial_data_service.engine import kernels
from financial_data_service.engine.running_stats import RunningStats, raise_invalid
from financial_data_service.engine.store import SymbolChangedError
from financial_data_service.errors import SymbolFileError
from financial_data_service.storage.durability import (
    BackgroundSync,
    Durability,
    commit,
    complete_record,
    revoke,
)
from financial_data_service.storage.symbol_file import SymbolFile

__all__ = ["FileStats"]


class FileStats(RunningStats):
    """Rolling statistics over a :class:`~financial_data_service.storage.symbol_file.SymbolFile`.

    Readers in any process take no lock. A batch is appended with the lock of the file held, which
    takes a microsecond.

    Parameters
    ----------
    file : SymbolFile
        Mapped for writing, in use by this boot.
    durability : "process" or "power"
        Whether a batch is acknowledged before or after it is on disk.

    Attributes
    ----------
    file : SymbolFile
        The file.
    sync : BackgroundSync or None
        Syncs the file in the background, if set.
    """

    def __init__(self, file: SymbolFile, durability: Durability) -> None:
        self._use(file)
        self.file = file
        self.sync: BackgroundSync | None = None
        self._is_power = durability == "power"
        self._block_shift = file.geometry.fanout_shift

    def append_prices(self, prices: npt.NDArray[np.float64]) -> int:
        """Append what :func:`~financial_data_service.prices.as_prices` returned.

        Raises
        ------
        InvalidBatchError
            When a value is not finite or too large.
        InsufficientStorageError
            When the disk is full.
        SymbolFileError
            When the disk fails.
        SymbolChangedError
            When another process has deleted the symbol.
        """
        file = self.file
        file.lock()
        try:
            sequence = file.sequence
            end = sequence + prices.size
            if sequence < 0:
                raise SymbolChangedError
            file.room.reserve(sequence, end)
            sequence = self._store(prices, end)
        except OSError as error:
            if error.errno is None:  # One of this package's errors, with a message of its own.
                raise
            raise SymbolFileError(
                str(file.path),
                f"the disk fails ({error.strerror}): nothing of the batch was stored",
            ) from error
        finally:
            file.unlock()
        if sequence < 0:
            raise_invalid(prices)
        return sequence

    def _store(self, prices: npt.NDArray[np.float64], end: int) -> int:
        file = self.file
        if self._is_power:
            complete_record(file)
            begin = end - prices.size
            file.write(begin, prices)
            # Validate while the disk writes. An invalid batch stays in the slots after the newest
            # price but is not published. This is the same state as after a kill before publishing.
            if kernels.find_invalid(prices) >= 0:
                return -1
            if begin >> self._block_shift != end >> self._block_shift:
                kernels.complete_blocks(file.header, file.region, 1, begin, end)
            commit(file, end)
            return end
        if end > file.append_limit:
            revoke(file)
        sequence = kernels.append(file.header, file.region, prices)
        return int(sequence)

    def writing(self) -> AbstractContextManager[object]:
        """Return a context in which no other process appends."""
        return self.file

    def close(self) -> None:
        """Close the file as soon as no other thread uses it. Idempotent."""
        if self.sync is not None:
            self.sync.wait()
        super().close()
