"""Rows of JSON lines: an object a line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.columns import find_columns
from financial_data_service.cli.price_files.csv_rows import Gathered
from financial_data_service.cli.price_files.numbers import GAP_WORDS, complaint
from financial_data_service.cli.price_files.options import ReadingOptions
from financial_data_service.cli.price_files.rows import Rows
from financial_data_service.cli.price_files.sources import reason_of

__all__ = ["JsonRows"]

_HEAD_LINES = 50
_BLOCK_ROWS = 50_000


class JsonRows:
    """The rows of a file of JSON lines, whose columns are the names in its first object.

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
        When the first lines are no objects, or the columns cannot be told.
    """

    form = "JSON lines"

    def __init__(self, name: str, stream: io.BufferedReader, options: ReadingOptions) -> None:
        self._name, self._options = name, options
        objects = self._objects(stream)
        head = list(islice(objects, _HEAD_LINES))
        names = list(head[0][1])
        sample = [[_text(each.get(key)) for key in names] for _, each in head]
        self.columns = find_columns(name, names, sample, options.column, options.symbol_column)
        self._rows = chain(head, objects)

    def _objects(self, stream: io.BufferedReader) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        try:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                # Numbers stay text, and are read by the same rules as those of other files.
                content = json.loads(line, parse_float=str, parse_int=str)
                if not isinstance(content, dict):
                    raise CliError(f"{self._name}, line {number:,}: expected a JSON object.")
                yield number, content
        except ValueError as error:
            raise CliError(
                f"{self._name}, line {number:,}: expected a JSON object, got: {reason_of(error)}."
            ) from error
        except CliError:
            raise
        except Exception as error:  # The errors of zlib, lzma, zipfile and zstd.
            raise CliError(
                f"Cannot read {self._name} after line {number:,}: {reason_of(error)}."
            ) from error

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows in the order of the file."""
        while True:
            gathered = Gathered()
            for number, content in islice(self._rows, _BLOCK_ROWS):
                self._gather(gathered, number, content)
            if not gathered.rows_read:
                return
            yield gathered.rows()

    def _gather(self, gathered: Gathered, number: int, content: dict[str, Any]) -> None:
        columns, form = self.columns, self._options.number_form
        names = columns.names or []
        gathered.rows_read += 1
        cell = _text(content.get(names[columns.price]))
        try:
            price = form.parse(cell)
        except ValueError:
            if self._options.skips_gaps and cell.strip().casefold() in GAP_WORDS:
                gathered.gaps += 1
                return
            raise CliError(
                f"{self._name}, line {number:,}, {columns.label}: {complaint(cell, form)}."
            ) from None
        time = " ".join(_text(content.get(names[index])) for index in columns.time)
        symbol = None if columns.symbol is None else _text(content.get(names[columns.symbol]))
        gathered.add(price, number, time if columns.time else None, symbol)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
