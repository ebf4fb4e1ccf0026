"""Windows: which exponents k and lengths there are, and the statistics of one window."""

from __future__ import annotations

from typing import NamedTuple

from financial_data_service.errors import WindowSizeError

__all__ = ["WindowStats"]


class WindowStats(NamedTuple):
    """Statistics of a window.

    Attributes
    ----------
    min, max, last : float
        Smallest, largest and newest price of the window, bitwise as they came.
    avg : float
        Arithmetic mean, within 1 ulp; where prices of both signs cancel to less than 2^-40 of
        their size, within 2^-80 of the largest.
    var : float
        Population variance (ddof 0), within 1e-14 relative, or four times the smallest double
        (5e-324) where that is more; never negative, and exactly 0 when all prices are equal.
    values : int
        Number of prices in the window: less than its length while it fills.
    sequence : int
        Number of prices ever appended: what the answer is as of.
    """

    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int
    sequence: int


def check_exponent(k: int, largest_window: int) -> None:
    """Check that ``10**k`` is one of the windows up to a largest one.

    Raises
    ------
    WindowSizeError
        When it is not.
    """
    k_max = k_max_of(largest_window)
    if not 1 <= k <= k_max:
        raise WindowSizeError(f"Window size exponent (k={k}) must be between 1 and {k_max}")


def k_max_of(largest_window: int) -> int:
    """Return the largest k with ``10**k <= largest_window``."""
    return len(str(largest_window)) - 1
