"""The history of one symbol: a table of samples over time. A value that was not known is NaN.

time | sequence | held | last | rate | avg std min max of k = 1 | of k = 2 | …
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from financial_data_service.monitor.snapshot import SymbolSnapshot

__all__ = ["SAMPLES_MAX", "SAMPLE_SECONDS", "History", "columns"]

# These three constants have the same values in the service's own page (board.js).
SAMPLE_SECONDS = 0.5
SAMPLES_MAX = 360
"""Maximum number of samples: three minutes, which is what a plot of this width can show."""
RATE_SAMPLES = 4
"""Number of sample intervals over which a rate is computed.

With fewer, single batches would be visible. With more, a standstill would be hidden.
"""

DIGITS = 12
"""Significant digits of statistics in a plot; all 17 would double what is sent."""

_TIME, _SEQUENCE, _HELD, _LAST, _RATE = range(5)
_FIRST = 5
_OF_WINDOW = ("avg", "std", "min", "max")


class History:
    """Samples of one symbol, :data:`SAMPLES_MAX` at most.

    Parameters
    ----------
    k_max : int
        Number of windows.
    """

    def __init__(self, k_max: int) -> None:
        self._table = np.full((SAMPLES_MAX, _FIRST + len(_OF_WINDOW) * k_max), math.nan)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, now: float, symbol: SymbolSnapshot | None, largest_window: int) -> None:
        """Add a sample at `now` (seconds since the epoch).

        `symbol` is None if its state is not known.
        """
        if self._count == SAMPLES_MAX:
            self._table[:-1] = self._table[1:]
            self._count -= 1
        row = self._table[self._count]
        row[:] = math.nan
        row[_TIME] = now
        if symbol is not None:
            row[_SEQUENCE] = symbol.sequence
            row[_HELD] = min(symbol.sequence, largest_window)
            row[_LAST] = symbol.last
            for k, stats in symbol.windows.items():
                begin = _FIRST + len(_OF_WINDOW) * (k - 1)
                row[begin : begin + len(_OF_WINDOW)] = stats.avg, stats.std, stats.min, stats.max
        self._count += 1
        row[_RATE] = self._rate()

    def _rate(self) -> float:
        """Return the prices per second over the last samples; NaN where one end is not known."""
        last = self._count - 1
        first = max(0, last - RATE_SAMPLES)
        added = self._table[last, _SEQUENCE] - self._table[first, _SEQUENCE]
        seconds = self._table[last, _TIME] - self._table[first, _TIME]
        return max(0.0, float(added / seconds)) if seconds > 0 and added == added else math.nan

    def frozen(self) -> npt.NDArray[np.float64]:
        """Return a copy of the samples."""
        return self._table[: self._count].copy()


def columns(table: npt.NDArray[np.float64], ks: Sequence[int]) -> dict[str, Any]:
    """Return the samples as lists by name, ready for JSON: NaN as None.

    Parameters
    ----------
    table : array
        As :meth:`History.frozen` returns it.
    ks : sequence of int
        The windows to include, as powers of ten. Their statistics are rounded to 12 digits.
    """
    windows = []
    for k in ks:
        begin = _FIRST + len(_OF_WINDOW) * (k - 1)
        rounded = _rounded(table[:, begin : begin + len(_OF_WINDOW)])
        lists = {name: _listed(rounded[:, i]) for i, name in enumerate(_OF_WINDOW)}
        windows.append({"k": k, "window": 10**k, **lists})
    return {
        "times": [round(1000 * time) for time in table[:, _TIME].tolist()],
        "last": _listed(table[:, _LAST]),
        "held": _listed(table[:, _HELD]),
        "rate": _listed(table[:, _RATE]),
        "windows": windows,
    }


def _rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round to :data:`DIGITS` significant digits. Zero, NaN and infinity are returned unchanged."""
    with np.errstate(all="ignore"):
        scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(values))))
        rounded = np.round(values * scale) / scale
    return np.where(np.isfinite(rounded), rounded, values)


def _listed(column: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in column.tolist()]
