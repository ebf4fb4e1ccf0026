"""Storage for the symbols of a manager.

``MemoryStore`` keeps them in memory; other subclasses of ``SymbolStore`` keep them elsewhere.

A store creates, finds and removes symbols, and enforces their maximum number. The manager checks
names and batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.errors import SymbolLimitError

__all__ = ["MemoryStore", "SymbolChangedError", "SymbolStore"]


class SymbolChangedError(Exception):
    """Another process has created or deleted the symbol in the meantime.

    The caller must look it up again.

    It never reaches a user, so it is not a :class:`~financial_data_service.errors.FdsError`.
    """


class SymbolStore(ABC):
    """Symbols by name, up to a maximum number.

    Parameters
    ----------
    geometry : Geometry
        Sizes of the region of every symbol.
    max_symbols : int
        Maximum number of symbols.

    Attributes
    ----------
    refused : dict of str to str
        Files that cannot be served, each with the reason.
    """

    def __init__(self, geometry: Geometry, max_symbols: int) -> None:
        self.geometry = geometry
        self.max_symbols = max_symbols
        self.refused: dict[str, str] = {}

    def open(self) -> None:  # noqa: B027 - memory needs no preparation
        """Prepare the store for use. Idempotent.

        Raises
        ------
        DataDirectoryError
            When the store cannot be used.
        """

    @abstractmethod
    def find(self, symbol: str) -> RunningStats | None:
        """Return a symbol that the caller has not opened yet, or None if it does not exist.

        Raises
        ------
        SymbolFileError
            When it exists and cannot be used.
        """

    @abstractmethod
    def create(self, symbol: str, prices: npt.NDArray[np.float64]) -> RunningStats:
        """Return a new symbol that holds its first batch.

        Raises
        ------
        SymbolChangedError
            When another process has created the symbol in the meantime.
        SymbolLimitError
            When there are ``max_symbols`` already.
        InsufficientStorageError
            When there is not enough memory or disk space.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all symbols that can be served, oldest first."""

    @abstractmethod
    def delete(self, symbol: str, running_stats: RunningStats) -> None:
        """Remove a symbol permanently, and close it.

        Raises
        ------
        SymbolChangedError
            When another process has removed it.
        """

    def run_housekeeping(self) -> Iterable[RunningStats]:
        """Do regular work, such as syncing in the background. Called about once a second.

        Returns
        -------
        iterable of RunningStats
            Symbols whose file was removed or replaced without a delete. The caller closes them.
        """
        return ()

    def observe_syncs(self, observer: Callable[[int], object] | None) -> None:  # noqa: B027
        """Report how long each sync to disk takes, in nanoseconds; None ends that.

        A memory store has no syncs. The observer is called in the thread that waited for the sync.
        """

    def close(self) -> None:  # noqa: B027 - a store may hold nothing
        """Release everything. Idempotent; :meth:`open` makes the store usable again."""


class MemoryStore(SymbolStore):
    """Symbols in the memory of this process; they are lost when it ends."""

    def __init__(self, geometry: Geometry, max_symbols: int) -> None:
        super().__init__(geometry, max_symbols)
        self._names: dict[str, None] = {}  # in order of creation

    def find(self, symbol: str) -> RunningStats | None:
        """Always return None, because the manager already holds every symbol that it created."""
        return None

    def create(self, symbol: str, prices: npt.NDArray[np.float64]) -> RunningStats:
        """Return a new symbol that holds its first batch. Errors as in the base class."""
        if symbol in self._names:
            raise SymbolChangedError
        if len(self._names) >= self.max_symbols:
            raise SymbolLimitError(self.max_symbols)
        geometry = self.geometry
        running_stats = RunningStats(
            geometry.largest_window, fanout=geometry.fanout, batch_max=geometry.batch_max
        )
        running_stats.append_prices(prices)
        self._names[symbol] = None
        return running_stats

    def names(self) -> list[str]:
        """Return the names of all symbols, oldest first."""
        return list(self._names)

    def delete(self, symbol: str, running_stats: RunningStats) -> None:
        """Remove a symbol and release its memory."""
        if symbol not in self._names:
            raise SymbolChangedError
        del self._names[symbol]
        running_stats.close()

    def close(self) -> None:
        """Remove all symbols."""
        self._names.clear()
