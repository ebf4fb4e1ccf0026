"""Prices to measure with, all on a grid of 2^-10 so that exact answers are sums of integers.

Invariant: every price is a multiple of ``TICK`` and below 2^22, hence exact as a double.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["SHAPES", "TICK", "RandomWalk", "Source"]

TICK = 2.0**-10
_BASE = 1_000_000.0
_SEED = 20_240_607

SHAPES = ("random", "random again", "rising", "falling", "constant", "sawtooth")
"""Courses of prices. The second random one is the control: what it differs from the first by is
the noise of the measurement."""

_RANDOM_PERIOD = 65_536
_SAWTOOTH_PERIOD = 1_000


class RandomWalk:
    """An endless random walk of prices between 1 and about 257, reflected at both ends."""

    def __init__(self, seed: int = _SEED) -> None:
        self._rng = np.random.default_rng(seed)
        self._ticks = 100 * 1024

    def take(self, length: int) -> npt.NDArray[np.float64]:
        """Return the next prices."""
        steps = self._rng.integers(-8, 9, length)
        ticks = np.cumsum(steps, out=steps)
        ticks += self._ticks
        self._ticks = int(ticks[-1])
        folded = np.abs((ticks % 2**19) - 2**18)
        return np.asarray((folded + 1024) * TICK)


class Source:
    """An endless course of prices of one shape, a batch at a time.

    Parameters
    ----------
    shape : str
        One of :data:`SHAPES`.
    batch_max : int
        Prices to a batch at most.
    """

    def __init__(self, shape: str, batch_max: int) -> None:
        self._pattern, self._period, self._drift = _pattern(shape, batch_max)
        self._buffer = np.empty(batch_max)
        self._start = 0
        self._offset = _BASE

    def take(self, length: int) -> npt.NDArray[np.float64]:
        """Return the next prices, in a buffer that the next call overwrites.

        Every shape costs the same here: one addition a price into the same place.
        """
        batch = self._buffer[:length]
        np.add(self._pattern[self._start : self._start + length], self._offset, out=batch)
        self._start = (self._start + length) % self._period
        self._offset += self._drift * length
        return batch


def _pattern(shape: str, batch_max: int) -> tuple[npt.NDArray[np.float64], int, float]:
    """Return ``(pattern, period, drift)``: what batches are cut from, and the slope."""
    ramp: npt.NDArray[np.float64] = TICK * np.arange(batch_max, dtype=np.float64)
    if shape == "rising":
        return ramp, 1, TICK
    if shape == "falling":
        return np.negative(ramp), 1, -TICK
    if shape == "constant":
        return np.zeros(batch_max), 1, 0.0
    if shape == "sawtooth":
        # A slow rise and a sudden fall: what a queue of candidates for the maximum likes least.
        steps = np.arange(batch_max + _SAWTOOTH_PERIOD, dtype=np.float64) % _SAWTOOTH_PERIOD
        return np.asarray(TICK * steps), _SAWTOOTH_PERIOD, 0.0
    rng = np.random.default_rng([_SEED, SHAPES.index(shape)])
    ticks = rng.integers(0, 20 * 1024, batch_max + _RANDOM_PERIOD).astype(np.float64)
    return np.asarray(TICK * ticks), _RANDOM_PERIOD, 0.0
