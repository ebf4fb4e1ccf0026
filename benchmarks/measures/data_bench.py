"""The data directory under measurement: its sizes, where it lies, what was found."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt

from financial_data_service import RunningStats, WindowStats
from financial_data_service.engine.layout import Geometry
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.file_stats import FileStats
from harness.exact import Verdict, verify
from harness.prices import RandomWalk
from harness.table import number
from harness.timing import Timing
from measures.bench import Target

__all__ = [
    "SCALES",
    "SYMBOL",
    "DataBench",
    "Places",
    "Scale",
    "feeder",
    "mapped_file",
    "median_and_range",
    "symbol_in",
]

SYMBOL = "AAPL"

Prices = npt.NDArray[np.float64]

_ROOT = Path(__file__).parents[2]
_MEMORY = Path("/dev/shm")

# As in the benchmark of the engine: what a server appends is in the second-level cache.
_POOL_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of a run.

    Attributes
    ----------
    k_max : int
        Windows and restarts are measured on a symbol with ``10**k_max`` prices, all it holds.
    ring_k_max : int
        Appends are measured on rings of ``10**ring_k_max`` prices, so that laps are short.
    rounds : int
        Rounds in which sides take turns.
    append_calls : dict of int to int
        Appends to a block, by batch size.
    query_calls : int
        Queries to a block.
    power_rounds, power_calls : int
        Rounds, and appends to a block, where each append waits for the disk: short blocks, as what
        now and then makes a disk wait would otherwise be in most of them.
    restarts : int
        Restarts of each kind.
    served_k_max : int
        Largest window of the services that are asked over HTTP.
    seconds : float
        Of each run over HTTP.
    repetitions : int
        Of each run over HTTP.
    """

    k_max: int
    ring_k_max: int
    rounds: int
    append_calls: dict[int, int]
    query_calls: int
    power_rounds: int
    power_calls: int
    restarts: int
    served_k_max: int
    seconds: float
    repetitions: int

    @property
    def largest_window(self) -> int:
        return int(10**self.k_max)

    @property
    def ring_prices(self) -> int:
        return int(10**self.ring_k_max)


SCALES = {
    "full": Scale(
        k_max=8,
        ring_k_max=7,
        rounds=200,
        append_calls={1: 2_000, 10_000: 100},
        query_calls=300,
        power_rounds=300,
        power_calls=5,
        restarts=3,
        served_k_max=7,
        seconds=1.0,
        repetitions=4,
    ),
    "quick": Scale(
        k_max=7,
        ring_k_max=6,
        rounds=30,
        append_calls={1: 1_000, 10_000: 20},
        query_calls=200,
        power_rounds=60,
        power_calls=5,
        restarts=2,
        served_k_max=6,
        seconds=0.3,
        repetitions=2,
    ),
    "smoke": Scale(
        k_max=4,
        ring_k_max=5,
        rounds=2,
        append_calls={1: 3, 10_000: 1},
        query_calls=2,
        power_rounds=1,
        power_calls=2,
        restarts=1,
        served_k_max=4,
        seconds=1.0,
        repetitions=1,
    ),
}


@dataclass(frozen=True, slots=True)
class Places:
    """Directories to measure in, by the names that tables give them.

    Attributes
    ----------
    disk : Path
        On the machine's disk, beside the sources.
    memory : Path or None
        In a file system in memory, where there is one.
    """

    disk: Path
    memory: Path | None

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[Places]:
        """Make the directories while the block runs."""
        run = _ROOT / ".run"
        run.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fds-bench-", dir=run) as disk:
            if not os.access(_MEMORY, os.W_OK):
                yield cls(Path(disk), None)
                return
            with tempfile.TemporaryDirectory(prefix="fds-bench-", dir=_MEMORY) as memory:
                yield cls(Path(disk), Path(memory))

    def items(self) -> list[tuple[str, Path]]:
        """Return the names and the directories that there are."""
        found = [("disk", self.disk)]
        return found if self.memory is None else [*found, (str(_MEMORY), self.memory)]


@dataclass(slots=True)
class DataBench:
    """The state that the subjects share.

    Attributes
    ----------
    expected : list of WindowStats
        What the full symbol answers, window by window, as :mod:`measures.file_windows` left it in
        :attr:`full`.
    """

    scale: Scale
    places: Places
    walk: RandomWalk = field(default_factory=RandomWalk)
    verdict: Verdict = field(default_factory=lambda: Verdict(0, 0.0, 0.0))
    targets: list[Target] = field(default_factory=list)
    expected: list[WindowStats] = field(default_factory=list)

    @property
    def full(self) -> Path:
        """Data directory of the full symbol."""
        return self.places.disk / "full"

    def pool(self, length: int) -> list[Prices]:
        """Return a few batches to append again and again."""
        return [self.walk.take(length) for _ in range(_POOL_BATCHES)]

    def verify(self, stats: RunningStats) -> None:
        """Check windows against the exact answers, and keep the largest error."""
        for length in (10, 1_000, stats.largest_window):
            if length <= stats.largest_window:
                self.verdict = self.verdict.worse(verify(stats, length))

    def add_target(self, what: str, measured: float, limit: float, unit: str) -> None:
        """Note something to reach beside what was measured."""
        self.targets.append(
            Target(
                what, f"at most {limit:g} {unit}", f"{number(measured)} {unit}", measured <= limit
            )
        )


@contextmanager
def symbol_in(directory: Path, geometry: Geometry, first: Prices) -> Iterator[FileStats]:
    """Keep a symbol in a data directory, durability `process`, while the block runs."""
    store = DirectoryStore(directory, geometry)
    store.open()
    try:
        stats = store.create(SYMBOL, first)
        assert isinstance(stats, FileStats)
        yield stats
    finally:
        store.close()


@contextmanager
def mapped_file(path: Path, size_bytes: int) -> Iterator[tuple[mmap.mmap, int]]:
    """Map a new file that has its room allocated; yield the mapping and a descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
        os.posix_fallocate(descriptor, 0, size_bytes)
        yield mmap.mmap(descriptor, size_bytes), descriptor
    finally:
        os.close(descriptor)


def feeder(append: Callable[[Prices], object], batches: Sequence[Prices]) -> Callable[[], object]:
    """Return a call that appends the next of a few batches, again and again."""
    endless = cycle(batches)
    return lambda: append(next(endless))


def median_and_range(timing: Timing, units: float = 1.0) -> tuple[str, str]:
    """Return the cells of a timing, its nanoseconds divided by `units`."""
    least, greatest = timing.least / units, timing.greatest / units
    return number(timing.median / units), f"{number(least)}–{number(greatest)}"
