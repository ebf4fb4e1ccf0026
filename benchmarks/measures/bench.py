"""The engine under measurement: its sizes, its full ring, the copy beside it, what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
import numpy.typing as npt

from financial_data_service import RunningStats
from harness.exact import Verdict, verify
from harness.prices import RandomWalk
from harness.rivals import Deques
from harness.speed_of_light import CopyRing
from harness.table import Table

__all__ = ["BATCH_MAX", "SCALES", "Bench", "Scale", "Target", "targets_table"]

BATCH_MAX = 10_000

# As many batches as the second-level cache holds beside the rest: a server appends a batch that it
# has just parsed, not one that lay in memory for a while.
_POOL_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of a run.

    Attributes
    ----------
    k_max : int
        The largest window is ``10**k_max``.
    rounds : int
        Rounds in which sides take turns.
    append_calls : dict of int to int
        Appends to a block, by batch size.
    query_calls : int
        Queries to a block.
    cold_queries : int
        Queries of each window that each follow an append.
    rival_budget_ns : int
        Time for each rival at each window.
    rolling_k_max : int
        Largest window, as its exponent, for pandas and polars.
    deque_prices : int
        Prices that the deques are filled with.
    shape_k_max, shape_repetitions : int
        Size of each shape's ring, and repetitions of the comparison.
    shape_appends : dict of int to int
        Appends of each shape in a repetition, by batch size. Prices in a repetition are a multiple
        of 128², so that the same append of each repetition completes the same blocks.
    """

    k_max: int
    rounds: int
    append_calls: dict[int, int]
    query_calls: int
    cold_queries: int
    rival_budget_ns: int
    rolling_k_max: int
    deque_prices: int
    shape_k_max: int
    shape_repetitions: int
    shape_appends: dict[int, int]

    @property
    def largest_window(self) -> int:
        return int(10**self.k_max)

    @property
    def windows(self) -> list[int]:
        """Lengths to ask for: the powers of ten and one that is no power of anything."""
        return [*(10**k for k in range(1, self.k_max + 1)), 12_345_678 // 10 ** (8 - self.k_max)]


SCALES = {
    "full": Scale(
        k_max=8,
        rounds=200,
        append_calls={1: 2_000, 100: 1_000, 10_000: 100},
        query_calls=300,
        cold_queries=2_000,
        rival_budget_ns=500_000_000,
        rolling_k_max=7,
        deque_prices=10**6,
        shape_k_max=7,
        shape_repetitions=30,
        shape_appends={1: 65_536, 100: 16_384, 10_000: 2_048},
    ),
    "quick": Scale(
        k_max=7,
        rounds=30,
        append_calls={1: 1_000, 100: 500, 10_000: 20},
        query_calls=200,
        cold_queries=200,
        rival_budget_ns=50_000_000,
        rolling_k_max=6,
        deque_prices=10**5,
        shape_k_max=6,
        shape_repetitions=5,
        shape_appends={1: 16_384, 100: 4_096, 10_000: 1_024},
    ),
    "smoke": Scale(
        k_max=4,
        rounds=2,
        append_calls={1: 3, 100: 2, 10_000: 1},
        query_calls=2,
        cold_queries=2,
        rival_budget_ns=1,
        rolling_k_max=3,
        deque_prices=200,
        shape_k_max=4,
        shape_repetitions=2,
        shape_appends={1: 20, 100: 5, 10_000: 2},
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """Something to reach, beside what was measured."""

    what: str
    limit: str
    measured: str
    reached: bool


def targets_table(targets: list[Target]) -> Table:
    """Return what was to be reached beside what was."""
    table = Table("Targets", ("what", "limit", "measured", "reached"))
    for target in targets:
        table.add(target.what, target.limit, target.measured, "yes" if target.reached else "**no**")
    return table


@dataclass(slots=True)
class Bench:
    """The state that the subjects share.

    Invariant: every batch goes to ``stats`` and to ``copy`` alike, so that at the end the two rings
    must hold the same prices.
    """

    scale: Scale
    stats: RunningStats
    copy: CopyRing
    deques: Deques = field(default_factory=Deques)
    deques_bytes: int = 0
    walk: RandomWalk = field(default_factory=RandomWalk)
    verdict: Verdict = field(default_factory=lambda: Verdict(0, 0.0, 0.0))
    targets: list[Target] = field(default_factory=list)

    @classmethod
    def of(cls, scale: Scale) -> Bench:
        """Return a bench with an empty ring."""
        stats = RunningStats(scale.largest_window, batch_max=BATCH_MAX)
        return cls(scale, stats, CopyRing(stats._ring.geometry))

    def pool(self, length: int) -> list[npt.NDArray[np.float64]]:
        """Return a few batches to append again and again."""
        return [self.walk.take(length) for _ in range(_POOL_BATCHES)]

    def append_untimed(self, batches: cycle[npt.NDArray[np.float64]]) -> None:
        """Append a batch to both rings."""
        batch = next(batches)
        self.stats.append(batch)
        self.copy.append(batch)

    def verify(self, stats: RunningStats | None = None) -> None:
        """Check every window against the exact answer, and keep the largest error."""
        stats = stats or self.stats
        for length in self.scale.windows:
            if length <= stats.largest_window:
                self.verdict = self.verdict.worse(verify(stats, length))
