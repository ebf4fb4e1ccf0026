"""SymbolManager: the symbols of a service, each with its rolling statistics.

Invariant: A symbol is created together with its first stored batch. A refused batch does not create
a symbol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import DEFAULT_FANOUT, LARGEST_WINDOW_MAX, Geometry
from financial_data_service.engine.running_stats import RunningStats, raise_invalid
from financial_data_service.engine.store import MemoryStore, SymbolChangedError, SymbolStore
from financial_data_service.errors import SequenceConflictError, SymbolNotFoundError
from financial_data_service.prices import as_prices
from financial_data_service.symbols import check_symbol
from financial_data_service.windows import WindowStats, check_exponent, k_max_of

__all__ = ["BatchReceipt", "SymbolManager"]


class BatchReceipt(NamedTuple):
    """The result of adding a batch.

    Attributes
    ----------
    symbol : str
        The symbol that the batch belongs to.
    added : int
        Number of prices added; 0 if all were stored already.
    sequence : int
        Number of prices ever appended to the symbol, these included.
    """

    symbol: str
    added: int
    sequence: int


class SymbolManager:
    """Rolling statistics by symbol, up to a maximum number of symbols. One thread at a time.

    Parameters
    ----------
    max_symbols : int
        Maximum number of symbols.
    largest_window, batch_max, fanout : int
        As for :class:`~financial_data_service.engine.running_stats.RunningStats`.
    store : SymbolStore, optional
        The storage for the symbols. It has its own sizes and limit, and then the other parameters
        are ignored. By default symbols are kept in memory.

    Attributes
    ----------
    listener : callable, optional
        Called with the symbol and its new sequence after each append by this process. It must be
        quick and must not raise.

    Examples
    --------
    >>> manager = SymbolManager()
    >>> manager.add_batch("AAPL", [189.5, 189.7])
    BatchReceipt(symbol='AAPL', added=2, sequence=2)
    >>> manager.stats("AAPL", 1).max
    189.7
    """

    def __init__(
        self,
        max_symbols: int = 10,
        largest_window: int = LARGEST_WINDOW_MAX,
        batch_max: int = 10_000,
        fanout: int = DEFAULT_FANOUT,
        store: SymbolStore | None = None,
    ) -> None:
        if store is None:
            store = MemoryStore(Geometry(largest_window, fanout, batch_max), max_symbols)
        self._store = store
        self.max_symbols = store.max_symbols
        self.largest_window = store.geometry.largest_window
        self.batch_max = store.geometry.batch_max
        self.listener: Callable[[str, int], None] | None = None
        # The symbols that this process has opened. Another process may have created or deleted some
        # since.
        self._symbols: dict[str, RunningStats] = {}

    def open(self) -> None:
        """Prepare the store. Idempotent; not needed for symbols in memory.

        Raises
        ------
        DataDirectoryError
            When the store cannot be used.
        """
        self._store.open()

    @property
    def refused(self) -> dict[str, str]:
        """Files that cannot be served, each with the reason."""
        return self._store.refused

    def observe_syncs(self, observer: Callable[[int], object] | None) -> None:
        """Report how long each sync to disk takes, in nanoseconds; None ends that."""
        self._store.observe_syncs(observer)

    def run_housekeeping(self) -> None:
        """Close symbols that were deleted or whose file has disappeared.

        Called about once a second.
        """
        for symbol in [name for name, stats in self._symbols.items() if stats.sequence < 0]:
            self._drop(symbol)
        gone = list(self._store.run_housekeeping())
        for symbol in [name for name, stats in self._symbols.items() if stats in gone]:
            self._drop(symbol)

    def add_batch(
        self, symbol: str, values: npt.ArrayLike, from_sequence: int | None = None
    ) -> BatchReceipt:
        """Append a batch of prices to a symbol. The first batch creates the symbol. O(n).

        The batch is stored as a whole or not at all.

        Parameters
        ----------
        symbol : str
            1 to 128 characters.
        values : float64[n] or sequence of float or int
            1 to ``batch_max`` prices, oldest first.
        from_sequence : int, optional
            Number of prices appended to the symbol before this batch. It makes a retry safe:
            prices that are stored already are compared bit by bit, and only the rest is added.

        Raises
        ------
        InvalidSymbolError, InvalidBatchError
            When an argument is invalid.
        SymbolLimitError
            When the symbol is new and there are ``max_symbols`` already.
        InsufficientStorageError
            When the system has no memory for a new symbol.
        SequenceConflictError
            When the batch differs from what is stored, would leave a gap, or reaches back to
            prices that are no longer held.
        """
        return self.add_prices(symbol, as_prices(values, self.batch_max), from_sequence)

    def add_prices(
        self, symbol: str, prices: npt.NDArray[np.float64], from_sequence: int | None = None
    ) -> BatchReceipt:
        """Append an array that :func:`~financial_data_service.prices.as_prices` returned.

        Parameters and errors as for :meth:`add_batch`.
        """
        while True:
            try:
                receipt = self._add(symbol, prices, from_sequence)
            except SymbolChangedError:
                continue
            if self.listener is not None and receipt.added:
                self.listener(symbol, receipt.sequence)
            return receipt

    def _add(
        self, symbol: str, prices: npt.NDArray[np.float64], from_sequence: int | None
    ) -> BatchReceipt:
        running_stats = self.get(symbol)
        if running_stats is None:
            return self._create(symbol, prices, from_sequence)
        if from_sequence is None:
            return BatchReceipt(symbol, prices.size, running_stats.append_prices(prices))
        return _add_missing(symbol, running_stats, prices, from_sequence)

    def stats(self, symbol: str, k: int) -> WindowStats:
        """Return the statistics of a symbol's last ``10**k`` prices. O(1).

        Raises
        ------
        SymbolNotFoundError
            When there is no such symbol.
        WindowSizeError
            When there is no such window.
        """
        return _still_there(symbol, self[symbol].stats(k))

    def window(self, symbol: str, last: int) -> WindowStats:
        """Return the statistics of a symbol's `last` prices. Errors as for :meth:`stats`."""
        return _still_there(symbol, self[symbol].window(last))

    def all_stats(self, symbol: str) -> list[WindowStats]:
        """Return the statistics of every window of a symbol. Errors as for :meth:`stats`."""
        answers = self[symbol].all_stats()
        _still_there(symbol, answers[0])
        return answers

    @property
    def k_max(self) -> int:
        """Largest k of the windows ``10**k``."""
        return k_max_of(self.largest_window)

    def check_exponent(self, k: int) -> None:
        """Check that there is a window of ``10**k`` prices.

        Raises
        ------
        WindowSizeError
            When there is none.
        """
        check_exponent(k, self.largest_window)

    def symbols(self) -> list[str]:
        """Return the names of all symbols, oldest first."""
        return self._store.names()

    def delete(self, symbol: str) -> None:
        """Delete a symbol and its prices permanently, and release their memory and disk space.

        Raises
        ------
        SymbolNotFoundError
            When there is no such symbol.
        """
        running_stats = self[symbol]
        try:
            self._store.delete(symbol, running_stats)
        except SymbolChangedError:
            self._drop(symbol)
            raise SymbolNotFoundError(symbol) from None
        except BaseException:
            if running_stats.sequence < 0:  # It was deleted, although a later step failed.
                self._drop(symbol)
            raise
        self._drop(symbol)

    def close(self) -> None:
        """Close all symbols and the store. Idempotent."""
        for running_stats in self._symbols.values():
            running_stats.close()
        self._symbols.clear()
        self._store.close()

    def get(self, symbol: str) -> RunningStats | None:
        """Return the statistics of a symbol, or None if it does not exist.

        Raises
        ------
        SymbolFileError
            When it exists and cannot be used.
        """
        running_stats = self._symbols.get(symbol)
        if running_stats is None or running_stats.sequence < 0:
            return self._find(symbol)
        return running_stats

    def __getitem__(self, symbol: str) -> RunningStats:
        running_stats = self.get(symbol)
        if running_stats is None:
            raise SymbolNotFoundError(symbol)
        return running_stats

    def __contains__(self, symbol: str) -> bool:
        return self.get(symbol) is not None

    def __len__(self) -> int:
        return len(self.symbols())

    def _find(self, symbol: str) -> RunningStats | None:
        """Look for a symbol that another process may have created."""
        self._drop(symbol)
        running_stats = self._store.find(symbol)
        if running_stats is not None:
            self._symbols[symbol] = running_stats
        return running_stats

    def _drop(self, symbol: str) -> None:
        running_stats = self._symbols.pop(symbol, None)
        if running_stats is not None:
            running_stats.close()

    def _create(
        self, symbol: str, prices: npt.NDArray[np.float64], from_sequence: int | None
    ) -> BatchReceipt:
        check_symbol(symbol)
        if kernels.find_invalid(prices) >= 0:
            raise_invalid(prices)
        if from_sequence:
            raise _gap(symbol, 0, from_sequence)
        self._symbols[symbol] = self._store.create(symbol, prices)
        return BatchReceipt(symbol, prices.size, prices.size)


def _still_there(symbol: str, answer: WindowStats) -> WindowStats:
    """Return an answer, unless another process deleted the symbol meanwhile."""
    if answer.sequence < 0:
        raise SymbolNotFoundError(symbol)
    return answer


def _add_missing(
    symbol: str,
    running_stats: RunningStats,
    prices: npt.NDArray[np.float64],
    from_sequence: int,
) -> BatchReceipt:
    """Append the part of a batch that is not stored yet.

    The comparison and the append are atomic with respect to other writers.
    """
    # The whole batch is checked, not only the part that will be appended.
    if kernels.find_invalid(prices) >= 0:
        raise_invalid(prices)
    with running_stats.writing():
        if running_stats.sequence < 0:
            raise SymbolChangedError
        prices = _not_yet_stored(symbol, running_stats, prices, from_sequence)
        if prices.size == 0:
            return BatchReceipt(symbol, 0, running_stats.sequence)
        return BatchReceipt(symbol, prices.size, running_stats.append_prices(prices))


def _not_yet_stored(
    symbol: str,
    running_stats: RunningStats,
    prices: npt.NDArray[np.float64],
    from_sequence: int,
) -> npt.NDArray[np.float64]:
    """Return the part of a batch that is not stored yet.

    The part that is already stored must be equal to the stored prices.
    """
    sequence = running_stats.sequence
    if from_sequence > sequence:
        raise _gap(symbol, sequence, from_sequence)
    if from_sequence == sequence:
        return prices
    if from_sequence < running_stats.oldest:
        raise SequenceConflictError(
            f"Expected from_sequence of at least {running_stats.oldest} for symbol {symbol}, got "
            f"{from_sequence}: older prices are no longer held and cannot be compared",
            sequence,
        )
    end = min(sequence, from_sequence + prices.size)
    stored = running_stats.prices(from_sequence, end)
    overlap = end - from_sequence
    differs = stored.view(np.int64) != prices[:overlap].view(np.int64)
    if differs.any():
        index = int(differs.argmax())
        raise SequenceConflictError(
            f"Expected {float(stored[index])!r} as stored for symbol {symbol} at sequence "
            f"{from_sequence + index}, got {float(prices[index])!r} - at `values[{index}]`",
            sequence,
        )
    return prices[overlap:]


def _gap(symbol: str, sequence: int, from_sequence: int) -> SequenceConflictError:
    return SequenceConflictError(
        f"Expected from_sequence of at most {sequence} for symbol {symbol}, got {from_sequence}: "
        "the prices between are missing",
        sequence,
    )
