"""The layout of a text of separated values: where its rows begin, its delimiter, its header."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.columns import (
    DEFAULT_COLUMN,
    PRICE_ALIASES,
    named_columns,
)
from financial_data_service.cli.price_files.numbers import NumberForm, is_number, shortened
from financial_data_service.cli.price_files.times import looks_like_time

__all__ = ["COMMENT", "Layout", "find_layout", "is_blank", "sniff_delimiter"]

COMMENT = "#"
# From the rarer to the commoner inside of a cell: 1,12;1,13 has two columns, not three.
_DELIMITERS = "\t;|,"
_TAIL_ROWS = 3
_SHOWN_LINES = 6


@dataclass(frozen=True)
class Layout:
    """Where the rows are, and what separates their cells."""

    delimiter: str
    header: list[str] | None
    first_line: int
    """Number of the first line of data, from 1."""
    sample: list[list[str]]
    """The first rows of data."""


def find_layout(
    name: str, lines: list[str], wanted: str | None, form: NumberForm, skip_lines: int
) -> Layout:
    """Find the layout of a file from its first lines.

    Lines above the table are left out where that is certain: comments, blank lines, a line that is
    a URL, and lines that have another number of cells than all lines of the table.

    Raises
    ------
    CliError
        When the file is empty, or its header is not certain.
    """
    delimiters = _DELIMITERS.replace(form.decimal, "")
    numbered = [
        (number, line)
        for number, line in enumerate(lines, start=1)
        if number > skip_lines and line.strip() and not line.lstrip().startswith(COMMENT)
    ]
    if not numbered:
        raise CliError(f"{name} is empty.")
    if "://" in numbered[0][1] and len(numbered) > 1:
        del numbered[0]
    delimiter, start = _cut([line for _, line in numbered], delimiters)
    rows = list(_parsed(numbered[start:], delimiter))
    is_text = [_is_text(row, wanted, form) for _, row in rows]
    headers = is_text.index(False) if False in is_text else len(rows)
    if headers == len(rows):
        headers = min(headers, 1)  # Nothing but words: the first line names columns without rows.
    header = _header(name, [row for _, row in rows[:headers]], wanted, lines)
    # The line after the header may be a blank one or a comment; the reader passes over it.
    first_line = rows[headers - 1][0] + 1 if headers else numbered[start][0]
    return Layout(delimiter, header, first_line, [row for _, row in rows[headers:]])


def _cut(lines: list[str], delimiters: str) -> tuple[str, int]:
    """Return the delimiter and the index of the table's first line."""
    for delimiter in delimiters:
        widths = _widths(lines, delimiter)
        if len(set(widths)) == 1 and widths[0] > 1:
            return delimiter, 0
    for delimiter in delimiters:
        widths = _widths(lines, delimiter)
        if len(widths) != len(lines) or widths[-1] < 2:
            continue
        start = len(widths)
        while start and widths[start - 1] == widths[-1]:
            start -= 1
        if (
            len(widths) - start >= _TAIL_ROWS
            and not any(is_number(line.strip()) for line in lines[:start])
            and all(width < widths[-1] for width in widths[:start])
        ):
            return delimiter, start
    return sniff_delimiter(lines, delimiters), 0


def sniff_delimiter(lines: list[str], delimiters: str = _DELIMITERS) -> str:
    """Return the delimiter that cuts ``lines`` into equally many cells, more than one."""
    widths = {delimiter: _widths(lines, delimiter) for delimiter in delimiters}
    for delimiter, counts in widths.items():
        if len(set(counts)) == 1 and counts[0] > 1:
            return delimiter
    # Ragged lines, or one column: the first line decides.
    return max(reversed(delimiters), key=lambda delimiter: widths[delimiter][:1] or [0])


def _widths(lines: list[str], delimiter: str) -> list[int]:
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return []
    return [len(row) for row in rows if not is_blank(row)]


def _parsed(numbered: list[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in numbered), delimiter=delimiter)
    try:
        for row in reader:
            if not is_blank(row):
                yield numbered[reader.line_num - 1][0], [cell.strip() for cell in row]
    except csv.Error:  # The reader of all rows says where.
        return


def is_blank(row: list[str]) -> bool:
    """Whether a row is a blank line."""
    return not row or (len(row) == 1 and (not row[0] or row[0].isspace()))


def _is_text(row: list[str], wanted: str | None, form: NumberForm) -> bool:
    """Whether a row names columns: it is the name asked for, or no cell is a number or a time."""
    if wanted is not None and not is_number(wanted) and wanted in row:
        return True
    return not any(is_number(cell) or _parses(cell, form) or looks_like_time(cell) for cell in row)


def _parses(cell: str, form: NumberForm) -> bool:
    for each in (form, NumberForm(","), NumberForm(".", ","), NumberForm(",", ".")):
        try:
            each.parse(cell)
        except ValueError:
            continue
        return True
    return False


def _header(
    name: str, rows: list[list[str]], wanted: str | None, lines: list[str]
) -> list[str] | None:
    if len(rows) <= 1:
        return rows[0] if rows else None
    sought = [wanted] if wanted is not None else [DEFAULT_COLUMN, *PRICE_ALIASES]
    for each in sought:
        having = [row for row in rows if named_columns(row, each)]
        if len(having) == 1:
            return having[0]
    shown = "\n".join(
        f"  {number}: {shortened(line.rstrip())[1:-1]}"
        for number, line in enumerate(lines[:_SHOWN_LINES], start=1)
    )
    raise CliError(
        f"{name} has {len(rows)} lines of words before its first number, and none of them names "
        f"one column {' or '.join(map(repr, sought[:2]))}. --skip-lines N leaves out the first N "
        f"lines, --column NAME or NUMBER chooses the column. It begins:\n{shown}"
    )
