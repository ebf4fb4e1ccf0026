"""Courses of prices that are hard on a mean or a variance.

Each is drawn with a history before the window, so that what slides has something to slide over.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.layout import DEFAULT_FANOUT as BLOCK

__all__ = ["CANCELLING", "COURSES", "SPIKES_INSIDE"]

Prices = npt.NDArray[np.float64]
Course = Callable[[np.random.Generator, int, int], Prices]
"""Draws ``total`` prices, the last ``length`` of which are the window."""

_SPIKE = 1e9


def _uniform(low: float, spread: float) -> Course:
    return lambda rng, total, length: low + rng.uniform(0.0, spread, total)


def _ticks(rng: np.random.Generator, total: int, length: int) -> Prices:
    return np.round(1.12 + rng.integers(-20, 21, total) * 1e-5, 5)


def _walk(rng: np.random.Generator, total: int, length: int) -> Prices:
    return 100 + np.cumsum(rng.normal(0.0, 0.01, total))


def _spike(offset: Callable[[int], int]) -> Course:
    def draw(rng: np.random.Generator, total: int, length: int) -> Prices:
        prices = 100 + rng.uniform(0.0, 0.01, total)
        prices[total - length + offset(length)] = _SPIKE
        return prices

    return draw


def _mixed(rng: np.random.Generator, total: int, length: int) -> Prices:
    return rng.normal(0.0, 5.0, total)


def _cancelling(rng: np.random.Generator, total: int, length: int) -> Prices:
    """Each price of the window has its negative in it but for a millionth."""
    prices = rng.uniform(-1e8, 1e8, total)
    half = length // 2
    window = np.concatenate((prices[:half], -prices[:half] + rng.uniform(0.0, 1e-6, half)))
    prices[-2 * half :] = rng.permutation(window)
    return prices


def _constant(rng: np.random.Generator, total: int, length: int) -> Prices:
    return np.full(total, 0.1)


def _in_a_block(length: int) -> int:
    return length // 2 // BLOCK * BLOCK + BLOCK // 3


def _at_a_blocks_start(length: int) -> int:
    return length // 2 // BLOCK * BLOCK


SPIKES_INSIDE = ("100, one spike of 1e9", "100, the spike first in a block")
CANCELLING = "mixed signs that cancel"
COURSES: dict[str, Course] = {
    "uniform 0…1e4": _uniform(0.0, 1e4),
    "1.12, ticks of 1e-5": _ticks,
    "2e6, spread 0.01": _uniform(2e6, 0.01),
    "1e8, spread 0.05": _uniform(1e8, 0.05),
    "1e12, spread 0.01": _uniform(1e12, 0.01),
    "random walk": _walk,
    SPIKES_INSIDE[0]: _spike(_in_a_block),
    SPIKES_INSIDE[1]: _spike(_at_a_blocks_start),
    "100, a spike that has left": _spike(lambda length: -10),
    "mixed signs": _mixed,
    CANCELLING: _cancelling,
    "constant 0.1": _constant,
}
