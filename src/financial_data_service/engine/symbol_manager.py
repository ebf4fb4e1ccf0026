"""SymbolManager: the symbols of a service, each with its rolling statistics.

Invariant: a symbol exists from its first stored batch on; a batch that is refused creates nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service.engine import kernels
from financial_data_service.engine.batch import as_prices, refuse_unfit
from financial_data_service.engine.layout import DEFAULT_FANOUT, LARGEST_WINDOW_MAX
from financial_data_service.engine.running_stats import (
    RunningStats,
    WindowStats,
    check_exponent,
    k_max_of,
)
from financial_data_service.errors import (
    InvalidSymbolError,
    SequenceConflictError,
    SymbolLimitError,
    SymbolNotFoundError,
)

__all__ = ["SYMBOL_LENGTH_MAX", "BatchReceipt", "SymbolManager", "check_symbol"]

SYMBOL_LENGTH_MAX = 128

# C0 and C1 controls and DEL would break logs and terminals; surrogates have no UTF-8 form.
_UNFIT_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class BatchReceipt(NamedTuple):
    """What became of a batch.

    Attributes
    ----------
    symbol : str
        Whose batch it was.
    added : int
        Prices added: 0 when all were stored already.
    sequence : int
        Prices ever appended to the symbol, these included.
    """

    symbol: str
    added: int
    sequence: int


def check_symbol(symbol: str) -> None:
    """Check the name of a symbol: 1 to 128 characters, none of them a control character.

    Raises
    ------
    InvalidSymbolError
        When it is not; the message says where.
    """
    if not isinstance(symbol, str):
        raise InvalidSymbolError(f"Expected `str`, got `{type(symbol).__name__}` - at `symbol`")
    if not 1 <= len(symbol) <= SYMBOL_LENGTH_MAX:
        raise InvalidSymbolError(
            f"Expected a symbol of 1 to {SYMBOL_LENGTH_MAX} characters, got {len(symbol)} "
            "- at `symbol`"
        )
    unfit = _UNFIT_CHARACTER.search(symbol)
    if unfit:
        raise InvalidSymbolError(
            f"Expected a symbol without control characters, got U+{ord(unfit[0]):04X} "
            f"- at `symbol[{unfit.start()}]`"
        )


class SymbolManager:
    """Rolling statistics by symbol, up to a number of symbols. For one thread at a time.

    Parameters
    ----------
    max_symbols : int
        Symbols kept at most.
    largest_window, batch_max, fanout : int
        As of :class:`~financial_data_service.engine.running_stats.RunningStats`.

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
    ) -> None:
        self.max_symbols = max_symbols
        self.largest_window = largest_window
        self.batch_max = batch_max
        self._fanout = fanout
        self._symbols: dict[str, RunningStats] = {}

    def add_batch(
        self, symbol: str, values: npt.ArrayLike, from_sequence: int | None = None
    ) -> BatchReceipt:
        """Append a batch of prices to a symbol, which comes into being with its first batch.

        Whole batch or nothing. O(n).

        Parameters
        ----------
        symbol : str
            1 to 128 characters.
        values : float64[n] or sequence of float or int
            1 to ``batch_max`` prices, oldest first.
        from_sequence : int, optional
            Number of prices appended to the symbol before this batch. It makes a retry harmless:
            what is stored already is compared, bit by bit, and only the rest is added.

        Raises
        ------
        InvalidSymbolError, InvalidBatchError
            When an argument is unfit.
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
        """Append what :func:`~financial_data_service.engine.batch.as_prices` has let through.

        Parameters and errors as of :meth:`add_batch`.
        """
        running_stats = self._symbols.get(symbol)
        if running_stats is not None:
            if from_sequence is not None:
                # The whole batch is checked, not only what will be left of it.
                if kernels.find_unfit(prices) >= 0:
                    refuse_unfit(prices)
                prices = _not_yet_stored(symbol, running_stats, prices, from_sequence)
                if prices.size == 0:
                    return BatchReceipt(symbol, 0, running_stats.sequence)
            return BatchReceipt(symbol, prices.size, running_stats.append_prices(prices))
        check_symbol(symbol)
        if kernels.find_unfit(prices) >= 0:
            refuse_unfit(prices)
        if from_sequence:
            raise _gap(symbol, 0, from_sequence)
        running_stats = self._create(symbol)
        return BatchReceipt(symbol, prices.size, running_stats.append_prices(prices))

    def stats(self, symbol: str, k: int) -> WindowStats:
        """Return the statistics of a symbol's last ``10**k`` prices. O(1).

        Raises
        ------
        SymbolNotFoundError
            When there is no such symbol.
        WindowSizeError
            When there is no such window.
        """
        return self[symbol].stats(k)

    def window(self, symbol: str, length: int) -> WindowStats:
        """Return the statistics of a symbol's last `length` prices; errors as :meth:`stats`."""
        return self[symbol].window(length)

    def all_stats(self, symbol: str) -> list[WindowStats]:
        """Return the statistics of every window of a symbol; errors as :meth:`stats`."""
        return self[symbol].all_stats()

    @property
    def k_max(self) -> int:
        """Largest k of the windows ``10**k``."""
        return k_max_of(self.largest_window)

    def check_exponent(self, k: int) -> None:
        """Check that ``10**k`` is a window.

        Raises
        ------
        WindowSizeError
            When it is not.
        """
        check_exponent(k, self.largest_window)

    def symbols(self) -> list[str]:
        """Return the names of all symbols, oldest first."""
        return list(self._symbols)

    def delete(self, symbol: str) -> None:
        """Forget a symbol and its prices, and give their memory back.

        Raises
        ------
        SymbolNotFoundError
            When there is no such symbol.
        """
        self[symbol].close()
        del self._symbols[symbol]

    def close(self) -> None:
        """Give all memory back. Idempotent."""
        for running_stats in self._symbols.values():
            running_stats.close()
        self._symbols.clear()

    def get(self, symbol: str) -> RunningStats | None:
        """Return the statistics of a symbol, or None when there is no such symbol."""
        return self._symbols.get(symbol)

    def __getitem__(self, symbol: str) -> RunningStats:
        try:
            return self._symbols[symbol]
        except KeyError:
            raise SymbolNotFoundError(symbol) from None

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._symbols

    def __len__(self) -> int:
        return len(self._symbols)

    def _create(self, symbol: str) -> RunningStats:
        if len(self._symbols) >= self.max_symbols:
            raise SymbolLimitError(self.max_symbols)
        running_stats = RunningStats(
            self.largest_window, fanout=self._fanout, batch_max=self.batch_max
        )
        self._symbols[symbol] = running_stats
        return running_stats


def _not_yet_stored(
    symbol: str,
    running_stats: RunningStats,
    prices: npt.NDArray[np.float64],
    from_sequence: int,
) -> npt.NDArray[np.float64]:
    """Return the part of a batch that lies behind what is stored; the part before must equal it."""
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
