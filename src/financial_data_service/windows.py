"""Windows: which lengths there are, checked in one place, and the statistics of one window.

A window is the newest prices of a symbol: ``10**k`` of them, or any other number, ``last``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from financial_data_service.errors import WindowSizeError

__all__ = ["WindowStats", "check_exponent", "check_length", "k_max_of"]


class WindowStats(NamedTuple):
    """Statistics of one window.

    Attributes
    ----------
    window : int
        Length of the window in prices, as asked for.
    min, max, last : float
        Smallest, largest and newest price of the window, bit for bit as they were appended.
    avg : float
        Arithmetic mean, within 1 ulp; where prices of both signs cancel to less than 2^-40 of
        their size, within 2^-80 of the largest.
    var : float
        Population variance (ddof 0), within 1e-14 relative, or four times the smallest double
        (5e-324) where that is more; never negative, and exactly 0 when all prices are equal.
    values : int
        Number of prices in the window; fewer than `window` while it fills.
    sequence : int
        Number of prices ever appended to the symbol, up to the newest one in the window.
    """

    window: int
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int
    sequence: int

    @property
    def k(self) -> int | None:
        """Exponent of a window of ``10**k`` prices; None for every other length."""
        k = k_max_of(self.window)
        return k if k > 0 and 10**k == self.window else None

    @property
    def std(self) -> float:
        """Population standard deviation: the square root of ``var``, rounded once."""
        return math.sqrt(self.var)

    @property
    def is_full(self) -> bool:
        """Whether the window holds as many prices as were asked for."""
        return self.values >= self.window


def check_exponent(k: int, largest_window: int) -> None:
    """Check that there is a window of ``10**k`` prices.

    Raises
    ------
    WindowSizeError
        When k is less than 1, or ``10**k`` is more than `largest_window`.
    """
    k_max = k_max_of(largest_window)
    if not 1 <= k <= k_max:
        raise WindowSizeError(f"Window size exponent (k={k}) must be between 1 and {k_max}")


def check_length(last: int, largest_window: int) -> None:
    """Check that there is a window of the `last` prices.

    Raises
    ------
    WindowSizeError
        When the length is less than 1 or more than `largest_window`.
    """
    if not 1 <= last <= largest_window:
        raise WindowSizeError(f"Window size (last={last}) must be between 1 and {largest_window}")


def k_max_of(largest_window: int) -> int:
    """Return the largest k with ``10**k <= largest_window``."""
    return len(str(largest_window)) - 1
