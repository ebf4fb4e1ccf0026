"""Appending: the first fill, then batches of all sizes into a ring that has been touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from time import perf_counter_ns
from typing import Any

import numpy as np

from harness.memory import resident_bytes_of_process
from harness.table import Table, number
from harness.timing import Side, Timing, alternate, no_collector
from measures.bench import BATCH_MAX, Bench, Target

__all__ = ["measure_appends", "measure_first_fill"]

_CHUNK_BATCHES = 100
_SLOWEST_TIMES_COPY = 3.0
_DEQUE_ROUNDS = 5


def measure_first_fill(bench: Bench) -> Table:
    """Load as many prices as the largest window holds into a fresh ring, and check all windows."""
    chunk = min(bench.scale.largest_window, _CHUNK_BATCHES * BATCH_MAX)
    chunks = bench.scale.largest_window // chunk
    samples = np.empty((2, chunks))
    sides: tuple[Callable[[Any], object], ...] = (bench.stats.append, bench.copy.append)
    with no_collector():
        for number_of_chunk in range(chunks):
            batches = np.split(bench.walk.take(chunk), chunk // BATCH_MAX)
            for side in (0, 1) if number_of_chunk % 2 else (1, 0):
                append = sides[side]
                begin = perf_counter_ns()
                for batch in batches:
                    append(batch)
                samples[side, number_of_chunk] = perf_counter_ns() - begin
    bench.copy.assert_same(bench.stats)
    bench.verify()
    ours, copy = Timing(samples[0] / chunk), Timing(samples[1] / chunk)
    table = Table(
        f"First fill: {bench.scale.largest_window:,} prices into fresh memory",
        ("", "seconds", "ns/price", "min–max", "times the copy"),
    )
    seconds = samples.sum(axis=1) / 1e9
    table.add("append", number(seconds[0]), *_cells(ours), number(ours.ratio_to(copy)))
    table.add("copy (memcpy)", number(seconds[1]), *_cells(copy), "1")
    table.notes.append(
        "Unfavourable to both: the kernel clears each page at its first touch. Batches of "
        f"{BATCH_MAX:,}, straight from where they were made; making them is not timed. All windows "
        "were compared with exact integer arithmetic afterwards."
    )
    return table


def measure_appends(bench: Bench) -> Table:
    """Append batches of 1, 100 and 10,000, arrays and lists, beside the copy and the deques."""
    _fill_deques(bench)
    table = Table(
        "Append: nanoseconds a price, ring full and wrapping",
        ("batch", "append", "min–max", "copy", "times the copy", "deques", "times append"),
    )
    for length, as_list in ((1, False), (1, True), (100, False), (10_000, False), (10_000, True)):
        ours, copy, deques = _append_row(bench, length, as_list)
        name = f"{length:,}, {'list' if as_list else 'array'}"
        table.add(
            name,
            *_cells(ours),
            number(copy.median),
            number(ours.ratio_to(copy)),
            number(deques.median),
            number(deques.median / ours.median),
        )
        if name == "10,000, array":
            _add_target(bench, ours.ratio_to(copy))
    bench.copy.assert_same(bench.stats)
    bench.verify()
    table.notes += [
        "The copy is NumPy's slice assignment of the same array into an identical ring, in turns "
        "with the append; it is also all that NumPy, pandas or polars do when a price comes, their "
        "work is left to the query. Lists pay for the conversion of Python's floats.",
        f"Deques: two monotonic deques and running sums a window, eight windows, holding "
        f"{bench.scale.deque_prices:,} prices; more would take too much memory, and the cost does "
        "not depend on it.",
    ]
    return table


def _append_row(bench: Bench, length: int, as_list: bool) -> tuple[Timing, Timing, Timing]:
    pool = bench.pool(length)
    lists = [batch.tolist() for batch in pool]
    calls = bench.scale.append_calls[length]
    found = alternate(
        [
            Side("ours", _feeder(bench.stats.append, lists if as_list else pool), calls, length),
            Side("copy", _feeder(bench.copy.append, pool), calls, length),
        ],
        bench.scale.rounds,
    )
    calls = max(1, min(calls, BATCH_MAX // length))
    side = Side("deques", _feeder(bench.deques.append, lists), calls, length)
    deques = alternate([side], min(bench.scale.rounds, _DEQUE_ROUNDS))
    return found["ours"], found["copy"], deques["deques"]


def _feeder(append: Callable[[Any], object], batches: Sequence[Any]) -> Callable[[], object]:
    endless = cycle(batches)
    return lambda: append(next(endless))


def _fill_deques(bench: Bench) -> None:
    before = resident_bytes_of_process()
    missing = bench.scale.deque_prices
    while missing > 0:
        prices = bench.walk.take(min(missing, BATCH_MAX))
        bench.deques.append(prices.tolist())
        missing -= len(prices)
    bench.deques_bytes = resident_bytes_of_process() - before


def _add_target(bench: Bench, ratio: float) -> None:
    bench.targets.append(
        Target(
            "append in batches of 10,000, against the copy into an identical ring",
            f"at most {_SLOWEST_TIMES_COPY:g} times",
            f"{number(ratio)} times",
            ratio <= _SLOWEST_TIMES_COPY,
        )
    )


def _cells(timing: Timing) -> tuple[str, str]:
    return number(timing.median), f"{number(timing.least)}–{number(timing.greatest)}"
