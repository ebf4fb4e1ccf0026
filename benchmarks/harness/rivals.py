"""What a user would take instead, written the way it is usually written, and with care.

Each returns ``(min, max, avg, var)`` of the last prices, population variance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl

__all__ = [
    "Answer",
    "Deques",
    "assert_close",
    "numpy_recompute",
    "pandas_rolling",
    "polars_rolling",
]

Answer = tuple[float, float, float, float]


def numpy_recompute(prices: npt.NDArray[np.float64]) -> Answer:
    """Recompute over the window. O(n) a query, nothing at an append."""
    return float(prices.min()), float(prices.max()), float(prices.mean()), float(prices.var())


def pandas_rolling(prices: npt.NDArray[np.float64]) -> Answer:
    """Roll over the window's prices and take the last row. O(n) a query."""
    rolling = pd.Series(prices).rolling(len(prices))
    columns = (rolling.min(), rolling.max(), rolling.mean(), rolling.var(ddof=0))
    least, greatest, avg, var = (float(column.iloc[-1]) for column in columns)
    return least, greatest, avg, var


def polars_rolling(prices: npt.NDArray[np.float64]) -> Answer:
    """Roll over the window's prices and take the last row. O(n) a query."""
    series, length = pl.Series(prices), len(prices)
    return (
        float(series.rolling_min(length)[-1]),
        float(series.rolling_max(length)[-1]),
        float(series.rolling_mean(length)[-1]),
        float(series.rolling_var(length, ddof=0)[-1]),
    )


class _Window:
    """One window: its prices, candidates for both extremes, running sums. O(1) amortised."""

    __slots__ = ("count", "length", "maxima", "minima", "prices", "squares", "total")

    def __init__(self, length: int) -> None:
        self.length = length
        self.count = 0
        self.total = self.squares = 0.0
        self.prices: deque[float] = deque()
        self.minima: deque[tuple[int, float]] = deque()
        self.maxima: deque[tuple[int, float]] = deque()

    def append(self, price: float) -> None:
        index, minima, maxima = self.count, self.minima, self.maxima
        self.count += 1
        while minima and minima[-1][1] >= price:
            minima.pop()
        minima.append((index, price))
        while maxima and maxima[-1][1] <= price:
            maxima.pop()
        maxima.append((index, price))
        self.prices.append(price)
        self.total += price
        self.squares += price * price
        if len(self.prices) > self.length:
            oldest = self.prices.popleft()
            self.total -= oldest
            self.squares -= oldest * oldest
            outside = index - self.length
            if minima[0][0] <= outside:
                minima.popleft()
            if maxima[0][0] <= outside:
                maxima.popleft()

    def answer(self) -> Answer:
        count = len(self.prices)
        avg = self.total / count
        var = max(0.0, self.squares / count - avg * avg)
        return self.minima[0][1], self.maxima[0][1], avg, var


class Deques:
    """Monotonic deques and running sums for each of eight windows, in plain Python.

    The usual solution: fixed windows only, every price kept once a window, and a variance from
    running sums that drifts.
    """

    def __init__(self) -> None:
        self._windows = [_Window(10**k) for k in range(1, 9)]

    def append(self, prices: Sequence[float]) -> None:
        """Append prices, oldest first."""
        for price in prices:
            for window in self._windows:
                window.append(price)

    def stats(self, k: int) -> Answer:
        """Return the statistics of the last ``10**k`` prices."""
        return self._windows[k - 1].answer()

    def held(self, k: int) -> npt.NDArray[np.float64]:
        """Return the prices of the window of ``10**k``."""
        return np.array(self._windows[k - 1].prices)


def assert_close(answer: Sequence[float], expected: Sequence[float], var_tolerance: float) -> None:
    """Check a rival's answer, so that nobody is compared with a mistake.

    Extremes must be equal, the mean within 1e-9; the variance within what the method can do.

    Raises
    ------
    AssertionError
        When it is wrong.
    """
    assert tuple(answer[:2]) == tuple(expected[:2]), (answer, expected)
    assert abs(answer[2] - expected[2]) <= 1e-9 * abs(expected[2]), (answer, expected)
    assert abs(answer[3] - expected[3]) <= var_tolerance * expected[3], (answer, expected)
