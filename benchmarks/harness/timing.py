"""Timing: sides that take turns, block by block, so that a noisy moment hits all of them.

A side is timed in blocks of calls long enough for the clock; every round runs one block of each
side, in an order that rotates. What is reported is the median over rounds with its range, and
ratios are taken within a round before their median is.

What cannot be timed by calling it here, because another process does it or because something has to
be done before that must not count, times its own blocks (:func:`take_turns`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

__all__ = ["Side", "Timing", "alternate", "calls_for", "no_collector", "take_turns"]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Parameters
    ----------
    name : str
        Key of its timing.
    function : Callable
        What is timed, called without arguments.
    calls : int
        Calls to a block.
    units : int
        What one call does, in units (prices, windows): times are per unit.
    prepare : Callable, optional
        Called before each block, and not timed.
    """

    name: str
    function: Callable[[], object]
    calls: int = 1
    units: int = 1
    prepare: Callable[[], object] | None = None

    def block(self) -> float:
        """Run a block; return its nanoseconds per unit."""
        if self.prepare is not None:
            self.prepare()
        return _time_block(self) / (self.calls * self.units)


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds per unit, one sample a round."""

    samples: npt.NDArray[np.float64]

    @property
    def median(self) -> float:
        return float(np.median(self.samples))

    @property
    def least(self) -> float:
        return float(self.samples.min())

    @property
    def greatest(self) -> float:
        return float(self.samples.max())

    def ratio_to(self, other: Timing) -> float:
        """Return the median of the ratios within each round."""
        return float(np.median(self.samples / other.samples))


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep Python's cycle collector out of what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alternate(sides: Sequence[Side], rounds: int) -> dict[str, Timing]:
    """Time all sides in turns and return their timings by name.

    The first round is thrown away: it meets cold caches and unpredicted branches.
    """
    return take_turns({side.name: side.block for side in sides}, rounds)


def take_turns(blocks: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Timing]:
    """Run blocks that time themselves in turns and return their timings by name.

    Parameters
    ----------
    blocks : mapping of str to Callable
        Each runs a block and returns its nanoseconds per unit.
    rounds : int
        Rounds that count; one before them is thrown away.
    """
    samples = {name: np.empty(rounds) for name in blocks}
    names = list(blocks)
    with no_collector():
        for number in range(-1, rounds):
            shift = number % len(names)
            for name in (*names[shift:], *names[:shift]):
                elapsed = blocks[name]()
                if number >= 0:
                    samples[name][number] = elapsed
    return {name: Timing(values) for name, values in samples.items()}


def calls_for(function: Callable[[], object], block_ns: int) -> int:
    """Return how many calls make a block of about `block_ns`; at least one."""
    function()
    calls = 1
    while True:
        elapsed = max(1, _time_block(Side("", function, calls)))
        if elapsed * 10 >= block_ns or calls >= 1_000_000:
            return max(1, min(1_000_000, calls * block_ns // elapsed))
        calls *= 10


def _time_block(side: Side) -> int:
    function = side.function
    begin = perf_counter_ns()
    for _ in repeat(None, side.calls):
        function()
    return perf_counter_ns() - begin
