"""Read all files before anything is stored: every cell, the order, and whose prices they are."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from financial_data_service.cli.console import CliError, printable
from financial_data_service.cli.price_files.columns import label_of
from financial_data_service.cli.price_files.csv_rows import CsvRows
from financial_data_service.cli.price_files.json_rows import JsonRows
from financial_data_service.cli.price_files.options import STANDARD_INPUT, ReadingOptions
from financial_data_service.cli.price_files.order import RowOrder
from financial_data_service.cli.price_files.rows import RowReader, Rows
from financial_data_service.cli.price_files.sources import (
    Bytes,
    PriceSource,
    open_source,
)
from financial_data_service.cli.price_files.spool import Spool
from financial_data_service.cli.price_files.table_rows import (
    ARROW_MAGIC,
    PARQUET_MAGIC,
    TableRows,
)

__all__ = ["PriceFileReport", "Reading", "open_rows"]

_SHOWN_SYMBOLS = 5


@dataclass
class PriceFileReport:
    """What was found in one file."""

    name: str
    form: str
    price: str
    """The column of prices, as sentences call it."""
    is_alias: bool
    time: str | None
    symbol: str | None
    is_newest_first: bool = False
    rows: int = 0
    gaps: int = 0


@dataclass
class Reading:
    """The prices of some files, for each symbol in a spool, and what was found in each file.

    Parameters
    ----------
    stack : ExitStack
        Closes the spools.
    options : ReadingOptions
        How to read the files.
    symbol : str or None
        The symbol whose prices they are; None takes the symbols of the files.
    """

    stack: ExitStack
    options: ReadingOptions
    symbol: str | None
    spools: dict[str, Spool] = field(default_factory=dict)
    reports: list[PriceFileReport] = field(default_factory=list)
    _orders: dict[str, RowOrder] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Prices of all symbols."""
        return sum(map(len, self.spools.values()))

    @property
    def gaps(self) -> int:
        """Rows of all files that were left out, since they hold no price."""
        return sum(report.gaps for report in self.reports)

    def read(self, source: PriceSource, show: Callable[[Bytes], None]) -> None:
        """Read one file; ``show`` is called after each part.

        Raises
        ------
        CliError
            When a cell is no price, or the rows are in no order of time, or of other symbols.
        """
        with open_rows(source, self.options) as (reader, content):
            columns = reader.columns
            report = PriceFileReport(
                source.name,
                reader.form,
                columns.label,
                columns.is_alias,
                " and ".join(label_of(columns.names, each) for each in columns.time) or None,
                None if columns.symbol is None else label_of(columns.names, columns.symbol),
            )
            self._refuse_unnamed(report)
            starts = {symbol: len(spool) for symbol, spool in self.spools.items()}
            for rows in reader:
                self._take(reader, report, rows)
                report.rows += len(rows.prices)
                report.gaps += rows.gaps
                show(content)
        self.reports.append(report)
        for symbol, order in self._orders.items():
            if order.end_file(source.name):
                report.is_newest_first = True
                self.spools[symbol].reverse(starts.get(symbol, 0))

    def _refuse_unnamed(self, report: PriceFileReport) -> None:
        if self.symbol is None and report.symbol is None:
            raise CliError(
                f"{report.name} has no column of symbols. Say whose prices it holds: "
                "--symbol SYMBOL, or --symbol-column NAME or NUMBER."
            )

    def _take(self, reader: RowReader, report: PriceFileReport, rows: Rows) -> None:
        if rows.symbols is None or not len(rows.prices):
            self._store(reader, report.name, self.symbol or "", rows, None)
            return
        found = [str(each) for each in rows.symbols.unique(maintain_order=True)]
        if self.options.symbol_column is None:
            self._refuse_others(report, found)
            self._store(reader, report.name, self.symbol or found[0], rows, None)
            return
        for symbol in found:
            if self.symbol in {None, symbol}:
                mask = (rows.symbols == symbol).to_numpy()
                self._store(reader, report.name, symbol, rows, mask)

    def _refuse_others(self, report: PriceFileReport, found: list[str]) -> None:
        """Refuse symbols that are not the one asked for: BTCUSDT agrees with BTC/USDT."""
        others = [each for each in found if _letters(each) != _letters(self.symbol or "")]
        if not others:
            return
        shown = ", ".join(map(printable, found[:_SHOWN_SYMBOLS]))
        more = ", …" if len(found) > _SHOWN_SYMBOLS else ""
        name = report.symbol.removeprefix("column ").strip("'") if report.symbol else ""
        for_whom = f", not {self.symbol}" if self.symbol else ""
        raise CliError(
            f"{report.name} holds prices of {shown}{more}{for_whom}, says its {report.symbol}. "
            f"--symbol-column {name} loads each symbol into its own; with --symbol, only that "
            f"one. --symbol-column none ignores the column."
        )

    def _store(
        self, reader: RowReader, name: str, symbol: str, rows: Rows, mask: np.ndarray | None
    ) -> None:
        self._check_order(reader, name, symbol, rows, mask)
        if symbol not in self.spools:
            self.spools[symbol] = Spool(self.stack)
        self.spools[symbol].append(rows.prices if mask is None else rows.prices[mask])

    def _check_order(
        self, reader: RowReader, name: str, symbol: str, rows: Rows, mask: np.ndarray | None
    ) -> None:
        form = reader.columns.time_form
        if rows.times is None or form is None or self.options.keeps_file_order:
            return
        keys, is_bad = form.keys(rows.times)
        if is_bad.any():
            row = int(np.argmax(is_bad))
            raise CliError(
                f"{name}, {rows.place(row)}: {str(rows.times[row])!r} is not a time of the form "
                "of the rows before it. --order file takes the rows as they stand."
            )
        kept = np.arange(len(keys)) if mask is None else np.flatnonzero(mask)
        order = self._orders.setdefault(symbol, RowOrder())
        order.check(name, keys[kept], lambda row: rows.place(int(kept[row])))


def _letters(symbol: str) -> str:
    return "".join(each for each in symbol.casefold() if each.isalnum())


@contextmanager
def open_rows(source: PriceSource, options: ReadingOptions) -> Iterator[tuple[RowReader, Bytes]]:
    """Open a file and find its format by its first bytes.

    Raises
    ------
    CliError
        When there is no such file, or it is none of prices.
    """
    with ExitStack() as stack:
        content = stack.enter_context(open_source(source))
        yield _reader(source, content, options, stack), content


def _reader(
    source: PriceSource, content: Bytes, options: ReadingOptions, stack: ExitStack
) -> RowReader:
    _require_polars()
    stream: io.BufferedReader = content.stream
    head = stream.peek(len(ARROW_MAGIC))
    if head.startswith((PARQUET_MAGIC, ARROW_MAGIC)):
        is_plain = source.path != STANDARD_INPUT and stream is content.raw
        return TableRows(source.name, stream, options, stack, source.path if is_plain else None)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return JsonRows(source.name, stream, options)
    return CsvRows(source.name, stream, options)


def _require_polars() -> None:
    try:
        import polars  # noqa: F401
    except ImportError as error:
        raise CliError(
            "Reading files of prices needs polars: make install in a checkout, or "
            "pip install 'financial-data-service[files]'."
        ) from error
