"""Which columns of a table are the price, the time and the symbol."""

from __future__ import annotations

from dataclasses import dataclass

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.times import TimeForm, find_time_form

__all__ = ["PRICE_ALIASES", "Columns", "choose_column", "find_columns", "label_of"]

DEFAULT_COLUMN = "price"
PRICE_ALIASES = (
    "close", "last", "bid", "ask", "mid", "lastprice", "closeprice", "tradeprice", "px", "rate", "p"
)  # fmt: skip
"""Names of a column of prices where none is called ``price``; spaces and ``_-.`` do not count."""

_TIME_NAMES = (
    "timestamp", "time", "datetime", "date", "ts", "t", "opentime", "tradetime", "transacttime",
    "eventtime", "gmttime", "localtime", "unix", "exchangetimestamp", "closetime"
)  # fmt: skip
_SYMBOL_NAMES = ("symbol", "ticker", "instrument", "pair", "sym", "productid", "instrumentid")
NO_COLUMN = "none"
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Columns:
    """The chosen columns, counted from 0."""

    names: list[str] | None
    """Names of all columns; None if there are none."""
    price: int
    is_alias: bool
    """Whether the price's column was chosen since its name is usual for prices."""
    time: tuple[int, ...]
    """The column of times, or those of date and time of day; empty if there is none."""
    time_form: TimeForm | None
    symbol: int | None

    @property
    def label(self) -> str:
        """What sentences call the column of prices."""
        return label_of(self.names, self.price)


def find_columns(
    name: str,
    header: list[str] | None,
    rows: list[list[str]],
    price: str | None,
    symbol: str | None,
) -> Columns:
    """Choose the columns.

    Parameters
    ----------
    name : str
        What the file is called in sentences.
    header : list of str or None
        Names of the columns, if they have any.
    rows : list of list of str
        First rows of the file.
    price : str or None
        See :func:`choose_column`.
    symbol : str or None
        Column of symbols; None takes one of a usual name, ``none`` takes none.

    Raises
    ------
    CliError
        When the columns cannot be told.
    """
    first = rows[0] if rows else []
    price_index = choose_column(name, header, first, price)
    is_alias = (
        price is None
        and header is not None
        and len(header) > 1
        and header[price_index].casefold() != DEFAULT_COLUMN
    )
    time, form = _find_time(header, rows, price_index)
    return Columns(header, price_index, is_alias, time, form, _find_symbol(name, header, symbol))


def _find_symbol(name: str, header: list[str] | None, wanted: str | None) -> int | None:
    if wanted == NO_COLUMN:
        return None
    if wanted is not None:
        return choose_column(name, header, header or [], wanted, option="--symbol-column")
    names = [_plain(each) for each in header or []]
    return next((names.index(each) for each in _SYMBOL_NAMES if each in names), None)


def _find_time(
    header: list[str] | None, rows: list[list[str]], price: int
) -> tuple[tuple[int, ...], TimeForm | None]:
    names = [_plain(each) for each in header or []]
    named = [names.index(each) for each in _TIME_NAMES if each in names]
    if "date" in names and "time" in names:
        both = (names.index("date"), names.index("time"))
        form = find_time_form([f"{date} {time}" for date, time in _cells(rows, *both)],
                              is_named=False)  # fmt: skip
        if form is not None:
            return both, form
    width = max(len(names), *(len(row) for row in rows), 0) if rows else len(names)
    others = [each for each in range(width) if each not in named and not _is_id(names, each)]
    for index in [*named, *others]:
        if index == price:
            continue
        sample = [cell for (cell,) in _cells(rows, index)]
        form = find_time_form(sample, is_named=index in named)
        if form is not None:
            return (index,), form
    return (), None


def _is_id(names: list[str], index: int) -> bool:
    return index < len(names) and names[index].endswith("id")


def _cells(rows: list[list[str]], *indexes: int) -> list[tuple[str, ...]]:
    return [tuple(row[index] for index in indexes) for row in rows if max(indexes) < len(row)]


def choose_column(
    name: str,
    header: list[str] | None,
    first: list[str],
    wanted: str | None,
    option: str = "--column",
) -> int:
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
        A name has priority over a number counted from 1. None takes ``price``, or the only column
        with a name of :data:`PRICE_ALIASES`, or the only column.
    option : str
        The option that names the column.

    Raises
    ------
    CliError
        When there is no such column, or more than one; the sentence lists the columns.
    """
    names = header or []
    width = len(names) or len(first)
    matches = named_columns(names, DEFAULT_COLUMN if wanted is None else wanted)
    if wanted is None and not matches:
        matches = [index for index, each in enumerate(names) if _plain(each) in PRICE_ALIASES]
        matches = matches if len(matches) == 1 else []
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
    raise CliError(f"{name} {fault}; {kind} {listed}. Choose one by {option} NAME or NUMBER.")


def named_columns(names: list[str], wanted: str) -> list[int]:
    """Return the position of ``wanted``. Case matters only if two names differ by nothing else."""
    exact = [index for index, name in enumerate(names) if name == wanted]
    return exact or [i for i, name in enumerate(names) if name.casefold() == wanted.casefold()]


def _plain(name: str) -> str:
    return "".join(each for each in name.casefold() if each not in " _-.")


def label_of(header: list[str] | None, index: int) -> str:
    """Return what sentences call a column."""
    return f"column {header[index]!r}" if header else f"column {index + 1}"
