"""What a client gives back: frozen values, in the names of the service's own replies."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import pandas as pd


__all__ = [
    "Check",
    "Limits",
    "Numbers",
    "Readiness",
    "Receipt",
    "RefusedFile",
    "Stats",
    "Symbol",
    "Table",
    "Update",
]

Row = TypeVar("Row")

_ROWS_SHOWN_MAX = 60


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of prices that were added.

    Attributes
    ----------
    symbol : str
        Whose prices.
    added : int
        Prices added by this call: fewer than were given where some were stored already, by whom
        only the caller can know: with `from_sequence` also those of a batch that was sent again
        because its reply was lost.
    sequence : int
        Prices ever appended to the symbol, these included: where the next ones start.
    """

    symbol: str
    added: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics of one window of one symbol.

    Attributes
    ----------
    symbol : str
        Whose prices.
    k : int or None
        Exponent of the window; None when it was asked for by length.
    window : int
        Prices asked for: ``10**k``, or `last`.
    min, max, last, avg, var : float
        The numbers; ``var`` is the population variance.
    values : int
        Prices in the window; fewer than `window` while it fills.
    sequence : int
        Prices ever appended to the symbol: what the numbers are as of.
    """

    symbol: str
    k: int | None
    window: int
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int
    sequence: int

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return math.sqrt(self.var)

    @property
    def is_full(self) -> bool:
        """Whether the window holds as many prices as were asked for."""
        return self.values >= self.window


@dataclass(frozen=True, slots=True)
class Update(Stats):
    """Statistics of one window as a stream tells them.

    Attributes
    ----------
    stream : str
        The stream, as the service names it.
    is_snapshot : bool
        Whether it is the state at the time of subscribing rather than a change.
    """

    stream: str
    is_snapshot: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol and how much is held of it.

    Attributes
    ----------
    symbol : str
        Its name.
    sequence : int
        Prices ever appended to it.
    values : int
        Prices that are held: at most the largest window.
    """

    symbol: str
    sequence: int
    values: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a service: symbols kept, prices of the largest window, prices in one batch."""

    max_symbols: int
    largest_window: int
    batch_max: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """The five numbers of a window; None for what is no number, which only damage brings about."""

    min: float | None
    max: float | None
    last: float | None
    avg: float | None
    var: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """A window as it is served and as its prices say, both as of the same `sequence`.

    Attributes
    ----------
    equal : bool
        Whether min, max and last are the same, avg is within 1 unit of the last place of the exact
        mean, and var within 1e-14.
    served, recomputed : Numbers
        Both answers.
    """

    symbol: str
    k: int
    window: int
    values: int
    sequence: int
    equal: bool
    served: Numbers
    recomputed: Numbers


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file of the data directory that a service cannot serve, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a service serves; true in a condition when it does.

    Attributes
    ----------
    is_ready : bool
        Whether it answers requests.
    refused : tuple of RefusedFile
        Files that it serves the other symbols without.
    detail : str
        Why it is not ready; empty when it is.
    """

    is_ready: bool
    refused: tuple[RefusedFile, ...] = ()
    detail: str = ""

    def __bool__(self) -> bool:
        return self.is_ready


class Table(tuple[Row, ...], Generic[Row]):
    """Rows of one kind: a tuple that prints as a table and turns into a data frame."""

    __slots__ = ()

    def to_pandas(self) -> pd.DataFrame:
        """Return a :class:`pandas.DataFrame`, a line per row.

        Raises
        ------
        ModuleNotFoundError
            When pandas is not installed.
        """
        return import_pandas().DataFrame(self.to_dict())

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns by name: what pandas, polars and Arrow make a table of."""
        names = [field.name for field in fields(self[0])] if self else []  # type: ignore[arg-type]
        return {name: [getattr(row, name) for row in self] for name in names}

    def __repr__(self) -> str:
        if not self:
            return "Table()"
        shown = Table(self[:_ROWS_SHOWN_MAX])
        columns = [[name, *map(str, cells)] for name, cells in shown.to_dict().items()]
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in zip(*columns, strict=True)
        ]
        if len(self) > len(shown):
            lines.append(f"… {len(self) - len(shown)} more")
        return "\n".join(lines)


def import_pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        if error.name != "pandas":  # It is installed and broken.
            raise
        raise ModuleNotFoundError(
            "to_pandas needs pandas, which is not installed here: pip install pandas",
            name="pandas",
        ) from None
    return pandas
