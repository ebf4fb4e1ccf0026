"""Results of the client: frozen dataclasses, with the field names of the service's replies."""

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
    """The result of adding prices.

    Attributes
    ----------
    symbol : str
        Whose prices.
    added : int
        Number of prices added by this call; fewer than given if some were stored already. With
        `from_sequence` these may include prices of a batch that was sent again after a lost reply.
    sequence : int
        Number of prices ever appended to the symbol, these included.
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
        Exponent of the window; None if it was requested by length.
    window : int
        Length of the window: ``10**k``, or `last`.
    min, max, last, avg, var : float
        The numbers; ``var`` is the population variance.
    values : int
        Number of prices in the window; fewer than `window` while it fills.
    sequence : int
        Number of prices ever appended to the symbol, up to the newest in the window.
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
    """An update of a stream: the statistics of one window.

    Attributes
    ----------
    stream : str
        Name of the stream, as the service gives it.
    is_snapshot : bool
        Whether this is the state at the time of subscribing, and not a change.
    """

    stream: str
    is_snapshot: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol and the number of its prices.

    Attributes
    ----------
    symbol : str
        Its name.
    sequence : int
        Number of prices ever appended.
    values : int
        Number of prices held, at most the largest window.
    """

    symbol: str
    sequence: int
    values: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a service: symbols, prices in the largest window, prices in one batch."""

    max_symbols: int
    largest_window: int
    batch_max: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """The five statistics of a window; None for NaN or infinity, which only damage produces."""

    min: float | None
    max: float | None
    last: float | None
    avg: float | None
    var: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """A served window beside the recomputed one, both at the same `sequence`.

    Attributes
    ----------
    equal : bool
        Whether min, max and last are the same, avg is within 1 unit in the last place of the exact
        mean, and var is within 1e-14.
    served, recomputed : Numbers
        Both results.
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
    """A file of the data directory that a service cannot serve, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a service serves. True in a condition if it does.

    Attributes
    ----------
    is_ready : bool
        Whether the service answers requests.
    refused : tuple of RefusedFile
        Files that it cannot serve. All other symbols are served.
    detail : str
        Why it is not ready; empty if it is.
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
        """Return a :class:`pandas.DataFrame` with the same rows.

        Raises
        ------
        ModuleNotFoundError
            When pandas is not installed.
        """
        return import_pandas().DataFrame(self.to_dict())

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns by name, from which pandas, polars and Arrow make a table."""
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
        if error.name != "pandas":  # pandas is installed, and broken.
            raise
        raise ModuleNotFoundError(
            "to_pandas needs pandas, which is not installed here: pip install pandas",
            name="pandas",
        ) from None
    return pandas
