"""Where the symbols of a manager live: in memory, or wherever a subclass keeps them.

Planning and limits of names are the manager's business; a store makes, finds and removes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.errors import SymbolLimitError

__all__ = ["MemoryStore", "SymbolChangedError", "SymbolStore"]


class SymbolChangedError(Exception):
    """Another process has created or deleted the symbol meanwhile: look again.

    It never reaches a user, and so is no :class:`~financial_data_service.errors.FdsError`.
    """


class SymbolStore(ABC):
    """Symbols by name, up to a number of them.

    Parameters
    ----------
    geometry : Geometry
        Sizes of every symbol.
    max_symbols : int
        Symbols kept at most.

    Attributes
    ----------
    refused : dict of str to str
        What is there and cannot be served, each with a sentence why.
    """

    def __init__(self, geometry: Geometry, max_symbols: int) -> None:
        self.geometry = geometry
        self.max_symbols = max_symbols
        self.refused: dict[str, str] = {}

    def open(self) -> None:  # noqa: B027 - memory is always ready
        """Make ready for use. Idempotent.

        Raises
        ------
        DataDirectoryError
            When the store cannot be used.
        """

    @abstractmethod
    def find(self, symbol: str) -> RunningStats | None:
        """Return a symbol that the caller does not know yet, or None when there is no such symbol.

        Raises
        ------
        SymbolFileError
            When it is there and cannot be used.
        """

    @abstractmethod
    def create(self, symbol: str, prices: npt.NDArray[np.float64]) -> RunningStats:
        """Return a new symbol that holds its first batch.

        Raises
        ------
        SymbolChangedError
            When there is such a symbol by now.
        SymbolLimitError
            When there are ``max_symbols`` already.
        InsufficientStorageError
            When there is no room.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all symbols that can be served, oldest first."""

    @abstractmethod
    def delete(self, symbol: str, running_stats: RunningStats) -> None:
        """Remove a symbol for good, and close it.

        Raises
        ------
        SymbolChangedError
            When another process has done so.
        """

    def tend(self) -> Iterable[RunningStats]:
        """Do what has to be done from time to time; called about once a second.

        Returns
        -------
        iterable of RunningStats
            Of symbols that went without having been deleted: whoever has them lets go of them.
        """
        return ()

    def close(self) -> None:  # noqa: B027 - a store may have nothing to let go of
        """Let go of everything. Idempotent; :meth:`open` makes it usable again."""


class MemoryStore(SymbolStore):
    """Symbols in the memory of this process, gone when it ends."""

    def __init__(self, geometry: Geometry, max_symbols: int) -> None:
        super().__init__(geometry, max_symbols)
        self._names: dict[str, None] = {}  # in order of creation

    def find(self, symbol: str) -> RunningStats | None:
        """Return None: whoever created a symbol knows it."""
        return None

    def create(self, symbol: str, prices: npt.NDArray[np.float64]) -> RunningStats:
        """Return a new symbol that holds its first batch; errors as of the base class."""
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
        """Forget a symbol and give its memory back."""
        del self._names[symbol]
        running_stats.close()

    def close(self) -> None:
        """Forget all symbols."""
        self._names.clear()
