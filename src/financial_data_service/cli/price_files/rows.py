"""What a reader of a format yields: prices with what their order and their symbol are told by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from financial_data_service.cli.price_files.columns import Columns

if TYPE_CHECKING:
    import polars as pl

__all__ = ["RowReader", "Rows"]


@dataclass(frozen=True)
class Rows:
    """Some consecutive rows of a file."""

    prices: npt.NDArray[np.float64]
    times: pl.Series | None
    """Cells of the column of times: text, numbers or dates."""
    symbols: pl.Series | None
    """Cells of the column of symbols, as text."""
    place: Callable[[int], str]
    """Where a row stands, such as ``line 5``."""
    gaps: int = 0
    """Rows that were left out, since they hold no price."""


class RowReader(Protocol):
    """One file, open for reading once."""

    columns: Columns
    form: str
    """What was found of the file's form, for people."""

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows in the order of the file."""
