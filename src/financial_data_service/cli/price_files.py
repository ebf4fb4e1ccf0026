"""Files of prices: CSV (plain or gzip) and Parquet, one column of each, row by row.

Rows are counted from 0 in the order of the file, without blank lines of a CSV. Row *i* is the same
price at every reading, which makes a load repeatable. A price is the float64 nearest to the text of
the file. A cell that is not a finite number ends the reading, with its place.

Only the first lines of a CSV are read ahead, to find its delimiter and header.
"""

from __future__ import annotations

import csv
import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from itertools import chain, islice
from math import isfinite
from typing import IO, Any, Protocol, cast

from financial_data_service.cli.console import CliError

__all__ = ["CsvPrices", "ParquetPrices", "PriceFile", "open_prices"]

DEFAULT_COLUMN = "price"
STANDARD_INPUT = "-"

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_UTF16_MAGIC = (b"\xff\xfe", b"\xfe\xff")
# From the rarer to the commoner inside of a cell: 1,12;1,13 has two columns, not three.
_DELIMITERS = "\t;,"
_SNIFFED_LINES = 50
_SHOWN_CHARACTERS = 40


class PriceFile(Protocol):
    """One column of a file, open for reading once."""

    name: str
    column: str
    """What the column is called, for people."""
    size: int | None
    """Length of the file in the unit of ``position``; None when it has no end in sight."""

    @property
    def position(self) -> int:
        """How much of ``size`` has been read: bytes of a CSV, rows of a Parquet file."""

    def __iter__(self) -> Iterator[float]:
        """Yield the prices, oldest first."""


@contextmanager
def open_prices(path: str, column: str | None = None) -> Iterator[PriceFile]:
    """Open a file of prices. Its first bytes decide the format, not its name.

    Parameters
    ----------
    path : str
        File to read; ``-`` is the standard input (no Parquet there).
    column : str or None
        Name in the header or number from 1; None takes ``price``, or the only column.

    Raises
    ------
    CliError
        When there is no such file or column.
    """
    with _open_bytes(path) as stream:
        name = "the standard input" if path == STANDARD_INPUT else path
        head = stream.peek(len(_PARQUET_MAGIC))
        if head.startswith(_PARQUET_MAGIC):
            yield ParquetPrices(name, stream, column)
        else:
            yield CsvPrices(name, stream, column, is_gzip=head.startswith(_GZIP_MAGIC))


@contextmanager
def _open_bytes(path: str) -> Iterator[BufferedReader]:
    if path == STANDARD_INPUT:
        yield cast(BufferedReader, sys.stdin.buffer)
        return
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below; its errors are told apart here.
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name.
        raise CliError(f"Cannot read {path}: {_reason(error)}.") from error
    with stream:
        yield stream


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return reason[:1].lower() + reason[1:]


def _size_bytes(stream: IO[bytes]) -> int | None:
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # Not a file of the operating system.
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


class CsvPrices:
    """One column of a CSV file.

    The first row is a header when none of its cells is a number, or when one of them is the name
    asked for. The delimiter is whichever of tab, ``;`` and ``,`` cuts the first lines into equally
    many cells.

    Parameters
    ----------
    name : str
        What the file is called in sentences.
    stream : BufferedReader
        Its bytes.
    wanted : str or None
        Column, see :func:`open_prices`.
    is_gzip : bool
        Whether the bytes are compressed.
    """

    def __init__(
        self, name: str, stream: BufferedReader, wanted: str | None, *, is_gzip: bool = False
    ) -> None:
        self.name = name
        self.size = _size_bytes(stream)
        self._stream = stream
        with self._reading():
            self._open(BufferedReader(gzip.GzipFile(fileobj=stream)) if is_gzip else stream, wanted)

    def _open(self, stream: BufferedReader, wanted: str | None) -> None:
        is_utf16 = stream.peek(2).startswith(_UTF16_MAGIC)
        # Only the prices need to be understood; stray bytes in other columns do no harm.
        text = TextIOWrapper(
            stream, "utf-16" if is_utf16 else "utf-8-sig", errors="replace", newline=""
        )
        self._text = text  # Kept: once forgotten it would close the stream, position and all.
        head = list(islice(text, _SNIFFED_LINES))
        self._lines = csv.reader(chain(head, text), delimiter=sniff_delimiter(head))
        first = next((row for row in self._lines if not _is_blank(row)), None)
        if first is None:
            raise CliError(f"{self.name} is empty.")
        header = [cell.strip() for cell in first] if _is_header(first, wanted) else None
        self._index = choose_column(self.name, header, first, wanted)
        self.column = _label(header, self._index)
        self._rows: Iterable[list[str]] = chain([] if header else [first], self._lines)

    @property
    def position(self) -> int:
        """Bytes read so far, compressed ones of a compressed file."""
        return self._stream.tell() if self.size is not None else 0

    def __iter__(self) -> Iterator[float]:
        """Yield the prices, oldest first."""
        index = self._index
        with self._reading():
            for row in self._rows:
                try:
                    cell = row[index]
                    price = float(cell)
                except (ValueError, IndexError):
                    if _is_blank(row):
                        continue
                    raise self._bad_cell(row) from None
                # float() also takes the underscores of Python's own numbers.
                if not isfinite(price) or "_" in cell:
                    raise self._bad_cell(row)
                yield price

    def _bad_cell(self, row: list[str]) -> CliError:
        place = f"{self.name}, line {self._lines.line_num:,}, {self.column}"
        if self._index >= len(row):
            return CliError(f"{place}: the line has only {len(row)} of the columns.")
        return CliError(f"{place}: {_complaint(row[self._index])}.")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (csv.Error, EOFError, OSError, UnicodeError, zlib.error) as error:
            line = getattr(getattr(self, "_lines", None), "line_num", 0)
            raise CliError(
                f"Cannot read {self.name} after line {line:,}: {_reason(error)}."
            ) from error


class ParquetPrices:
    """One column of a Parquet file; the other columns are not read.

    Parameters
    ----------
    name : str
        What the file is called in sentences.
    stream : BufferedReader
        Its bytes, seekable.
    wanted : str or None
        Column, see :func:`open_prices`.
    """

    def __init__(self, name: str, stream: BufferedReader, wanted: str | None) -> None:
        if not stream.seekable():
            raise CliError(f"{name} is Parquet, which is read from its end: give it as a file.")
        try:
            import pyarrow as arrow
            from pyarrow import parquet
        except ImportError as error:
            raise CliError(
                "Reading Parquet needs pyarrow: make install in a checkout, or pip install pyarrow."
            ) from error
        self.name = name
        self._error: type[Exception] = arrow.ArrowException
        with self._reading():
            self._file = parquet.ParquetFile(stream)
        fields = list(self._file.schema_arrow)
        index = choose_column(name, [field.name for field in fields], [], wanted)
        self.column = _label([field.name for field in fields], index)
        self._field = fields[index].name
        self.size: int | None = self._file.metadata.num_rows
        self._row = 0
        kind = fields[index].type
        tests = (arrow.types.is_floating, arrow.types.is_integer, arrow.types.is_decimal)
        if not any(test(kind) for test in tests):
            raise CliError(f"{name}, {self.column}: expected numbers, got {kind}.")

    @property
    def position(self) -> int:
        """Rows read so far."""
        return self._row

    def __iter__(self) -> Iterator[float]:
        """Yield the prices, oldest first."""
        for values in self._blocks():
            for value in values:
                self._row += 1
                if value is None or not isfinite(value):
                    raise CliError(
                        f"{self.name}, row {self._row:,}, {self.column}: "
                        f"{_complaint('' if value is None else str(value))}."
                    )
                yield float(value)

    def _blocks(self) -> Iterator[list[Any]]:
        with self._reading():
            for batch in self._file.iter_batches(columns=[self._field]):
                yield batch.column(0).to_pylist()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (self._error, OSError) as error:
            raise CliError(f"{self.name} is not a sound Parquet file: {_reason(error)}") from error


def sniff_delimiter(lines: list[str]) -> str:
    """Return the delimiter that cuts ``lines`` into equally many cells, more than one."""
    widths = {delimiter: _widths(lines, delimiter) for delimiter in _DELIMITERS}
    for delimiter, counts in widths.items():
        if len(set(counts)) == 1 and counts[0] > 1:
            return delimiter
    # Ragged lines, or one column: the first line decides.
    return max(reversed(_DELIMITERS), key=lambda delimiter: widths[delimiter][:1] or [0])


def _widths(lines: list[str], delimiter: str) -> list[int]:
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return []
    return [len(row) for row in rows if not _is_blank(row)]


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and row[0].isspace())


def _is_header(row: list[str], wanted: str | None) -> bool:
    if wanted is not None and not _is_number(wanted) and wanted in (cell.strip() for cell in row):
        return True
    return not any(_is_number(cell) for cell in row)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def choose_column(name: str, header: list[str] | None, first: list[str], wanted: str | None) -> int:
    """Return the index of the column ``wanted``.

    Parameters
    ----------
    name : str
        What the file is called in sentences.
    header : list of str or None
        Names of the columns, if they have any.
    first : list of str
        First row: it shows how many columns a file without a header has.
    wanted : str or None
        A name has priority over a number counted from 1; None takes ``price``, or the only column.

    Raises
    ------
    CliError
        When there is no such column, or more than one; the sentence lists the columns.
    """
    names = header or []
    width = len(names) or len(first)
    matches = _named(names, DEFAULT_COLUMN if wanted is None else wanted)
    if len(matches) == 1:
        return matches[0]
    if wanted is None and width == 1:
        return 0
    if wanted is not None and not matches and wanted.isdecimal() and 1 <= int(wanted) <= width:
        return int(wanted) - 1
    sought = DEFAULT_COLUMN if wanted is None else wanted
    fault = f"has {len(matches)} columns {sought!r}" if matches else f"has no column {sought!r}"
    shown = names or [cell[:_SHOWN_CHARACTERS] for cell in first]
    listed = ", ".join(f"{number} {label!r}" for number, label in enumerate(shown, start=1))
    kind = "its columns are" if names else "it has no header, its first row is"
    raise CliError(f"{name} {fault}; {kind} {listed}. Choose one by --column NAME or NUMBER.")


def _named(names: list[str], wanted: str) -> list[int]:
    """Return the position of ``wanted``. Case matters only if two names differ by nothing else."""
    exact = [index for index, name in enumerate(names) if name == wanted]
    return exact or [i for i, name in enumerate(names) if name.casefold() == wanted.casefold()]


def _label(header: list[str] | None, index: int) -> str:
    return f"column {header[index]!r}" if header else f"column {index + 1}"


def _complaint(cell: str) -> str:
    if not cell or cell.isspace():
        return "the cell is empty"
    shown = repr(cell if len(cell) <= _SHOWN_CHARACTERS else cell[:_SHOWN_CHARACTERS] + "…")
    return f"{shown} is not a {'finite ' if _is_number(cell) and '_' not in cell else ''}number"
