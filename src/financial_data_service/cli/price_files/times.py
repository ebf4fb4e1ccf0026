"""Cells that are times: which form a column has, and numbers that order its cells."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TimeForm", "find_time_form", "looks_like_time"]

_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y",
          "%d-%m-%Y")  # fmt: skip
_CLOCKS = ("%H:%M:%S%.f", "%H:%M", "%H%M%S%3f", "%H%M%S")
_ZONES = ("", "Z", " UTC", "%#z", " %#z")
_FORMATS = (
    *_DATES,
    *(
        f"{date}{between}{clock}{zone}"
        for date, between, clock, zone in product(_DATES, " T", _CLOCKS, _ZONES)
    ),
)
# Seconds, milliseconds, microseconds or nanoseconds since 1970, of the years 1990 to 2100.
_EPOCH_SECONDS = (631_152_000, 4_102_444_800)
_EPOCH_UNITS = (1, 10**3, 10**6, 10**9)


@dataclass(frozen=True)
class TimeForm:
    """How the cells of a column tell the time.

    Parameters
    ----------
    format : str or None
        Format of a date, in chrono's notation; None for numbers.
    is_whole : bool
        Whether the numbers are integers.
    """

    format: str | None
    is_whole: bool = False

    def keys(self, cells: pl.Series) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return numbers in the order of the times, and which cells cannot be read."""
        import polars as pl

        if cells.dtype == pl.String:
            cells = cells.str.strip_chars()
            if self.format is not None:
                cells = cells.str.to_datetime(self.format, strict=False, time_unit="ns")
            else:
                cells = cells.cast(pl.Int64 if self.is_whole else pl.Float64, strict=False)
        elif cells.dtype.is_temporal():
            cells = cells.to_physical()
        if cells.dtype.is_temporal():
            cells = cells.cast(pl.Int64)
        return cells.fill_null(0).to_numpy(), cells.is_null().to_numpy()


def find_time_form(sample: list[str], *, is_named: bool) -> TimeForm | None:
    """Return the form of a column of times, or None if it holds none.

    Parameters
    ----------
    sample : list of str
        First cells of the column.
    is_named : bool
        Whether its name says that it holds times: then any numbers do.
    """
    cells = [cell.strip() for cell in sample if cell.strip()]
    if not cells:
        return None
    numbers = _numbers(cells)
    if numbers is not None and (is_named or all(map(_is_epoch, numbers))):
        return TimeForm(None, all(isinstance(number, int) for number in numbers))
    return _dates(cells)


def _dates(cells: list[str]) -> TimeForm | None:
    import polars as pl

    if not all(cell[:1].isdigit() and len(cell) >= 8 for cell in cells):
        return None
    column = pl.Series(cells)
    found = []
    for format in _FORMATS:
        form = TimeForm(format)
        try:
            keys, is_bad = form.keys(column)
        except pl.exceptions.PolarsError:
            continue
        if not is_bad.any():
            steps = np.diff(keys)
            found.append((form, bool((steps >= 0).all() or (steps <= 0).all())))
    # 01/02/2026 may be January or February: the order of the rows tells.
    ordered = [form for form, is_ordered in found if is_ordered]
    return next(iter(ordered or [form for form, _ in found]), None)


def looks_like_time(cell: str) -> bool:
    """Whether a cell by itself looks like a date."""
    cell = cell.strip()
    return sum(each.isdigit() for each in cell) >= 6 and any(each in cell for each in "-/:. ")


def _numbers(cells: list[str]) -> list[int | float] | None:
    try:
        return [int(cell) if cell.lstrip("+-").isdecimal() else float(cell) for cell in cells]
    except ValueError:
        return None


def _is_epoch(number: float) -> bool:
    first, last = _EPOCH_SECONDS
    return any(first * unit <= number <= last * unit for unit in _EPOCH_UNITS)
