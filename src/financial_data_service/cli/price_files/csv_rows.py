"""Rows of separated values.

polars parses the blocks of a file that need no care. Python's csv module reads the others: those
with quotes, blank lines, comments, gaps, currency signs, or a cell that is to be named in an error.
Both round each price to the nearest float64.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import numpy as np

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.columns import find_columns
from financial_data_service.cli.price_files.layout import COMMENT, find_layout, is_blank
from financial_data_service.cli.price_files.numbers import GAP_WORDS, complaint
from financial_data_service.cli.price_files.options import ReadingOptions
from financial_data_service.cli.price_files.rows import Rows
from financial_data_service.cli.price_files.sources import reason_of

__all__ = ["CsvRows", "Gathered"]

BLOCK_BYTES = 4 << 20
_HEAD_LINES = 50
_HEAD_BYTES = 4096
_STRAY_SHARE = 0.3
_CAREFUL_ROWS = 50_000
_UTF16_MAGIC = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MAGIC = b"\xef\xbb\xbf"


class CsvRows:
    """The rows of a file of separated values.

    Parameters
    ----------
    name : str
        What the file is called in sentences.
    stream : BufferedReader
        Its bytes.
    options : ReadingOptions
        How to read them.

    Raises
    ------
    CliError
        When it is empty, or its header or its columns cannot be told.
    """

    def __init__(self, name: str, stream: io.BufferedReader, options: ReadingOptions) -> None:
        self._name, self._options = name, options
        self._line = 0
        self._blocks = _blocks(stream)
        first = self._next()
        head = list(islice(io.StringIO(first.decode(errors="replace"), newline=""), _HEAD_LINES))
        if first and len(first) >= BLOCK_BYTES and not head[0].endswith(("\n", "\r")):
            raise CliError(f"{name} is no text of lines: its first {len(first):,} bytes are one.")
        self._refuse_binary(first)
        self._refuse_json(first)
        layout = find_layout(name, head, options.column, options.number_form, options.skip_lines)
        self.columns = find_columns(
            name, layout.header, layout.sample, options.column, options.symbol_column
        )
        self._delimiter = layout.delimiter
        self._first_line = layout.first_line
        self._first = first
        kinds = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
        named = "a header" if layout.header else "no header"
        self.form = f"text, {kinds[layout.delimiter]}-separated, {named}"
        self._width = width = len(layout.header or max(layout.sample, key=len))
        # Names that no file has twice, whatever polars calls columns without names.
        self._made_header = self._delimiter.join(map(str, range(width))).encode() + b"\n"
        self._used = sorted({self.columns.price, *self.columns.time, *self._symbol_index()})

    def _symbol_index(self) -> list[int]:
        return [] if self.columns.symbol is None else [self.columns.symbol]

    def _refuse_binary(self, first: bytes) -> None:
        head = first[:_HEAD_BYTES]
        text = head.decode(errors="replace")
        if b"\0" in head or text.count("\ufffd") > _STRAY_SHARE * len(text):
            raise CliError(
                f"{self._name} is neither text nor Parquet, Arrow or a known archive: it begins "
                f"with the bytes {head[:8].hex(' ')}."
            )

    def _refuse_json(self, first: bytes) -> None:
        if first.lstrip()[:1] == b"[":
            raise CliError(
                f"{self._name} is one JSON document, not JSON lines (an object a line). "
                f"jq -c '.[]' makes lines of its elements; - reads them from standard input."
            )

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows, oldest block first."""
        block = _without_lines(self._first, self._first_line - 1)
        line = self._first_line
        while block:
            if b'"' in block:
                yield from self._careful(chain(_lines(block), self._remaining_lines()), line)
                return
            lines = _count_lines(block)
            rows = self._fast(block, line, lines)
            yield from self._careful(_lines(block), line) if rows is None else [rows]
            line += lines
            block = self._next()
            self._line = line

    def _next(self) -> bytes:
        try:
            return next(self._blocks, b"")
        except (EOFError, OSError, ValueError, RuntimeError) as error:
            raise self._unreadable(error) from error
        except Exception as error:  # The errors of zlib, lzma, zipfile and zstd have no other root.
            raise self._unreadable(error) from error

    def _remaining_lines(self) -> Iterator[str]:
        while block := self._next():
            yield from _lines(block)

    def _unreadable(self, error: Exception) -> CliError:
        return CliError(f"Cannot read {self._name} after line {self._line:,}: {reason_of(error)}.")

    def _fast(self, block: bytes, line: int, lines: int) -> Rows | None:
        """Return the rows of a block that needs no care, or None."""
        import polars as pl

        form = self._options.number_form
        if not form.is_plain or (form.decimal == "," and self._delimiter == ","):
            return None
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
            if b"\r" in block:
                return None
        price = str(self.columns.price)
        try:
            frame = pl.read_csv(
                self._made_header + block,
                # With the last column polars notices a line that has more cells.
                columns=[str(index) for index in {*self._used, self._width - 1}],
                separator=self._delimiter,
                quote_char=None,
                schema_overrides=self._kinds(),
                infer_schema=False,
                ignore_errors=True,
                decimal_comma=form.decimal == ",",
            )
        except pl.exceptions.PolarsError:
            return None
        prices = frame[price].to_numpy()
        # A line that was passed over would make wrong numbers of the lines after it.
        if len(prices) != lines or not np.isfinite(prices).all():
            return None
        parts = [frame[str(index)] for index in self.columns.time]
        times = parts[0] if len(parts) == 1 else (parts[0] + " " + parts[1]) if parts else None
        symbols = [frame[str(index)] for index in self._symbol_index()]
        if any(cells.null_count() for cells in (*parts, *symbols)):
            return None
        return Rows(
            prices, times, symbols[0] if symbols else None, lambda row: f"line {line + row:,}"
        )

    def _kinds(self) -> dict[str, Any]:
        """Return the columns that polars reads as numbers; the others stay text."""
        import polars as pl

        columns = self.columns
        kinds: dict[str, Any] = {str(columns.price): pl.Float64}
        if columns.time_form is not None and columns.time_form.format is None:
            kind = pl.Int64 if columns.time_form.is_whole else pl.Float64
            kinds |= {str(index): kind for index in columns.time}
        return kinds

    def _careful(self, lines: Iterator[str], line: int) -> Iterator[Rows]:
        """Yield the rows of some lines, of which the first has the number ``line``."""
        reader = csv.reader(lines, delimiter=self._delimiter)
        rows = self._numbered(reader, line)
        while True:
            gathered = Gathered()
            for number, row in islice(rows, _CAREFUL_ROWS):
                self._gather(gathered, number, row)
            if not gathered.rows_read:
                return
            yield gathered.rows()

    def _numbered(self, reader: Any, line: int) -> Iterator[tuple[int, list[str]]]:
        try:
            for row in reader:
                if not is_blank(row) and not row[0].startswith(COMMENT):
                    yield line - 1 + reader.line_num, row
        except csv.Error as error:
            self._line = line - 1 + reader.line_num
            raise self._unreadable(error) from error

    def _gather(self, gathered: Gathered, number: int, row: list[str]) -> None:
        columns = self.columns
        gathered.rows_read += 1
        if max(self._used) >= len(row):
            missing = columns.price >= len(row)
            label = columns.label if missing else "the column of times or symbols"
            raise CliError(
                f"{self._name}, line {number:,}, {label}: the line has only {len(row)} of the "
                "columns."
            )
        if any(cell.strip() for cell in row[self._width :]):
            raise CliError(
                f"{self._name}, line {number:,}: the line has {len(row)} cells, more than the "
                f"{self._width} columns. If a comma is the sign before decimals, give --decimal ,"
            )
        cell = row[columns.price]
        try:
            price = self._options.number_form.parse(cell)
        except ValueError:
            if self._options.skips_gaps and cell.strip().casefold() in GAP_WORDS:
                gathered.gaps += 1
                return
            raise CliError(
                f"{self._name}, line {number:,}, {columns.label}: "
                f"{complaint(cell, self._options.number_form)}."
            ) from None
        time = " ".join(row[index] for index in columns.time) if columns.time else None
        symbol = None if columns.symbol is None else row[columns.symbol]
        gathered.add(price, number, time, symbol)


class Gathered:
    """Rows on their way to be :class:`Rows`."""

    def __init__(self) -> None:
        self.rows_read = self.gaps = 0
        self.prices: list[float] = []
        self.lines: list[int] = []
        self.times: list[str] = []
        self.symbols: list[str] = []

    def add(self, price: float, line: int, time: str | None, symbol: str | None) -> None:
        """Add a row."""
        self.prices.append(price)
        self.lines.append(line)
        if time is not None:
            self.times.append(time)
        if symbol is not None:
            self.symbols.append(symbol)

    def rows(self) -> Rows:
        """Return them."""
        import polars as pl

        times = pl.Series(self.times, dtype=pl.String) if self.times else None
        symbols = pl.Series(self.symbols, dtype=pl.String) if self.symbols else None
        lines = self.lines
        return Rows(
            np.array(self.prices), times, symbols, lambda row: f"line {lines[row]:,}", self.gaps
        )


def _blocks(stream: io.BufferedReader) -> Iterator[bytes]:
    """Yield the text as UTF-8, cut after the end of a line."""
    parts: Iterator[bytes] = iter(lambda: stream.read(BLOCK_BYTES), b"")
    if stream.peek(2).startswith(_UTF16_MAGIC):
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        parts = (decoder.decode(part).encode() for part in parts)
    rest, is_first = b"", True
    for part in parts:
        text = rest + (part.removeprefix(_UTF8_MAGIC) if is_first else part)
        is_first = False
        end = text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, -1) + 1
        rest = text[end:]
        if end:
            yield text[:end]
    if rest:
        yield rest


def _lines(block: bytes) -> Iterator[str]:
    # Only the prices need to be understood; stray bytes in other columns do no harm.
    return iter(io.StringIO(block.decode(errors="replace"), newline=""))


def _count_lines(block: bytes) -> int:
    ends = block.count(b"\n")
    if b"\r" in block:
        ends += block.count(b"\r") - block.count(b"\r\n")
    return ends + (not block.endswith((b"\n", b"\r")))


def _without_lines(block: bytes, count: int) -> bytes:
    lines = list(islice(io.BytesIO(block), count)) if b"\n" in block else []
    if lines:
        return block[sum(map(len, lines)) :]
    text = io.StringIO(block.decode(errors="replace"), newline="")
    for _ in range(count):
        text.readline()
    return text.read().encode()
