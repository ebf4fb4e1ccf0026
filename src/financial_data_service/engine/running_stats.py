"""RunningStats: the rolling statistics of one symbol.

One region of memory (:mod:`~financial_data_service.engine.layout`) holds a ring of prices and,
above it, levels of block summaries. All windows end at the newest price, so one tree answers all of
them.

Invariants
----------
* A batch is appended as a whole or not at all. Data that a window reads is not changed before the
  whole batch has been checked.
* An answer depends only on the prices in its window.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import DEFAULT_FANOUT, LARGEST_WINDOW_MAX, Geometry
from financial_data_service.engine.ring import Ring
from financial_data_service.errors import WindowSizeError
from financial_data_service.prices import PRICE_MAX, as_prices, invalid_price
from financial_data_service.windows import WindowStats, check_exponent, check_length, k_max_of

__all__ = ["RunningStats", "raise_invalid", "warm_up"]

_new_tuple = tuple.__new__

# The kernels define the limit as a separate literal; see kernels.py.
assert PRICE_MAX == kernels.PRICE_MAX


class RunningStats:
    """Rolling min, max, last, avg and var over the last prices of one symbol.

    An append takes a few nanoseconds per price and a query a few microseconds, whatever the window
    and whatever the prices. Memory is 8.4 bytes per price at the default sizes, taken as prices are
    appended. One thread at a time may use an object.

    Parameters
    ----------
    largest_window : int
        Longest window in prices, 10 to 10^8.
    fanout : int
        Prices per block, and blocks per block of the next level; a power of two.
    batch_max : int
        Maximum number of prices in one append.

    Raises
    ------
    ValueError
        When a parameter is out of its range.
    InsufficientStorageError
        When the system has no memory for the region.

    Examples
    --------
    >>> stats = RunningStats()
    >>> stats.append([100.0, 101.0, 102.0])
    3
    >>> stats.stats(1).avg
    101.0
    """

    def __init__(
        self,
        largest_window: int = LARGEST_WINDOW_MAX,
        *,
        fanout: int = DEFAULT_FANOUT,
        batch_max: int = 10_000,
    ) -> None:
        self._use(Ring(Geometry(largest_window, fanout, batch_max)))

    def _use(self, ring: Ring) -> None:
        self._ring = ring
        self._geometry = ring.geometry

    def append(self, values: npt.ArrayLike) -> int:
        """Append a batch of prices, oldest first, and return the new sequence.

        O(n), about 1 ns per price in batches of 10,000. The batch is stored as a whole or not at
        all.

        Parameters
        ----------
        values : float64[n] or sequence of float or int
            1 to ``batch_max`` prices, finite and of a magnitude of at most 1e150.

        Raises
        ------
        InvalidBatchError
            When the batch is empty, too long, of another shape or type, or holds a value that is
            not a price. The message says what was expected, what was found, and where.
        """
        return self.append_prices(as_prices(values, self._geometry.batch_max))

    def append_prices(self, prices: npt.NDArray[np.float64]) -> int:
        """Append an array that :func:`~financial_data_service.prices.as_prices` returned. O(n).

        Raises
        ------
        InvalidBatchError
            When a value is not finite or too large.
        """
        sequence: int = kernels.append(self._ring.header, self._ring.region, prices)
        if sequence < 0:
            raise_invalid(prices)
        return sequence

    def writing(self) -> AbstractContextManager[object]:
        """Return a context manager that excludes other writers.

        For a ring in memory it does nothing, because no other process can write to it.
        """
        return nullcontext()

    def window(self, last: int) -> WindowStats:
        """Return the statistics of the `last` prices. O(1): 0.7 to 2 µs.

        Parameters
        ----------
        last : int
            1 to the largest window. If fewer prices were appended, the window is all of them. If
            none were, the statistics are NaN and ``values`` is 0.

        Raises
        ------
        WindowSizeError
            When the length is out of range.
        """
        last = operator.index(last)
        check_length(last, self._geometry.largest_window)
        return self._window(last)

    def stats(self, k: int) -> WindowStats:
        """Return the statistics of the last ``10**k`` prices. O(1).

        Raises
        ------
        WindowSizeError
            When k is less than 1 or more than ``k_max``.
        """
        k = operator.index(k)
        check_exponent(k, self._geometry.largest_window)
        return self._window(10**k)

    def _window(self, length: int, as_of: int = -1) -> WindowStats:
        # Like WindowStats._make, but without its length check. The check takes 0.2 µs of a query of
        # 1 to 2 µs.
        return _new_tuple(
            WindowStats,
            (length, *kernels.window(self._ring.header, self._ring.region, length, as_of)),
        )

    def all_stats(self) -> list[WindowStats]:
        """Return the statistics of every window, ``k = 1 … k_max``, all at the same sequence."""
        return self.windows_as_of(10**k for k in range(1, self.k_max + 1))

    def windows_as_of(self, lengths: Iterable[int]) -> list[WindowStats]:
        """Return the statistics of several windows that all end at the same price.

        They end at the newest price at the time of the call. If another process appends so fast
        that the longest window is overwritten meanwhile, the windows are read again at a later
        price.

        Parameters
        ----------
        lengths : iterable of int
            1 to the largest window each.
        """
        wanted = list(lengths)
        while True:
            sequence = self.sequence
            answers = [self._window(length, sequence) for length in wanted]
            if all(answer.values >= 0 and answer.sequence == sequence for answer in answers):
                return answers

    def prices(self, begin: int, end: int) -> npt.NDArray[np.float64]:
        """Return prices number ``begin`` to ``end`` (counted from the first ever), oldest first.

        The array may be a view on the ring, which is valid until the next append. O(1), or O(n)
        if the prices wrap around the end of the ring.

        Raises
        ------
        WindowSizeError
            When some of them are not held: not yet appended, or overwritten.
        """
        if not self._ring.oldest <= begin <= end <= self.sequence:
            raise WindowSizeError(
                f"Expected prices between {self._ring.oldest} and {self.sequence}, "
                f"got {begin} to {end}"
            )
        return self._ring.read(begin, end)

    def values(self, last: int) -> npt.NDArray[np.float64]:
        """Return a copy of the `last` prices, oldest first, or of all if there are fewer. O(n).

        Raises
        ------
        WindowSizeError
            When the length is out of range.
        """
        check_length(last, self._geometry.largest_window)
        while True:
            sequence = max(0, self.sequence)
            begin = max(0, sequence - last)
            values = self._ring.read(begin, sequence).copy()
            oldest = self.oldest
            # If the symbol was deleted, the count (-1) no longer shows which prices were
            # overwritten.
            if (begin >= oldest and self.sequence >= 0) or sequence == 0:
                return values

    @property
    def geometry(self) -> Geometry:
        """Sizes of the region."""
        return self._geometry

    @property
    def ring(self) -> Ring:
        """The memory with the prices and levels, for readers outside the engine."""
        return self._ring

    @property
    def largest_window(self) -> int:
        """Longest window in prices."""
        return self._geometry.largest_window

    @property
    def k_max(self) -> int:
        """Largest k of the windows ``10**k``."""
        return k_max_of(self._geometry.largest_window)

    @property
    def sequence(self) -> int:
        """Number of prices ever appended; -1 once another process has deleted the symbol."""
        return self._ring.sequence

    @property
    def oldest(self) -> int:
        """Number of the oldest price still in the ring.

        The ring holds more prices than the largest window.
        """
        return self._ring.oldest

    @property
    def size_bytes(self) -> int:
        """Length of the mapped region. Only the pages written so far take memory."""
        return self._geometry.size_bytes

    def close(self) -> None:
        """Release the memory. The object cannot be used afterwards. Idempotent."""
        self._ring.close()


def raise_invalid(prices: npt.NDArray[np.float64]) -> NoReturn:
    """Raise for the first value that is not finite or too large. O(n).

    Raises
    ------
    InvalidBatchError
        Always; ``index`` is the position of the value.
    """
    index = int(kernels.find_invalid(prices))
    raise invalid_price(index, repr(float(prices[index])))


def warm_up() -> None:
    """Compile every kernel, or load it from the cache, so that no request waits for that.

    It takes some ten seconds the first time on a machine, and a fraction of a second afterwards.
    """
    prices = np.arange(1.0, 11.0)
    read_only = prices.copy()
    read_only.flags.writeable = False
    stats = RunningStats(10, fanout=2, batch_max=10)
    # Writable and read-only arrays are different types to Numba.
    for batch in (prices, read_only):
        stats.append(batch)
    assert stats.window(10).values == len(prices)
    for batch in (prices, read_only):
        assert kernels.find_invalid(batch) == -1
    header, region = stats._ring.header, stats._ring.region
    kernels.complete_blocks(header, region, 1, 0, len(prices))
    kernels.store_blocks(header, region, 1, 0, 1)
    kernels.publish(header, stats.sequence)
    stats.close()
