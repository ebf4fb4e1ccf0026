"""Queries over a mapped file beside queries in memory, here and in a process that only reads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from financial_data_service import RunningStats, WindowStats
from financial_data_service.engine.layout import Geometry
from financial_data_service.storage.file_stats import FileStats
from harness.speed_of_light import empty_query
from harness.table import Table, number
from harness.timing import Side, Timing, take_turns
from measures.bench import BATCH_MAX
from measures.data_bench import SYMBOL, DataBench, median_and_range, symbol_in
from serving.process import environment, python

__all__ = ["measure_windows"]

_CHUNK_BATCHES = 100
_SHORT = 1_000


class _Reader:
    """Another process, which has mapped the file to read it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asked, self._said = process.stdin, process.stdout

    @classmethod
    @contextmanager
    def started(cls, bench: DataBench) -> Iterator[_Reader]:
        with subprocess.Popen(
            python("measures.reader_process", str(bench.full), SYMBOL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            process_group=0,
        ) as process:
            try:
                yield cls(process)
            finally:
                process.kill()  # It only reads.

    def block(self, length: int, calls: int, expected: WindowStats) -> float:
        """Have it ask so many times; return the nanoseconds of a call as it took them."""
        self._asked.write(f"{length} {calls}\n")
        self._asked.flush()
        elapsed, answer = json.loads(self._said.readline())
        assert WindowStats._make(answer) == expected, (answer, expected)
        return float(elapsed)


def measure_windows(bench: DataBench) -> Table:
    """Fill a symbol in memory and one in a file, ask both, and have another process ask the file.

    The file is left behind, closed cleanly, for the restarts.
    """
    table = Table(
        "Query with a data directory: microseconds a window, ring full",
        (
            *("window", "data directory", "min–max", "in memory", "times in memory"),
            *("another process", "times in memory", "empty call"),
        ),
    )
    geometry = Geometry(bench.scale.largest_window, batch_max=BATCH_MAX)
    first = bench.walk.take(1)
    memory = RunningStats(geometry.largest_window, batch_max=BATCH_MAX)
    memory.append(first)
    with symbol_in(bench.full, geometry, first) as file:
        _fill(bench, memory, file)
        bench.verify(memory)
        bench.expected = memory.all_stats()
        assert file.all_stats() == bench.expected
        with _Reader.started(bench) as reader:
            for length in (_SHORT, bench.scale.largest_window):
                blocks = _blocks(bench, memory, file, reader, length)
                _add_row(table, length, take_turns(blocks, bench.scale.rounds))
    memory.close()
    table.notes.append(
        "What a GET asks of the engine. Both rings hold the same prices, the answers of all three "
        "are equal to the bit. `another process` has opened the directory to read it "
        "(`financial_data_service.open`) and times its own calls; it takes turns with the others. "
        "No reader takes a lock. `empty call` as in the benchmark of the engine."
    )
    return table


def _fill(bench: DataBench, memory: RunningStats, file: FileStats) -> None:
    missing = bench.scale.largest_window - 1  # one price is there already
    while missing > 0:
        chunk = bench.walk.take(min(missing, _CHUNK_BATCHES * BATCH_MAX))
        for start in range(0, len(chunk), BATCH_MAX):
            memory.append(chunk[start : start + BATCH_MAX])
            file.append(chunk[start : start + BATCH_MAX])
        missing -= len(chunk)


def _blocks(
    bench: DataBench, memory: RunningStats, file: FileStats, reader: _Reader, length: int
) -> dict[str, Callable[[], float]]:
    calls = bench.scale.query_calls
    expected = memory.window(length)
    return {
        "memory": Side("", partial(memory.window, length), calls).block,
        "file": Side("", partial(file.window, length), calls).block,
        "reader": partial(reader.block, length, calls, expected),
        "empty": Side("", empty_query(memory, length), calls).block,
    }


def _add_row(table: Table, length: int, found: dict[str, Timing]) -> None:
    memory, file, reader = (found[name] for name in ("memory", "file", "reader"))
    table.add(
        f"{length:,}",
        *median_and_range(file, 1e3),
        number(memory.median / 1e3),
        number(file.ratio_to(memory)),
        number(reader.median / 1e3),
        number(reader.ratio_to(memory)),
        number(found["empty"].median / 1e3),
    )
