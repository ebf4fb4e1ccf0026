"""Reading a data directory from any process: a notebook, a script, the commands of ``fds``.

A reader writes nothing and holds no lock. So services may start, run and stop while a reader has
the directory open. After a statistic is computed, the reader checks that no price was overwritten
meanwhile. For a view of prices, the caller must check this with :meth:`SymbolReader.is_held`.

A file that a process left without closing it is not read. Only a starting service decides which of
its prices are valid.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.ring import Ring
from financial_data_service.engine.ring_view import RingView
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.errors import (
    DataDirectoryError,
    SymbolNotFoundError,
    WindowSizeError,
)
from financial_data_service.storage.file_names import file_name_of
from financial_data_service.storage.symbol_file import SymbolFile
from financial_data_service.storage.trust import check_sound, identity_of, ring_files
from financial_data_service.symbols import check_symbol
from financial_data_service.windows import WindowStats, check_length

__all__ = ["DataDirectory", "SymbolReader", "open"]

Prices = npt.NDArray[np.float64]
Default = TypeVar("Default")


def open(data_dir: str | os.PathLike[str]) -> DataDirectory:
    """Open a data directory for reading, whether a service uses it or not.

    Parameters
    ----------
    data_dir : path-like
        The directory that was given as ``fds serve --data-dir``.

    Raises
    ------
    DataDirectoryError
        When it is not a data directory, or this user may not read it.

    Examples
    --------
    >>> import financial_data_service as fds
    >>> with fds.open("/var/lib/fds") as data:      # doctest: +SKIP
    ...     aapl = data["AAPL"]
    ...     print(aapl.stats(3).avg)                # the last 10**3 prices, as the service answers
    ...     print(aapl.window(2500).var)            # any window
    ...     returns = np.diff(np.log(aapl.values(last=100_000)))
    """
    return DataDirectory(data_dir)


class DataDirectory(Mapping[str, "SymbolReader"]):
    """The symbols of a data directory, read-only: a mapping from names to readers.

    It shows the current state: symbols appear and disappear as services create and delete them. Use
    it as a context manager, or :meth:`close` it. One thread at a time.

    Parameters
    ----------
    path : path-like
        The directory.

    Raises
    ------
    DataDirectoryError
        When it is no data directory, or this user may not read it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._readers: dict[str, SymbolReader] = {}
        self._is_closed = False
        self.symbols()  # Errors of the directory are raised now.

    def symbols(self) -> list[str]:
        """Return the names of the symbols, oldest first, without files that cannot be read."""
        if self._is_closed:
            raise ValueError(f"{self!r} is closed")
        identities = []
        for path in ring_files(self.path):
            identity = identity_of(path)
            if identity is not None:
                identities.append(identity)
        return [each.symbol for each in sorted(identities, key=lambda each: each.created_ns)]

    def __getitem__(self, symbol: str) -> SymbolReader:
        """Return the reader of a symbol; the same object while the symbol exists.

        Raises
        ------
        SymbolNotFoundError
            When there is no such symbol.
        SymbolFileError
            When its file is damaged, or was left by a process that did not close it.
        """
        if self._is_closed:
            raise ValueError(f"{self!r} is closed")
        reader = self._readers.get(symbol)
        if reader is not None and reader.is_there and reader.is_at_its_path:
            return reader
        self._forget(symbol)
        reader = self._readers[symbol] = SymbolReader(self.path, symbol)
        return reader

    def __iter__(self) -> Iterator[str]:
        return iter(self.symbols())

    def __len__(self) -> int:
        return len(self.symbols())

    def __contains__(self, symbol: object) -> bool:
        return symbol in self.symbols()

    def get(  # type: ignore[override]  # Mapping's knows KeyError alone.
        self, symbol: str, default: Default | None = None
    ) -> SymbolReader | Default | None:
        """Return the reader of a symbol, or `default` if the symbol does not exist."""
        try:
            return self[symbol]
        except SymbolNotFoundError:
            return default

    def close(self) -> None:
        """Close all files. Idempotent. Views on prices stay valid while they are referenced."""
        self._is_closed = True
        for symbol in list(self._readers):
            self._forget(symbol)

    def _forget(self, symbol: str) -> None:
        reader = self._readers.pop(symbol, None)
        if reader is not None:
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._is_closed:
            return f"<DataDirectory {str(self.path)!r}, closed>"
        try:
            what = ", ".join(self.symbols()) or "no symbols"
        except DataDirectoryError:
            what = "gone"
        return f"<DataDirectory {str(self.path)!r}: {what}>"


class _ReadOnlyStats(RunningStats):
    """Statistics of a ring that is only read."""

    def __init__(self, ring: Ring) -> None:
        self._use(ring)


class SymbolReader:
    """One symbol of a data directory, read-only; taken from a :class:`DataDirectory`.

    The statistics are those that a service of the same directory answers at the time of the call;
    the same kernels compute them. One thread at a time.

    Attributes
    ----------
    symbol : str
        Its name.
    path : Path
        Its file.
    """

    def __init__(self, directory: Path, symbol: str) -> None:
        check_symbol(symbol)
        self.symbol = symbol
        self.path = directory / file_name_of(symbol)
        try:
            self._file = SymbolFile.open_read_only(self.path)
        except FileNotFoundError:
            raise SymbolNotFoundError(symbol) from None
        try:
            check_sound(self._file)
            self._stats = _ReadOnlyStats(self._file)
            self._view = RingView(symbol, self._file)
        except BaseException:
            self._file.close()
            raise
        self._is_closed = self._is_deleted = False

    # How much is there

    @property
    def sequence(self) -> int:
        """Number of prices ever appended.

        Raises
        ------
        SymbolNotFoundError
            When the symbol was deleted.
        """
        self._must_be_open()
        return self._view.sequence

    @property
    def oldest(self) -> int:
        """Number of the oldest price that is still held, counted from the first ever."""
        self._must_be_open()
        return self._view.oldest

    @property
    def values_held(self) -> int:
        """Number of prices that can be read; more than the largest window."""
        return self.sequence - self.oldest

    @property
    def largest_window(self) -> int:
        """Longest window in prices."""
        return self._file.geometry.largest_window

    @property
    def k_max(self) -> int:
        """Largest k of the windows ``10**k``."""
        return self._stats.k_max

    @property
    def is_there(self) -> bool:
        """Whether the symbol still exists and this reader is open."""
        return not self._is_closed and self._file.sequence >= 0

    @property
    def is_at_its_path(self) -> bool:
        """Whether the file has been neither moved nor replaced."""
        return not self._is_closed and self._file.is_at(self.path)

    @property
    def ring(self) -> Ring:
        """The mapped file, for access to its levels."""
        self._must_be_open()
        return self._file

    # Statistics

    def stats(self, k: int) -> WindowStats:
        """Return the statistics of the last ``10**k`` prices. O(1).

        Raises
        ------
        WindowSizeError
            When the window does not exist.
        SymbolNotFoundError
            When the symbol was deleted.
        """
        self._must_be_open()
        return self._there(self._stats.stats(k))

    def window(self, last: int) -> WindowStats:
        """Return the statistics of the `last` prices. O(1). Errors as for :meth:`stats`."""
        self._must_be_open()
        return self._there(self._stats.window(last))

    def all_stats(self) -> list[WindowStats]:
        """Return the statistics of every window, ``k = 1 … k_max``, all at the same sequence."""
        self._must_be_open()
        return [self._there(answer) for answer in self._stats.all_stats()]

    # Prices

    def values(self, last: int | None = None, *, copy: bool = False) -> Prices:
        """Return the last prices, oldest first.

        Without `copy` the result is a view on the mapped file, in O(1). It stays valid if no
        service uses the directory. Otherwise newer prices overwrite the first price of the view
        after ``capacity - batch_max - n`` further prices, for a view of ``n``: at the default sizes
        650,000 after a view on the largest window, and 10^8 after a view on a small one. Use `copy`
        for prices that do not change, or :meth:`prices` and :meth:`is_held` to check.

        If the prices wrap around the end of the ring, the result is a copy.

        Parameters
        ----------
        last : int, optional
            1 to the largest window, which is the default. All prices if there are fewer.
        copy : bool
            Whether to copy the prices, and check that none was overwritten meanwhile.

        Returns
        -------
        float64[n]
            Read-only, unless `copy` was given.

        Raises
        ------
        WindowSizeError
            When the length is out of range.
        OverwrittenError
            When newer prices overwrote them during every attempt to copy.
        SymbolNotFoundError
            When the symbol was deleted.
        """
        length = self.largest_window if last is None else operator.index(last)
        check_length(length, self.largest_window)
        self._must_be_open()
        return self._view.read_newest(
            lambda sequence: self._read(max(0, sequence - length), sequence, copy=copy)
        )

    def prices(self, begin: int, end: int, *, copy: bool = False) -> Prices:
        """Return prices number ``begin`` to ``end``, counted from the first ever, oldest first.

        A view or a copy, as for :meth:`values`. What was read from a view is valid if
        ``is_held(begin)`` is true afterwards.

        Raises
        ------
        WindowSizeError
            When some of them have never been appended.
        OverwrittenError
            When some of them are no longer held, or were overwritten during the copy.
        SymbolNotFoundError
            When the symbol was deleted.
        """
        sequence = self.sequence
        if not 0 <= begin <= end <= sequence:
            raise WindowSizeError(
                f"Expected prices between {self.oldest} and {sequence}, got {begin} to {end}"
            )
        self._view.check_not_overwritten(begin)
        return self._read(begin, end, copy=copy)

    def is_held(self, begin: int) -> bool:
        """Return whether price number ``begin`` and all later ones are unchanged.

        If so, everything that was read of them so far is valid.
        """
        return begin >= self.oldest

    # Ends

    def close(self) -> None:
        """Close the file. Idempotent. Views on prices stay valid while they are referenced."""
        if not self._is_closed:
            self._is_closed = True
            self._is_deleted = self._file.sequence < 0
            del self._view  # The view would keep the file mapped.
            self._file.close()

    def __repr__(self) -> str:
        if not self.is_there:
            is_deleted = self._is_deleted or not self._is_closed
            return f"<SymbolReader {self.symbol!r}, {'deleted' if is_deleted else 'closed'}>"
        return (
            f"<SymbolReader {self.symbol!r}: {self.sequence:,} prices, {self.values_held:,} held>"
        )

    def _read(self, begin: int, end: int, *, copy: bool) -> Prices:
        prices = self._file.read(begin, end)
        if copy and prices.base is not None:
            prices = prices.copy()
        self._view.check_not_overwritten(begin)
        prices.flags.writeable = copy
        return prices

    def _must_be_open(self) -> None:
        if self._is_deleted:
            raise SymbolNotFoundError(self.symbol)
        if self._is_closed:
            raise ValueError(f"{self!r}: it cannot be read")

    def _there(self, answer: WindowStats) -> WindowStats:
        if answer.sequence < 0:
            raise SymbolNotFoundError(self.symbol)
        return answer
