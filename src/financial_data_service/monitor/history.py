"""The history of one symbol: a table of samples over time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from financial_data_service.monitor.snapshot import DECIMALS_MIN, SymbolSnapshot

__all__ = ["SAMPLES_MAX", "SAMPLE_SECONDS", "History"]

SAMPLE_SECONDS = 0.5
SAMPLES_MAX = 360
"""Three minutes: as much as a plot of this width can tell apart."""

RATE_SAMPLES = 4
"""Samples that a rate is over: fewer would show the batches, more hide a standstill."""

_TIME, _SEQUENCE, _HELD, _LAST, _RATE, _DECIMALS = range(6)
_FIRST = 6
_OF_WINDOW = ("avg", "std", "min", "max")


class History:
    """Samples of one symbol, the oldest of which give way.

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

    def add(
        self,
        now: float,
        symbol: SymbolSnapshot | None,
        largest_window: int,
        decimals: int = DECIMALS_MIN,
    ) -> None:
        """Add what is known now, None if nothing is. `now` in seconds of the epoch.

        `decimals` are those that prices have had since the sample before.
        """
        if self._count == SAMPLES_MAX:
            self._table[:-1] = self._table[1:]
            self._count -= 1
        row = self._table[self._count]
        row[:] = math.nan
        row[_TIME] = now
        row[_DECIMALS] = decimals
        if symbol is not None:
            row[_SEQUENCE] = symbol.sequence
            row[_HELD] = min(symbol.sequence, largest_window)
            row[_LAST] = symbol.last
            for k, window in symbol.windows.items():
                begin = _FIRST + len(_OF_WINDOW) * (k - 1)
                row[begin : begin + len(_OF_WINDOW)] = (
                    *(window["avg"], math.sqrt(window["var"])),
                    *(window["min"], window["max"]),
                )
        self._count += 1
        row[_RATE] = self._rate()

    def _rate(self) -> float:
        """Prices per second over the last samples; NaN where one end is not known."""
        last = self._count - 1
        first = max(0, last - RATE_SAMPLES)
        added = self._table[last, _SEQUENCE] - self._table[first, _SEQUENCE]
        seconds = self._table[last, _TIME] - self._table[first, _TIME]
        return max(0.0, float(added / seconds)) if seconds > 0 and added == added else math.nan

    @property
    def rate(self) -> float:
        """The newest rate, in prices per second; NaN while it is not known."""
        return float(self._table[self._count - 1, _RATE]) if self._count else math.nan

    @property
    def decimals(self) -> int:
        """Decimals that show the prices of all samples."""
        return int(self._table[: self._count, _DECIMALS].max(initial=DECIMALS_MIN))

    def frozen(self) -> npt.NDArray[np.float64]:
        """Return a copy of the samples there are."""
        return self._table[: self._count].copy()

    @staticmethod
    def columns(
        table: npt.NDArray[np.float64], ks: list[int], decimals: int | None = None
    ) -> dict[str, Any]:
        """Return what :meth:`frozen` gave as lists by name, ready for JSON: NaN as None.

        With `decimals`, prices are rounded to so many: shorter by half.
        """
        if decimals is not None:
            table = table.round(decimals)
        lists = {
            "times": [round(1000 * time) for time in table[:, _TIME].tolist()],
            "last": _listed(table[:, _LAST]),
            "held": _listed(table[:, _HELD]),
            "rate": _listed(table[:, _RATE]),
        }
        windows = []
        for k in ks:
            begin = _FIRST + len(_OF_WINDOW) * (k - 1)
            columns = {name: _listed(table[:, begin + i]) for i, name in enumerate(_OF_WINDOW)}
            windows.append({"k": k, "window": 10**k, **columns})
        return {**lists, "windows": windows}


def _listed(column: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in column.tolist()]
