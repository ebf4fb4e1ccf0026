"""Rows of Parquet and Arrow (Feather) files, of which only the needed columns are read."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.columns import find_columns
from financial_data_service.cli.price_files.numbers import complaint
from financial_data_service.cli.price_files.options import ReadingOptions
from financial_data_service.cli.price_files.rows import Rows
from financial_data_service.cli.price_files.sources import large_temporary_file, reason_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ARROW_MAGIC", "PARQUET_MAGIC", "TableRows"]

PARQUET_MAGIC = b"PAR1"
ARROW_MAGIC = b"ARROW1"

_BLOCK_ROWS = 500_000
_SAMPLE_ROWS = 50


class TableRows:
    """The rows of a Parquet or Arrow file.

    Parameters
    ----------
    name : str
        What the file is called in sentences.
    stream : BufferedReader
        Its bytes. What is no plain file, such as a member of an archive, is copied to one.
    options : ReadingOptions
        How to read them.
    stack : ExitStack
        Closes the copy.
    path : str or None
        The file, if the bytes are those of a plain one.

    Raises
    ------
    CliError
        When the file is damaged, or its columns cannot be told or hold no numbers.
    """

    def __init__(
        self,
        name: str,
        stream: io.BufferedReader,
        options: ReadingOptions,
        stack: ExitStack,
        path: str | None,
    ) -> None:
        import polars as pl

        is_parquet = stream.peek(len(PARQUET_MAGIC)).startswith(PARQUET_MAGIC)
        self.form = "Parquet" if is_parquet else "Arrow (Feather)"
        self._name, self._options = name, options
        with self._reading():
            file: Any = path if path is not None else _copy(stream, stack)
            self._frame = pl.scan_parquet(file) if is_parquet else pl.scan_ipc(file)
            schema = self._frame.collect_schema()
            sample = self._frame.head(_SAMPLE_ROWS).collect()
            self._rows_total = self._frame.select(pl.len()).collect().item()
        texts = [[str(cell) for cell in row] for row in sample.rows()]
        names = schema.names()
        self.columns = find_columns(name, names, texts, options.column, options.symbol_column)
        self._price = names[self.columns.price]
        kind = schema[self._price]
        if not kind.is_numeric():
            raise CliError(f"{name}, {self.columns.label}: expected numbers, got {kind}.")

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows in the order of the file."""
        import polars as pl

        names = self.columns.names or []
        used = {names[self.columns.price], *(names[index] for index in self.columns.time)}
        if self.columns.symbol is not None:
            used.add(names[self.columns.symbol])
        for start in range(0, self._rows_total, _BLOCK_ROWS):
            with self._reading():
                frame = self._frame.select(sorted(used)).slice(start, _BLOCK_ROWS).collect()
            numbers = frame[self._price]
            if numbers.dtype.is_decimal():
                # By way of the text: a division of two float64 would round twice.
                numbers = numbers.cast(pl.String)
            prices = numbers.cast(pl.Float64).fill_null(np.nan).to_numpy()
            rows = np.arange(start, start + len(prices))
            kept = np.isfinite(prices)
            if not kept.all():
                self._refuse_or_skip(frame[self._price], prices, start)
                frame, prices, rows = frame.filter(kept), prices[kept], rows[kept]
            yield self._rows(frame, prices, rows, int((~kept).sum()))

    def _rows(self, frame: pl.DataFrame, prices: Any, rows: Any, gaps: int) -> Rows:
        import polars as pl

        names = self.columns.names or []
        parts = [frame[names[index]] for index in self.columns.time]
        if len(parts) == 2:
            parts = [parts[0].cast(pl.String) + " " + parts[1].cast(pl.String)]
        symbols = None
        if self.columns.symbol is not None:
            symbols = frame[names[self.columns.symbol]].cast(pl.String).fill_null("")
        times = parts[0] if parts else None
        return Rows(prices, times, symbols, lambda row: f"row {rows[row] + 1:,}", gaps)

    def _refuse_or_skip(self, cells: pl.Series, prices: Any, start: int) -> None:
        faulty = ~np.isfinite(prices) & ~(np.isnan(prices) & self._options.skips_gaps)
        if faulty.any():
            row = int(np.argmax(faulty))
            cell = cells[row]
            text = "" if cell is None else str(cell)
            raise CliError(
                f"{self._name}, row {start + row + 1:,}, {self.columns.label}: "
                f"{complaint(text, self._options.number_form)}."
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        import polars as pl

        try:
            yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            reason = reason_of(error).splitlines()[0]
            raise CliError(f"{self._name} is not a sound {self.form} file: {reason}.") from error


def _copy(stream: io.BufferedReader, stack: ExitStack) -> Any:
    copy = large_temporary_file(stack)
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy
