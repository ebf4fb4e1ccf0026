"""Loss of power and killed processes, at any moment: what was promised is there, nothing false.

How: services run over a simulated disk (``tests/support/simulated_disk.py``) by a random schedule
of batches, refused batches, retries, background syncs, failing syncs, joins, clean closes,
deletions and new symbols. At some step, which may be in the middle of any of these or of a
recovery, the machine loses power or all processes are killed. After a loss of power, a directory
with one possible outcome is opened in another boot (``boot_id`` is replaced in every module of
``storage`` that uses it). After a kill, the same directory is opened in the same boot. Then the
schedule continues with what was found, so crashes follow crashes. Rings are tiny (fanout 2) and
wrap many times. All prices differ, so a price in a wrong place is always detected.

What must hold of each symbol, by durability:

* ``power``: the prices are those acknowledged, or those and the whole batch under way;
* ``process``: a loss of power leaves a true prefix that ends between two batches and is no shorter
  than what was last known to be on disk (the creation of a symbol, a clean close, a background sync
  that was noted). If prices came too fast for the disk since, the file may be refused, with the
  sentence that says so. A kill costs nothing.
* both: the prices held, every window and the retry of what is held agree with the true series; the
  last ``max(largest_window, batch_max)`` prices are held; a deletion or creation under way has
  happened or not.

Defects planted on purpose must be found: that proves the simulation.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from financial_data_service.engine.layout import (
    DELETED,
    WORD_APPEND_LIMIT,
    WORD_RECORD_A,
    WORD_RECORD_B,
    WORD_SYNCED_GENERATION,
    Geometry,
)
from financial_data_service.engine.ring import Ring
from financial_data_service.engine.running_stats import RunningStats, warm_up
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import InvalidBatchError, SymbolFileError
from financial_data_service.storage import (
    directory_lock,
    disk,
    durability,
    file_stats,
    recovery,
    symbol_file,
    symbol_files,
)
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.directory_access import DirectoryAccess
from financial_data_service.storage.durability import BackgroundSync, Durability
from financial_data_service.storage.file_names import file_name_of
from financial_data_service.storage.recovery import RecoveryPlan
from financial_data_service.storage.symbol_file import SymbolFile
from support.oracle import Oracle
from support.simulated_disk import Crash, DeferredExecutor, SimulatedDisk

pytestmark = pytest.mark.one_python

GEOMETRIES = [
    Geometry(10, 2, 4),  # capacity 16, slack 6: less than two batches
    Geometry(12, 2, 4),  # capacity 16, slack 4: one batch
    Geometry(20, 2, 4),  # capacity 32, slack 12
    Geometry(10, 4, 30),  # batches longer than windows
    Geometry(100, 2, 4),  # capacity 128, slack 28
]

TOO_FAST = "prices came faster than they went to disk"
DENIED = "the disk fails (Input/output error): nothing of the batch was stored"


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Compile the kernels before anything stands in for them."""
    warm_up()


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Return a directory in memory where there is room: the disk is simulated, after all."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shutil.disk_usage(shared).free < 1 << 25:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared, prefix="fds-test-") as path:
        yield Path(path)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDisk]:
    simulated_disk = SimulatedDisk(monkeypatch)
    monkeypatch.setattr(durability, "SYNC_SECONDS", 0.0)
    monkeypatch.setattr(directory_lock, "_LOOK_SECONDS", 0.0)
    yield simulated_disk
    simulated_disk.unmount()


def named(module: ModuleType, name: str) -> Any:
    """Return what a module has imported under a name."""
    return getattr(module, name)


def lives(simulated: SimulatedDisk, patch: pytest.MonkeyPatch, base: Path) -> Callable[[int], Life]:
    """Return what begins a life from a seed, and have it told what services say of durability."""
    current: list[Life] = []

    def begin(seed: int) -> Life:
        shutil.rmtree(base / "life", ignore_errors=True)
        (base / "life").mkdir()
        current[:] = [Life(simulated, base / "life", seed)]
        return current[0]

    def telling(revoke: Callable[[SymbolFile], None]) -> Callable[[SymbolFile], None]:
        def call(file: SymbolFile) -> None:
            current[0].revoked(file.symbol)
            revoke(file)

        return call

    def noting(renew: Callable[[SymbolFile], None]) -> Callable[[SymbolFile], None]:
        def call(file: SymbolFile) -> None:
            renew(file)
            current[0].noted(file.symbol, file.sequence)

        return call

    def confirm(sync: BackgroundSync, generation: int) -> None:
        original(sync, generation)
        file = sync._file
        if file.words[WORD_SYNCED_GENERATION] == generation:
            newest = max(record for record in file.records() if record is not None)
            current[0].noted(file.symbol, newest.sequence)

    original = BackgroundSync._confirm
    patch.setattr(file_stats, "revoke", telling(named(file_stats, "revoke")))
    patch.setattr(durability, "renew", noting(durability.renew))
    patch.setattr(symbol_files, "renew", noting(named(symbol_files, "renew")))
    patch.setattr(BackgroundSync, "_confirm", confirm)
    return begin


@dataclass
class Symbol:
    """What is known of a symbol that exists.

    `sure` is how many prices a loss of power must leave at least; -1 if it may leave nothing.
    """

    prices: list[float] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)  # of batches
    sure: int = 0


@dataclass
class UnderWay:
    """What is being done when the power goes."""

    kind: Literal["nothing", "append", "delete"] = "nothing"
    symbol: str = ""
    batch: list[float] = field(default_factory=list)


class Life:
    """One or two services over a directory, and what they have promised."""

    def __init__(self, simulated: SimulatedDisk, base: Path, seed: int) -> None:
        self.disk = simulated
        self.draw = random.Random(seed)
        self.base = base
        self.geometry = self.draw.choice(GEOMETRIES)
        self.durability: Durability = self.draw.choice(["process", "power"])
        self.symbols: dict[str, Symbol] = {}
        self.under_way = UnderWay()
        # The disk failed on them, one after the other: in truth any of them may be there.
        self.denied: dict[str, list[list[float]]] = {}
        self.managers: list[SymbolManager] = []
        self.boots = itertools.count(1)
        weights = {
            self.append: 50,
            self.append_unfit: 5,
            self.retry: 6,
            self.run_housekeeping: 16,
            self.let_disk_work: 16,
            self.join_or_leave: 3,
            self.close_all: 2,
            self.delete: 2,
            self.append_while_disk_fails: 2,
            self.tend_while_disk_fails: 2,
        }
        # Each life leaves some things out and does others more often (Groce et al.: Swarm testing,
        # ISSTA 2012, doi:10.1145/2338965.2336763): so rare ones come together.
        self.actions = list(weights)
        self.weights = [weight * self.draw.choice([0, 1, 1, 4]) for weight in weights.values()]
        self.weights[0] = 50
        self.kills = self.draw.choice([0.1, 0.3, 0.7])
        self.switches = self.draw.choice([0.0, 0.5])
        self.steps_max = self.draw.choice([30, 100, 800])
        self.log: list[str] = [f"seed {seed}, {self.geometry}"]
        self._begin_boot(base / "0")

    # What the services say of durability, noted as they say it

    def revoked(self, symbol: str) -> None:
        self.noted(symbol, -1)

    def noted(self, symbol: str, sequence: int) -> None:
        if symbol in self.symbols and not self.disk.is_asleep:
            self.symbols[symbol].sure = sequence

    # Boots and crashes

    def _begin_boot(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self.disk.mount(root, next(self.boots).to_bytes(16, "little"))

    def crash_after(self, steps: int) -> None:
        def count_down() -> None:
            nonlocal steps
            steps -= 1
            if steps == 0:
                self.disk.is_dead = True
                raise Crash

        self.disk.on_step = count_down

    def crash(self) -> None:
        """Be dead; find the disk in one of its possible states, or the page cache as it is."""
        self.disk.on_step = lambda: None
        self.disk.failing.clear()
        is_kill = self.draw.random() < self.kills
        self.log.append(f"{'kill' if is_kill else 'power loss'} at step {self.disk.steps}")
        self.let_go()
        if is_kill:
            self.disk.is_dead = False
            self.disk.step()
        else:
            old, new = self.disk.root, self.base / str(next(self.boots))
            self.disk.image(new, self.draw)
            self._begin_boot(new)
            shutil.rmtree(old)
        self.recover(is_kill=is_kill)

    def recover(self, *, is_kill: bool) -> None:
        """Open what is left, perhaps with another crash on the way, and compare."""
        if self.draw.random() < self.switches:
            self.durability = self.draw.choice(["process", "power"])
        kept = {name: vars(symbol).copy() for name, symbol in self.symbols.items()}
        if self.draw.random() < 0.2:
            self.crash_after(self.draw.randint(1, 20))
            try:
                self.open_one()
            except Crash:
                # Nothing was promised meanwhile: all that was allowed still is.
                for name, before in kept.items():
                    vars(self.symbols[name]).update(before)
                self.crash_again(is_kill=is_kill)
                return
            self.disk.on_step = lambda: None
        else:
            self.open_one()
        self.compare(self.managers[0], is_kill=is_kill, is_final=True)

    def let_go(self) -> None:
        """Do to all services what the system does to a process that is killed."""
        for manager in self.managers:
            abandon(manager)
        self.managers.clear()

    def crash_again(self, *, is_kill: bool) -> None:
        """Crash in the midst of a recovery; one loss of power among the crashes counts."""
        self.log.append(f"crash in recovery at step {self.disk.steps}")
        self.disk.on_step = lambda: None
        self.let_go()
        if self.draw.random() < 0.5:
            self.disk.is_dead = False
            self.disk.step()
        else:
            is_kill = False
            old, new = self.disk.root, self.base / str(next(self.boots))
            self.disk.image(new, self.draw)
            self._begin_boot(new)
            shutil.rmtree(old)
        self.recover(is_kill=is_kill)

    # What services do

    def open_one(self) -> None:
        store = DirectoryStore(self.disk.root, self.geometry, 3, self.durability)
        manager = SymbolManager(store=store)
        self.managers.append(manager)
        self.log.append(f"open, {self.durability}")
        manager.open()

    def act(self) -> None:
        """Do one thing."""
        self.draw.choices(self.actions, self.weights)[0]()

    def a_manager(self) -> SymbolManager:
        if not self.managers:
            self.open_one()
        return self.draw.choice(self.managers)

    def fresh(self, length: int | None = None) -> list[float]:
        count = self.draw.randint(1, self.geometry.batch_max) if length is None else length
        return [self.draw.uniform(-1000, 1000) for _ in range(count)]

    def append(self) -> None:
        self.add(self.draw.choice("ABC"), self.fresh())

    def add(self, name: str, batch: list[float], overlap: int | None = None) -> None:
        """Add a batch, perhaps by a retry that begins `overlap` prices back."""
        manager = self.a_manager()
        self.log.append(f"append {len(batch)} to {name}, overlap {overlap}")
        held = len(self.symbols[name].prices) if name in self.symbols else 0
        begin = None if overlap is None else held - overlap
        fresh = batch[overlap or 0 :]
        self.under_way = UnderWay("append", name, fresh)
        receipt = manager.add_batch(name, batch, begin)
        assert receipt == (name, len(fresh), held + len(fresh))
        self.acknowledge(name, fresh)

    def acknowledge(self, name: str, fresh: list[float]) -> None:
        is_new = name not in self.symbols
        symbol = self.symbols.setdefault(name, Symbol())
        symbol.prices += fresh
        symbol.ends.add(len(symbol.prices))
        self.denied.pop(name, None)
        if is_new or self.durability == "power":
            symbol.sure = len(symbol.prices)
        self.under_way = UnderWay()

    def append_unfit(self, name: str = "") -> None:
        name = name or self.draw.choice("ABC")
        batch = self.fresh(self.geometry.batch_max)
        batch[self.draw.choice([0, -1, -1])] = math.nan
        self.log.append(f"append invalid to {name}")
        with pytest.raises(InvalidBatchError):
            self.a_manager().add_batch(name, batch)

    def retry(self) -> None:
        """Send prices again that are stored, with new ones behind them."""
        if self.symbols:
            name = self.draw.choice(sorted(self.symbols))
            prices = self.symbols[name].prices
            overlap = self.draw.randint(0, min(len(prices), self.geometry.batch_max - 1))
            fresh = self.fresh(self.geometry.batch_max - overlap)
            self.add(name, prices[len(prices) - overlap :] + fresh, overlap)

    def run_housekeeping(self) -> None:
        self.log.append("tend")
        self.a_manager().run_housekeeping()

    def let_disk_work(self) -> None:
        executor = self.a_manager()._store._executor  # type: ignore[attr-defined]
        if isinstance(executor, DeferredExecutor):
            self.log.append("disk works")
            executor.step()

    def join_or_leave(self) -> None:
        if len(self.managers) < 2:
            self.open_one()
        else:
            self.log.append("leave")
            self.managers.pop(self.draw.randrange(2)).close()

    def close_all(self) -> None:
        self.log.append("close all")
        while self.managers:
            self.managers.pop().close()
        if self.draw.random() < self.switches:
            self.durability = self.draw.choice(["process", "power"])
        for symbol in self.symbols.values():
            symbol.sure = len(symbol.prices)

    def delete(self) -> None:
        if self.symbols:
            self.remove(self.draw.choice(sorted(self.symbols)))

    def remove(self, name: str) -> None:
        self.log.append(f"delete {name}")
        manager = self.a_manager()
        self.under_way = UnderWay("delete", name)
        manager.delete(name)
        del self.symbols[name]
        self.under_way = UnderWay()

    def append_while_disk_fails(self) -> None:
        """A batch that the disk fails on has not happened, unless the power goes right then."""
        name = self.draw.choice("ABC")
        batch = self.fresh()
        manager = self.a_manager()
        self.log.append(f"append {len(batch)} to {name} while the disk fails")
        self.under_way = UnderWay("append", name, batch)
        self.disk.failing = [self.draw.random() < 0.5]
        try:
            manager.add_batch(name, batch)
            said = ""
        except SymbolFileError as error:
            said = str(error)
        if said:
            assert said.endswith(DENIED), said
            self.denied.setdefault(name, []).append(batch)
            self.under_way = UnderWay()
        else:
            self.acknowledge(name, batch)
        self.disk.failing.clear()

    def tend_while_disk_fails(self, *, is_lost: bool | None = None) -> None:
        self.a_manager()
        self.disk.failing = [self.draw.random() < 0.5 if is_lost is None else is_lost]
        self.run_housekeeping()
        self.let_disk_work()
        self.run_housekeeping()
        self.disk.failing.clear()

    # What must be there

    def outcomes(self, name: str, *, is_kill: bool) -> list[tuple[list[float], set[int]]]:
        """Return series that may be found, each with the sequences it may have."""
        symbol = self.symbols.get(name, Symbol())
        acknowledged = symbol.prices
        if is_kill:
            counts = {len(acknowledged)}
        else:
            counts = {end for end in symbol.ends if end >= symbol.sure}
        found = [(acknowledged, counts)]
        extras = [self.under_way.batch] if self.is_under_way("append", name) else []
        if name in self.denied and not is_kill:
            extras += self.denied[name]
        for extra in extras:
            series = acknowledged + extra
            found.append((series, {len(series)}))
        return found

    def is_under_way(self, kind: str, name: str) -> bool:
        return self.under_way.kind == kind and self.under_way.symbol == name

    def may_be_absent(self, name: str) -> bool:
        return name not in self.symbols or self.is_under_way("delete", name)

    def compare(self, manager: SymbolManager, *, is_kill: bool, is_final: bool) -> None:
        """Compare everything that is there with what may be; from then on that is the truth."""
        found: dict[str, Symbol] = {}
        refused = set()
        for name in "ABC":
            stats, refusal = found_or_refused(manager, name)
            if refusal:
                assert TOO_FAST in refusal
                assert not is_kill
                assert name in self.symbols, refusal
                assert self.symbols[name].sure < 0, refusal
                refused.add(name)
                continue
            if stats is None:
                assert self.may_be_absent(name), f"{name} is gone"
                continue
            prices = self.matched(name, stats, is_kill=is_kill)
            check_answers(stats, prices)
            ends = self.symbols[name].ends if name in self.symbols else set()
            sure = len(prices)
            if is_kill and name in self.symbols:
                sure = self.symbols[name].sure
            found[name] = Symbol(prices, {end for end in ends if end < len(prices)}, sure)
            found[name].ends.add(len(prices))
        assert sorted(manager.symbols()) == sorted(found)
        assert manager.refused.keys() == {file_name_of(name) for name in refused}
        if is_final:
            for name in refused:
                (self.disk.root / file_name_of(name)).unlink()
                disk.sync_directory(self.disk.root)
            self.symbols, self.under_way, self.denied = found, UnderWay(), {}

    def matched(self, name: str, stats: RunningStats, *, is_kill: bool) -> list[float]:
        """Return the prices of the one outcome that is found."""
        held = stats.prices(stats.oldest, stats.sequence).tolist()
        allowed = self.outcomes(name, is_kill=is_kill)
        for series, counts in allowed:
            prices = series[: stats.sequence]
            if stats.sequence in counts and prices[stats.oldest :] == held:
                return prices
        raise AssertionError(
            f"{name}: sequence {stats.sequence}, from {stats.oldest}: {held[:3]} … {held[-3:]}; "
            f"allowed {[(sorted(counts), series[-8:]) for series, counts in allowed]}"
        )


def abandon(manager: SymbolManager) -> None:
    """Do to a service what the system does to a process that is killed: close its descriptors."""
    store: Any = manager._store
    for stats in store._given:
        if stats.file._descriptor >= 0:
            os.close(stats.file._descriptor)
            stats.file._descriptor = -1
    store._given.clear()
    if store._access.is_open:
        os.close(store._access.release())


def found_or_refused(manager: SymbolManager, name: str) -> tuple[RunningStats | None, str]:
    """Return a symbol if it is there, or the sentence by which it is refused."""
    try:
        return manager.get(name), ""
    except SymbolFileError as error:
        return None, str(error)


def check_answers(stats: RunningStats, prices: list[float]) -> None:
    """Compare what is held, and windows of all lengths or of some, with the true series."""
    geometry = stats.geometry
    assert stats.oldest <= max(0, len(prices) - max(geometry.largest_window, geometry.batch_max))
    begin = max(0, len(prices) - geometry.largest_window)
    oracle = Oracle(prices[begin:])
    for length in {*range(1, 14), *range(14, geometry.largest_window, 9), geometry.largest_window}:
        if length <= geometry.largest_window:
            answer = stats.window(length)
            assert answer.sequence == len(prices)
            oracle.check(answer._replace(sequence=len(prices) - begin), length)
    assert stats.values(geometry.largest_window).tolist() == prices[begin:]


def live(life: Life, crashes: int) -> None:
    """Let services live until they have crashed so often."""
    try:
        life.open_one()
        for _ in range(crashes):
            life.crash_after(life.draw.randint(1, life.steps_max))
            try:
                while True:
                    life.act()
            except Crash:
                life.crash()
        life.disk.on_step = lambda: None
        life.close_all()
        life.open_one()
        life.compare(life.managers[0], is_kill=True, is_final=False)
        life.close_all()
    except BaseException as error:
        error.add_note("\n".join(life.log[-40:]))
        error.add_note(life.log[0])
        raise
    finally:
        for manager in life.managers:
            abandon(manager)


def live_through(
    simulated: SimulatedDisk, patch: pytest.MonkeyPatch, base: Path, seeds: Iterable[int]
) -> None:
    begin = lives(simulated, patch, base)
    for seed in seeds:
        live(begin(seed), crashes=10)


def test_random_lives(
    simulated: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    live_through(simulated, monkeypatch, tmp_path, range(12))


@pytest.mark.deep
@pytest.mark.parametrize("part", range(10))
def test_many_random_lives(
    simulated: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: int
) -> None:
    """Others each time; the seed of one that fails is in the note of its failure."""
    first = random.SystemRandom().randrange(10**9)
    live_through(simulated, monkeypatch, tmp_path, range(first, first + 200))


# Every step of a life

KINDS: list[Durability] = ["process", "power"]
KIND_PAIRS = list(itertools.product(KINDS, KINDS))

PLAN = """
    open, append A 4, append A 3, append B 2, invalid A, append A 4, append A 4, sync, append A 2,
    append A 4, sync, sync, sync, append A 4, append A 1, open, append A 4, sync, delete B,
    append A 4, append B 4, append A 4, leave, append A 4, append B 1, sync, sync, sync, close,
    open, append A 4, sync, append A 1, invalid A, sync, sync, append B 4, fail, sync, sync, sync,
    close
"""

FIRST = "open, append A 4, append A 3, append A 4, sync, append B 2, append A 4, sync, sync"
SECOND = "append A 3, invalid A, append A 4, sync, sync, append A 2, sync, close"


def planned(
    simulated: SimulatedDisk, patch: pytest.MonkeyPatch, base: Path, outcomes: int, **of: Any
) -> Life:
    """Return a life in which outcomes of a loss of power are opened and compared at each step."""
    life = lives(simulated, patch, base)(1)
    vars(life).update(of, switches=0.0)

    def look() -> None:
        boot = simulated.boot
        with simulated.asleep():
            for _ in range(outcomes):
                image = simulated.image(base / "image", life.draw)
                simulated.boot = b"another boot, no"
                store = DirectoryStore(image, life.geometry, 3, life.durability)
                manager = SymbolManager(store=store)
                try:
                    manager.open()
                    life.compare(manager, is_kill=False, is_final=False)
                finally:
                    manager.close()
                    simulated.boot = boot
                    shutil.rmtree(image)

    simulated.on_step = look
    return life


def follow(life: Life, plan: str) -> None:
    """Do what a plan says."""
    for words in (step.split() for step in plan.split(",")):
        match words:
            case ["open"]:
                life.open_one()
            case ["append", name, count]:
                life.add(name, life.fresh(int(count)))
            case ["invalid", name]:
                life.append_unfit(name)
            case ["tend"]:
                life.run_housekeeping()
            case ["work"]:
                life.let_disk_work()
            case ["delete", name]:
                life.remove(name)
            case ["sync"]:
                life.a_manager().run_housekeeping()
                life.let_disk_work()
            case ["fail"]:
                life.tend_while_disk_fails(is_lost=True)
            case ["leave"]:
                life.managers.pop().close()
            case ["close"]:
                life.close_all()
            case _:
                raise AssertionError(words)


@pytest.mark.parametrize("geometry", GEOMETRIES[:3], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_power_goes_at_every_step(
    simulated: SimulatedDisk,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: Durability,
    geometry: Geometry,
) -> None:
    life = planned(simulated, monkeypatch, tmp_path, 2, durability=kind, geometry=geometry)
    follow(life, PLAN)
    assert simulated.steps > 150


@pytest.mark.deep
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_power_goes_at_every_step_in_many_ways(
    simulated: SimulatedDisk,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: Durability,
    geometry: Geometry,
) -> None:
    life = planned(simulated, monkeypatch, tmp_path, 60, durability=kind, geometry=geometry)
    follow(life, PLAN)


def kill_and_lose_power(
    simulated: SimulatedDisk,
    base: Path,
    kinds: tuple[Durability, Durability],
    first: str = FIRST,
    second: str = SECOND,
    *,
    start: int = 1,
    every: int = 1,
    outcomes: int = 3,
) -> None:
    """Be killed at every step, or some; go on, perhaps otherwise durable; then let the power go."""
    for step in itertools.count(start, every):
        with pytest.MonkeyPatch.context() as patch:
            geometry = GEOMETRIES[step % 3]
            life = planned(simulated, patch, base, outcomes, durability=kinds[0], geometry=geometry)
            look = simulated.on_step
            life.crash_after(step)
            with suppress(Crash):
                follow(life, first)
            is_done = not simulated.is_dead
            simulated.is_dead = False
            life.let_go()
            if is_done:
                return
            life.durability = kinds[1]
            simulated.on_step = look
            life.open_one()
            life.compare(life.managers[0], is_kill=True, is_final=True)
            simulated.step()
            follow(life, second)
            life.close_all()


@pytest.mark.parametrize("kinds", KIND_PAIRS, ids=" then ".join)
def test_killed_then_power_goes(
    simulated: SimulatedDisk, tmp_path: Path, kinds: tuple[Durability, Durability]
) -> None:
    kill_and_lose_power(simulated, tmp_path, kinds, every=13, outcomes=2)


@pytest.mark.deep
@pytest.mark.parametrize("kinds", KIND_PAIRS, ids=" then ".join)
def test_killed_at_every_step_then_power_goes(
    simulated: SimulatedDisk, tmp_path: Path, kinds: tuple[Durability, Durability]
) -> None:
    kill_and_lose_power(simulated, tmp_path, kinds, outcomes=10)


# Defects planted on purpose, each with the form of the simulation that finds it soonest

Patch = pytest.MonkeyPatch
Finder = Callable[[SimulatedDisk, Patch, Path], None]
DEFECTS: dict[str, tuple[Callable[[Patch], None], Finder]] = {}


def plant(name: str, finder: Finder) -> Callable[[Callable[[Patch], None]], None]:
    def register(planted: Callable[[Patch], None]) -> None:
        DEFECTS[name] = planted, finder

    return register


def by_lives(simulated: SimulatedDisk, patch: Patch, base: Path) -> None:
    live_through(simulated, patch, base, range(60))


def by_plan(plan: str, **of: Any) -> Finder:
    def find(simulated: SimulatedDisk, patch: Patch, base: Path) -> None:
        for _ in range(5):
            follow(planned(simulated, patch, base, 10, **of), plan)

    return find


def by_kill(before: Durability, after: Durability, first: str, second: str, start: int) -> Finder:
    def find(simulated: SimulatedDisk, _: Patch, base: Path) -> None:
        kill_and_lose_power(
            simulated, base, (before, after), first, second, start=start, outcomes=6
        )

    return find


class _Proxy:
    """Kernels, of which a subclass gets one wrong."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


@plant("too many prices may follow a record", by_lives)
def _(patch: Patch) -> None:
    for module in (recovery, symbol_file):
        patch.setattr(module, "unsynced_max", lambda _: 1 << 40)


@plant("a record is noted, its prices are not synced", by_lives)
def _(patch: Patch) -> None:
    patch.setattr(SymbolFile, "sync_prices", lambda file, *_: file.sync_header())


@plant("the file is never synced as a whole", by_lives)
def _(patch: Patch) -> None:
    patch.setattr(SymbolFile, "sync", lambda _: None)


@plant("the header is never synced by itself", by_lives)
def _(patch: Patch) -> None:
    patch.setattr(SymbolFile, "sync_header", lambda _: None)


@plant("names are never synced", by_lives)
def _(patch: Patch) -> None:
    patch.setattr(DirectoryAccess, "sync_names", lambda _: None)


@plant(
    "names are not synced when a directory is opened",
    by_kill("power", "power", "open, append A 4", "append A 3", 8),
)
def _(patch: Patch) -> None:
    def recover_or_join(store: DirectoryStore, descriptor: int, *, is_alone: bool) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(DirectoryAccess, "sync_names", lambda _: None)
            original(store, descriptor, is_alone=is_alone)

    original = DirectoryStore._recover_or_join
    patch.setattr(DirectoryStore, "_recover_or_join", recover_or_join)


@plant("a record is believed whose prices have not arrived", by_lives)
def _(patch: Patch) -> None:
    patch.setattr(recovery, "_holds", lambda *_: True)


@plant("the count is believed after a loss of power", by_lives)
def _(patch: Patch) -> None:
    def power_lost(ring: Ring, *said: Any) -> RecoveryPlan:
        trust = original(ring, *said)
        return trust._replace(sequence=max(trust.sequence, ring.sequence))

    original = recovery._power_lost
    patch.setattr(recovery, "_power_lost", power_lost)


@plant(
    "prices that newer ones have overwritten count as held",
    by_plan(
        "open, append A 4, append A 4, append A 4, append A 4, append A 4, append A 4, append A 4,"
        "append A 4, append A 4, append A 4, tend, work, tend, work, tend, append A 4, append A 2",
        durability="process",
        geometry=GEOMETRIES[2],
    ),
)
def _(patch: Patch) -> None:
    def power_lost(*args: Any) -> RecoveryPlan:
        return original(*args)._replace(floor=0)

    original = recovery._power_lost
    patch.setattr(recovery, "_power_lost", power_lost)


@plant("levels are not made again", by_lives)
def _(patch: Patch) -> None:
    patch.setattr(recovery, "rebuild_levels", lambda *_: None)


@plant("the record that is on disk is overwritten", by_lives)
def _(patch: Patch) -> None:
    original = named(durability, "write_record")
    patch.setattr(
        durability, "write_record", lambda words, slot, record: original(words, 1 - slot, record)
    )


@plant("records are not revoked", by_lives)
def _(patch: Patch) -> None:
    patch.setattr(file_stats, "revoke", lambda _: None)


@plant(
    "a record stays that is newer than what was believed",
    by_kill("power", "process", "open, append A 4, append A 3", "append A 2", 14),
)
def _(patch: Patch) -> None:
    patch.setattr(recovery, "erase_record", lambda *_: None)


@plant(
    "the record of a batch counts before the batch is published",
    by_kill("power", "process", "open, append A 4, append A 3", "append A 2", 14),
)
def _(patch: Patch) -> None:
    class Hasty(_Proxy):
        def publish(self, header: Any, sequence: int) -> None:
            if sequence > 0:
                first, second = (int(header[slot]) for slot in (WORD_RECORD_A, WORD_RECORD_B))
                header[WORD_SYNCED_GENERATION] = max(first, second)
                self.target.simulated.step()
            self.target.publish(header, sequence)

    patch.setattr(durability, "kernels", Hasty(named(durability, "kernels")))


@plant("a background sync does not mind what was written meanwhile", by_lives)
def _(patch: Patch) -> None:
    patch.setattr(BackgroundSync, "_write_record", write_record_blindly)


@plant(
    "a background sync does not mind batches that were refused half-way",
    by_plan(
        "open, append A 4, append A 4, append A 4, append A 4, tend, append A 4, invalid A, "
        "invalid A,work, tend, work, tend",
        durability="process",
        geometry=GEOMETRIES[1],
    ),
)
def _(patch: Patch) -> None:
    def write_record(sync: Any, sequence: int) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Geometry, "slack", property(lambda _: 1 << 40))
            original(sync, sequence)

    original = BackgroundSync._write_record
    patch.setattr(BackgroundSync, "_write_record", write_record)


@plant("a background sync does not wait for the disk", by_lives)
def _(patch: Patch) -> None:
    def submit(executor: DeferredExecutor, fn: Callable[[], None]) -> Future[Any]:
        original(executor, fn)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    original = DeferredExecutor.submit
    patch.setattr(DeferredExecutor, "submit", submit)


@plant(
    "a failed sync is forgotten",
    by_plan(
        "open, append A 4, append A 3, fail, sync, sync, sync, close",
        durability="process",
        geometry=GEOMETRIES[2],
    ),
)
def _(patch: Patch) -> None:
    patch.setattr(SymbolFile, "has_sync_failed", property(lambda _: False))


@plant("a deletion is not noted in the file", by_lives)
def _(patch: Patch) -> None:
    class Silent(_Proxy):
        def publish(self, header: Any, sequence: int) -> None:
            if sequence != DELETED:
                self.target.publish(header, sequence)

    patch.setattr(symbol_files, "kernels", Silent(named(symbol_files, "kernels")))


def write_record_blindly(sync: Any, sequence: int) -> None:
    file = sync._file
    with file:
        if not durability._newest(file).sequence < sequence <= file.sequence:
            return
        generation = durability._write_next(file, sequence)
        file.words[WORD_APPEND_LIMIT] = sequence + file.unsynced_max
    sync._record = generation, sync._executor.submit(file.sync)


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(
    simulated: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    planted, finder = DEFECTS[name]
    planted(monkeypatch)
    with pytest.raises((AssertionError, SymbolFileError)):
        finder(simulated, monkeypatch, tmp_path)
