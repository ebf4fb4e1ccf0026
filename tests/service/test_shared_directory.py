"""One directory, several processes: readers that race a writer, writers that race each other.

How: prices are a function of their number, ``price(i)``, so the sequence of a window determines the
right answer. Rings are small, so prices are overwritten all the time. The processes are real. Each
reports what it did, and the test compares.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import financial_data_service
from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import OverwrittenError
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.durability import Durability
from support.paths import TESTS

SMALL = Geometry(1000, 8, 50)


def price(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Whole numbers 0 to 1022: their sums and squares are exact, whatever the order."""
    return ((numbers * 7919) % 1023).astype(np.float64)


WRITER = """
import sys, time
import numpy as np
from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.storage.directory import DirectoryStore
from service.test_shared_directory import SMALL, price
manager = SymbolManager(store=DirectoryStore(sys.argv[1], SMALL))
manager.open()
rng = np.random.default_rng(int(sys.argv[3]))
ends = time.monotonic() + float(sys.argv[2])
sequence = manager["S"].sequence if "S" in manager else 0
print("ready", flush=True)
while time.monotonic() < ends:
    size = int(rng.integers(1, 51))
    sequence = manager.add_batch("S", price(np.arange(sequence, sequence + size))).sequence
print(sequence, flush=True)
manager.close()
"""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=TESTS,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def check_window(answer: Any, length: int) -> None:
    """Compare a window with what its sequence says it must be, in whole numbers."""
    values = min(length, answer.sequence)
    assert answer.values == values
    numbers = np.arange(answer.sequence - values, answer.sequence)
    prices = price(numbers).astype(np.int64)
    total, squares = int(prices.sum()), int((prices * prices).sum())
    assert (answer.min, answer.max, answer.last) == (prices.min(), prices.max(), prices[-1])
    assert math.isclose(answer.avg, total / values, rel_tol=3e-16)
    exact = (values * squares - total * total) / values**2
    assert math.isclose(answer.var, exact, rel_tol=1e-14, abs_tol=1e-300)


def together(code: str, arguments: list[tuple[object, ...]]) -> list[Any]:
    """Run children that start at one word; return what each of them tells."""
    with ExitStack() as stack:
        children = [stack.enter_context(child(code, *each)) for each in arguments]
        for process in children:
            assert said(process) == "ready"
        for process in children:
            tell(process, "go")
        told = [json.loads(said(process)) for process in children]
        for process in children:
            tell(process, "end")
        assert [process.wait(20) for process in children] == [0] * len(children)
    return told


def tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def race(path: Path, seconds: float) -> tuple[int, int, int]:
    """Read in this process what another appends; return how much was read and written."""
    with child(WRITER, path, seconds, 1) as writer:
        assert said(writer) == "ready"
        rng = np.random.default_rng(2)
        manager = SymbolManager(store=DirectoryStore(path, SMALL))
        manager.open()
        while "S" not in manager:
            assert writer.poll() is None
        reads = overtaken = 0
        with financial_data_service.open(path) as data:
            reader = data["S"]
            while writer.poll() is None and reads < 10**9:
                length = int(rng.integers(1, 1001))
                check_window(reader.window(length), length)
                check_window(manager.window("S", length), length)
                answers = manager.all_stats("S")
                assert len({answer.sequence for answer in answers}) == 1
                for k, answer in enumerate(answers, 1):
                    check_window(answer, 10**k)
                overtaken += not values_are_true(manager, length)
                reads += 1
        written = int(said(writer))
        assert manager["S"].sequence == written
        check_window(manager.window("S", 1000), 1000)
        manager.close()
    return reads, written, overtaken


def values_are_true(manager: SymbolManager, length: int) -> bool:
    """Check that the last values are a run of the series; False when the writer overtook them."""
    try:
        values = manager["S"].values(length)
    except OverwrittenError:
        return False
    # 7919 is prime to 1023, so one price tells the number modulo 1023, and the next must follow.
    steps = np.diff(values) % 1023
    assert (steps == 7919 % 1023).all()
    return True


def test_readers_race_a_writer(tmp_path: Path) -> None:
    reads, written, _ = race(tmp_path, 3.0)
    assert reads > 10
    assert written > 50 * SMALL.capacity


@pytest.mark.deep
def test_readers_race_a_writer_for_long(tmp_path: Path) -> None:
    reads, written, _ = race(tmp_path, 30.0)
    assert reads > 1000
    assert written > 1000 * SMALL.capacity


APPENDER = """
import json, sys
import numpy as np
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import SequenceConflictError
from financial_data_service.storage.directory import DirectoryStore
from service.test_shared_directory import SMALL, price
manager = SymbolManager(store=DirectoryStore(sys.argv[1], SMALL))
manager.open()
print("ready", flush=True)
sys.stdin.readline()
sequence = added = conflicts = 0
while sequence < int(sys.argv[2]):
    try:
        receipt = manager.add_batch("S", price(np.arange(sequence, sequence + 7)), sequence)
        sequence, added = receipt.sequence, added + receipt.added
    except SequenceConflictError as conflict:
        conflicts, sequence = conflicts + 1, conflict.sequence
print(json.dumps([added, conflicts]), flush=True)
sys.stdin.readline()
manager.close()
"""


def test_writers_race_each_other(tmp_path: Path) -> None:
    """Three processes append one series, each from where it thinks it ends: it comes out once."""
    added = [report[0] for report in together(APPENDER, [(tmp_path, 5000)] * 3)]
    with financial_data_service.open(tmp_path) as data:
        sequence = data["S"].sequence
        assert sum(added) == sequence
        check_window(data["S"].window(1000), 1000)
        values = data["S"].values(last=1000)
        assert np.array_equal(values, price(np.arange(sequence - 1000, sequence)))


CREATOR = """
import json, sys
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import SymbolLimitError
from financial_data_service.storage.directory import DirectoryStore
from service.test_shared_directory import SMALL
manager = SymbolManager(store=DirectoryStore(sys.argv[1], SMALL, 7))
manager.open()
print("ready", flush=True)
sys.stdin.readline()
made, refused = [], 0
for number in range(20):
    for symbol in (f"own-{sys.argv[2]}-{number}", f"shared-{number}"):
        try:
            manager.add_batch(symbol, [1.0])
            made.append(symbol)
        except SymbolLimitError:
            refused += 1
print(json.dumps([made, refused, sorted(manager.symbols())]), flush=True)
sys.stdin.readline()
manager.close()
"""


def test_processes_that_make_symbols_end_with_exactly_the_limit(tmp_path: Path) -> None:
    told = together(CREATOR, [(tmp_path, index) for index in range(4)])
    symbols = told[-1][2]
    assert len(symbols) == 7
    assert set().union(*(made for made, _, _ in told)) == set(symbols)
    with financial_data_service.open(tmp_path) as data:
        assert sorted(data) == symbols
        # A symbol that several made has the price of each of them.
        batches = [symbol for made, _, _ in told for symbol in made]
        assert {symbol: data[symbol].sequence for symbol in data} == {
            symbol: batches.count(symbol) for symbol in symbols
        }


def test_a_symbol_deleted_and_made_again_by_another_process(tmp_path: Path) -> None:
    """Two managers of one directory, as two processes have them, in lockstep."""
    one, two = (SymbolManager(store=DirectoryStore(tmp_path, SMALL)) for _ in range(2))
    one.open()
    two.open()
    for number in range(1, 50):
        one.add_batch("S", price(np.arange(20)))
        assert two.stats("S", 1).sequence == 20
        view = two["S"]
        one.delete("S")
        assert view.window(10).sequence == -1
        assert two.get("S") is None
        assert two.add_batch("S", [float(number)]).sequence == 1
        assert one.stats("S", 1).last == number
        (two if number % 2 else one).delete("S")
        one.run_housekeeping()
        two.run_housekeeping()
        assert one.symbols() == two.symbols() == []
    two.close()
    began = time.monotonic()
    one.close()
    assert time.monotonic() - began < 5


CHURN = """
import os, random, struct, sys, time
import numpy as np
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import (
    DataDirectoryError, OverwrittenError, SequenceConflictError, SymbolFileError, SymbolLimitError,
    SymbolNotFoundError,
)
from financial_data_service.storage.directory import DirectoryStore
from service.test_shared_directory import SMALL, check_window, price

path, seed, durability, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
draw = random.Random(seed)

def opened():
    manager = SymbolManager(store=DirectoryStore(path, SMALL, 3, durability))
    manager.open()
    return manager

def append(symbol):
    stats = manager.get(symbol)
    sequence = 0 if stats is None else max(0, stats.sequence - draw.choice([0, 0, 40]))
    prices = price(np.arange(sequence, sequence + draw.randint(1, 50)))
    receipt = manager.add_batch(symbol, prices, sequence)
    if symbol == "keep":
        os.write(log, struct.pack("<q", receipt.sequence))

def look(symbol):
    length = draw.randint(1, 1000)
    check_window(manager.window(symbol, length), length)
    answers = manager.all_stats(symbol)
    assert len({answer.sequence for answer in answers}) == 1
    for k, answer in enumerate(answers, 1):
        check_window(answer, 10**k)

log = os.open(f"{path}.{seed}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
manager = opened()
print("ready", flush=True)
ends = time.monotonic() + seconds
while time.monotonic() < ends:
    action = draw.random()
    symbol = draw.choice(["keep", "a", "b", "c"])
    try:
        if action < 0.6:
            append(symbol)
        elif action < 0.9:
            look(symbol)
        elif action < 0.96:
            if symbol != "keep":
                manager.delete(symbol)
        elif action < 0.98:
            manager.run_housekeeping()
            assert len(manager.symbols()) <= 3
            assert not manager.refused
        else:
            manager.close()
            manager = opened()
    except (SequenceConflictError, SymbolNotFoundError, SymbolLimitError, OverwrittenError):
        pass
    except (SymbolFileError, DataDirectoryError) as error:
        if "another process holds its lock" not in str(error):  # A busy disk may take its time.
            raise
manager.close()
print("done", flush=True)
"""


def churn(path: Path, durability: Durability, kills: int, seed: int) -> None:
    """Let three processes make, fill, look at and delete symbols, come and go; kill some of them.

    Whatever one of them is at when it is killed: the others find it right and go on.
    """
    draw = random.Random(seed)
    with in_use(path, SMALL, 3, durability) as manager:
        manager.add_batch("keep", price(np.arange(1)))
    seeds = itertools.count(seed)
    with ExitStack() as stack:

        def start(seconds: float) -> subprocess.Popen[str]:
            process = child(CHURN, path, next(seeds), durability, seconds)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        processes = [start(3600.0) for _ in range(3)]
        for process in processes:
            assert said(process) == "ready"
        for _ in range(kills):
            time.sleep(draw.uniform(0.0, 0.3))  # not waited for: a moment of chance
            victims = [0, 1, 2] if draw.random() < 0.2 else [draw.randrange(3)]
            for victim in victims:
                assert processes[victim].poll() is None, "it failed before it was killed"
                processes[victim].kill()
                processes[victim].wait(20)
            for victim in victims:
                processes[victim] = start(3600.0)
            for victim in victims:
                assert said(processes[victim]) == "ready"
        last = start(0.5)
        assert [said(last), said(last)] == ["ready", "done"]
        assert all(process.poll() is None for process in processes)
        for process in processes:
            process.kill()
            process.wait(20)
    logs = [Path(f"{path}.{number}") for number in range(seed, next(seeds))]
    noted = [np.fromfile(log, dtype="<i8", count=log.stat().st_size // 8) for log in logs]
    acknowledged = int(np.concatenate(noted).max())
    for _ in range(2):
        with in_use(path, SMALL, 3, durability) as manager:
            assert not manager.refused
            assert manager["keep"].sequence >= acknowledged > 1000
            for symbol in manager.symbols():
                stats = manager[symbol]
                held = stats.prices(stats.oldest, stats.sequence)
                assert np.array_equal(held, price(np.arange(stats.oldest, stats.sequence)))
                for length in (1, 10, 999, 1000):
                    check_window(stats.window(length), length)


@contextmanager
def in_use(
    path: Path, geometry: Geometry, max_symbols: int, durability: Durability
) -> Iterator[SymbolManager]:
    manager = SymbolManager(store=DirectoryStore(path, geometry, max_symbols, durability))
    manager.open()
    try:
        yield manager
    finally:
        manager.close()


@pytest.mark.parametrize("durability", ["process", "power"])
def test_processes_come_and_go_and_are_killed(tmp_path: Path, durability: Durability) -> None:
    churn(tmp_path / "data", durability, kills=2, seed=100)


@pytest.mark.deep
@pytest.mark.parametrize("durability", ["process", "power"])
def test_processes_come_and_go_and_are_killed_for_long(
    tmp_path: Path, durability: Durability
) -> None:
    churn(tmp_path / "data", durability, kills=100, seed=1000)
