"""Reading a data directory from any process: a notebook, a script, the commands ``fds``.

Nothing is written and no lock is held, so a service may go on with the directory, be started and be
stopped. An answer is checked against the count once it is complete; a view on prices is the
reader's to check (:meth:`SymbolReader.is_held`).

A file that a process left without closing it is not read: only a service may say what of it is
sound, and says so when it is started.
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

"""How often the last prices are read anew because a writer went over them."""


def open(data_dir: str | os.PathLike[str]) -> DataDirectory:
    """Open a data directory to read it, be a service at work in it or not.

    Parameters
    ----------
    data_dir : path-like
        What ``fds serve --data-dir`` was given.

    Raises
    ------
    DataDirectoryError
        When it is no data directory, or this user may not read it.

    Examples
    --------
    >>> import financial_data_service as fds
    >>> with fds.open("/var/lib/fds") as data:      # doctest: +SKIP
    ...     aapl = data["AAPL"]
    ...     print(aapl.stats(3).avg)                # the last 10**3 prices, as the service says
    ...     print(aapl.window(2500).var)            # any window
    ...     returns = np.diff(np.log(aapl.values(last=100_000)))
    """
    return DataDirectory(data_dir)


class DataDirectory(Mapping[str, "SymbolReader"]):
    """The symbols of a data directory, read-only: a mapping from names to readers.

    It is as it is now: symbols come and go with what a service does. Use it as a context manager,
    or :meth:`close` it. For one thread at a time.

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
        self.symbols()  # Whatever is wrong with the directory is said now.

    def symbols(self) -> list[str]:
        """Return the names of the symbols, oldest first; files that cannot be read are left out."""
        if self._is_closed:
            raise ValueError(f"{self!r} is closed")
        identities = []
        for path in ring_files(self.path):
            identity = identity_of(path)
            if identity is not None:
                identities.append(identity)
        return [each.symbol for each in sorted(identities, key=lambda each: each.created_ns)]

    def __getitem__(self, symbol: str) -> SymbolReader:
        """Return the reader of a symbol, always the same one while the symbol is there.

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
        """Return the reader of a symbol, or `default` when there is no such symbol."""
        try:
            return self[symbol]
        except SymbolNotFoundError:
            return default

    def close(self) -> None:
        """Let go of all files. Idempotent; views on prices live for as long as they are kept."""
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


class _Stats(RunningStats):
    """Statistics over a ring that is only read."""

    def __init__(self, ring: Ring) -> None:
        self._use(ring)


class SymbolReader:
    """One symbol of a data directory, read-only; taken from a :class:`DataDirectory`.

    Numbers are what a service over the same directory answers, from the same kernels, as of the
    moment of the call. For one thread at a time.

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
            self._stats = _Stats(self._file)
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
        """Prices that can be read: the largest window, and somewhat more."""
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
        """Whether the symbol is there still: neither deleted nor closed here."""
        return not self._is_closed and self._file.sequence >= 0

    @property
    def is_at_its_path(self) -> bool:
        """Whether its file has not been moved away or replaced."""
        return not self._is_closed and self._file.is_at(self.path)

    @property
    def ring(self) -> Ring:
        """The mapped file, for those who look at its levels."""
        self._must_be_open()
        return self._file

    # Statistics

    def stats(self, k: int) -> WindowStats:
        """Return the statistics of the last ``10**k`` prices. O(1).

        Raises
        ------
        WindowSizeError
            When there is no such window.
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
        """Return the statistics of every window, ``k = 1 … k_max``, as of one moment."""
        self._must_be_open()
        return [self._there(answer) for answer in self._stats.all_stats()]

    # Prices

    def values(self, last: int | None = None, *, copy: bool = False) -> Prices:
        """Return the last prices, oldest first.

        Without `copy` a view on the mapped file, which costs nothing, however many they are. It is
        good for ever if no service is at work. If one is, newer prices will come round to the
        view's first: not before ``capacity - batch_max`` prices have been appended after it, which
        for the default sizes is 650,000 after the largest window was asked for, and 10^8 after a
        small one was. Take `copy` for prices that stay what they are, or :meth:`prices` and
        :meth:`is_held` to find out.

        (Where the prices go round the end of the ring the view is a copy, of no age.)

        Parameters
        ----------
        last : int, optional
            1 to the largest window, which it is if not given; while fewer prices have come, all.
        copy : bool
            Copy them, and make sure that nobody wrote to them meanwhile.

        Returns
        -------
        float64[n]
            Read-only, unless it is a copy that was asked for.

        Raises
        ------
        WindowSizeError
            When the length is out of range.
        OverwrittenError
            When newer prices came faster than they could be copied.
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

        A view or a copy, as of :meth:`values`. A view is good if, once you are done with it,
        ``is_held(begin)`` says so.

        Raises
        ------
        WindowSizeError
            When some of them have never been appended.
        OverwrittenError
            When some of them are no longer held, or were overwritten while they were copied.
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
        """Tell whether price number ``begin`` and all later ones are what they were.

        True means that whatever was read of them up to now was right.
        """
        return begin >= self.oldest

    # Ends

    def close(self) -> None:
        """Let go of the file. Idempotent; views on prices live for as long as they are kept."""
        if not self._is_closed:
            self._is_closed = True
            self._is_deleted = self._file.sequence < 0
            del self._view  # It would keep the file mapped.
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
            raise ValueError(f"{self!r}: nothing can be asked of it")

    def _there(self, answer: WindowStats) -> WindowStats:
        if answer.sequence < 0:
            raise SymbolNotFoundError(self.symbol)
        return answer
