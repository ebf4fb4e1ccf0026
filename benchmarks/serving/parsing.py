"""The least that a service must do with a batch: read its JSON, copy its prices into a ring."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from time import thread_time_ns

import numpy as np

from financial_data_service.engine.layout import Geometry
from financial_data_service.server.formats.json_batch import plain_reader
from harness.speed_of_light import CopyRing
from harness.timing import no_collector
from serving.cores import pinned
from serving.work import Row

__all__ = ["Parsing"]

_BATCH_MAX = 10_000
_ROUNDS = 5


class Parsing:
    """Reads the bodies of a row in this process, on the servers' core, and copies their prices.

    Parameters
    ----------
    row : Row
        Whose bodies.
    core : int
        Where to run.
    ring_prices : int
        Size of the ring; it is filled, so that its memory is there.
    calls : int
        Batches to a round.
    """

    def __init__(self, row: Row, core: int, ring_prices: int, calls: int) -> None:
        self._bodies = [request.body for request in row.requests]
        self._core = core
        self._calls = calls
        self._read = plain_reader()
        self._ring = CopyRing(Geometry(ring_prices))
        self._assert_exact(row)
        zeros = np.zeros(_BATCH_MAX)
        while self._ring.sequence < self._ring.capacity:
            self._ring.append(zeros)

    def microseconds(self) -> tuple[float, float]:
        """Return what reading plus copying takes for a batch, and reading alone."""
        with pinned(self._core), no_collector():
            rounds = [(self._time(self._store), self._time(self._read)) for _ in range(_ROUNDS)]
        both, alone = np.median(rounds, axis=0) / 1e3
        return float(both), float(alone)

    def _time(self, function: Callable[[bytes], object]) -> float:
        """Return processor time, as it is taken of the servers, in nanoseconds a batch."""
        bodies = cycle(self._bodies)
        begin = thread_time_ns()
        for _ in range(self._calls):
            function(next(bodies))
        return (thread_time_ns() - begin) / self._calls

    def _store(self, body: bytes) -> None:
        batch = self._read(body)
        assert batch is not None
        self._ring.append(batch[1])

    def _assert_exact(self, row: Row) -> None:
        """Check that every price of every body is read to the bit."""
        for body, prices in zip(self._bodies, row.batches, strict=True):
            batch = self._read(body)
            assert batch is not None
            assert np.array_equal(batch[1], np.array(prices))
