"""Queries: any window of a full ring, beside the floor of a query and beside recomputing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from harness import rivals
from harness.speed_of_light import empty_query, items_read, read_lines
from harness.table import Table, number
from harness.timing import Side, Timing, alternate, calls_for, no_collector
from measures.bench import BATCH_MAX, Bench, Target

__all__ = ["measure_alternatives", "measure_windows"]

_LONGEST_TIMES_SHORTEST = 4.0
_LONGEST_US = 3.0
_SEED = 7
_CANDIDATES = 5_000
_RIVAL_BLOCK_NS = 1_000_000
_ALL = 0  # stands for all windows 10^1 … 10^k_max in one call, where a length is expected


def measure_windows(bench: Bench) -> Table:
    """Ask for windows of all lengths, warm and each after an append."""
    worst = _most_items(bench)
    lengths = [*bench.scale.windows, worst]
    items = {length: f"{items_read(bench.stats, length):,}" for length in lengths}
    found = alternate(_sides(bench, lengths), bench.scale.rounds)
    cold = _after_appends(bench, lengths)
    table = Table(
        "Query: microseconds a window, ring full",
        ("window", "query", "min–max", "empty call", "its lines", "items", "after append", "p99"),
    )
    for length in lengths:
        name = f"{length:,}" + (" (most items)" if length == worst else "")
        _add_row(table, name, found, length, items[length], cold[length])
    _add_row(table, f"all {bench.scale.k_max} windows", found, _ALL, "", None)
    _add_random_row(bench, table)
    table.notes.append(
        "A query reads prices at the window's two ends and summaries of blocks between: `items` of "
        "them. `empty call` is a compiled function that does nothing with the same arguments and "
        "returns the same kind of tuple; `its lines` is one that reads the cache lines of those "
        "items. `after append` follows an append of 10,000 prices each time, which moves the "
        "window onto lines that no query has read before; its p99 beside it, single calls with the "
        f"clock's own cost. `most items` is the costliest of {_CANDIDATES:,} random lengths."
    )
    _add_targets(bench, found)
    return table


def measure_alternatives(bench: Bench) -> Table:
    """Ask NumPy, pandas, polars and the deques for the same windows."""
    prices = bench.copy.tail(bench.scale.largest_window)
    columns = ("NumPy", "pandas", "polars", "deques")
    table = Table(
        "Query: microseconds a window, beside what one would take instead",
        ("window", "query", *(cell for name in columns for cell in (name, "×"))),
    )
    for length in bench.scale.windows:
        found = _time_rivals(bench, prices[-length:])
        cells = [
            cell
            for name in columns
            for cell in (
                (_us(found[name]), f"{number(found[name].median / found['ours'].median)}")
                if name in found
                else ("–", "–")
            )
        ]
        table.add(f"{length:,}", _us(found["ours"]), *cells)
    table.notes.append(
        "NumPy: min, max, mean and var over an array of just that window. pandas and polars: the "
        "last row of rolling(n).min, max, mean, var over just the window's prices; left out above "
        f"10^{bench.scale.rolling_k_max}, where they take seconds and several columns of the "
        "window's size. Deques answer their fixed windows at once, having paid at every append, "
        "and with a variance that running sums blur; left out above "
        f"{bench.scale.deque_prices:,} prices (memory) and between powers of ten. `×` is how many "
        "times as long as the query: below 1 it is faster."
    )
    return table


def _sides(bench: Bench, lengths: list[int]) -> list[Side]:
    stats, calls = bench.stats, bench.scale.query_calls
    sides = []
    for length in lengths:
        sides += [
            Side(f"query {length}", partial(stats.window, length), calls),
            Side(f"empty {length}", empty_query(stats, length), calls),
            Side(f"lines {length}", read_lines(stats, length), calls),
        ]
    powers = [10**k for k in range(1, stats.k_max + 1)]
    empties = [empty_query(stats, length) for length in powers]
    lines = [read_lines(stats, length) for length in powers]
    calls = max(1, calls // len(powers))
    return [
        *sides,
        Side(f"query {_ALL}", stats.all_stats, calls),
        Side(f"empty {_ALL}", lambda: [empty() for empty in empties], calls),
        Side(f"lines {_ALL}", lambda: [read() for read in lines], calls),
    ]


def _after_appends(bench: Bench, lengths: list[int]) -> dict[int, Timing]:
    """Time single queries that each follow an append."""
    batches = cycle(bench.pool(BATCH_MAX))
    samples = {length: np.empty(bench.scale.cold_queries) for length in lengths}
    query = bench.stats.window
    with no_collector():
        for turn in range(bench.scale.cold_queries):
            for length in lengths:
                bench.append_untimed(batches)
                begin = perf_counter_ns()
                query(length)
                samples[length][turn] = perf_counter_ns() - begin
    bench.copy.assert_same(bench.stats)
    bench.verify()
    return {length: Timing(values) for length, values in samples.items()}


def _most_items(bench: Bench) -> int:
    """Return the length, of many random ones, whose query reads the most."""
    rng = np.random.default_rng(_SEED)
    lengths = rng.integers(1, bench.scale.largest_window, _CANDIDATES, endpoint=True)
    return max(map(int, lengths), key=lambda length: items_read(bench.stats, length))


def _add_random_row(bench: Bench, table: Table) -> None:
    rng = np.random.default_rng(_SEED + 1)
    lengths = cycle(map(int, rng.integers(1, bench.scale.largest_window, 1_000, endpoint=True)))
    side = Side("random", lambda: bench.stats.window(next(lengths)), bench.scale.query_calls)
    timing = alternate([side], bench.scale.rounds)["random"]
    table.add(f"random 1…{bench.scale.largest_window:,}", _us(timing), _range(timing), *[""] * 5)


def _add_row(
    table: Table, name: str, found: dict[str, Timing], length: int, items: str, cold: Timing | None
) -> None:
    query = found[f"query {length}"]
    floor = (_us(found[f"empty {length}"]), _us(found[f"lines {length}"]))
    after = (_us(cold), number(float(np.percentile(cold.samples, 99)) / 1e3)) if cold else ("", "")
    table.add(name, _us(query), _range(query), *floor, items, *after)


def _add_targets(bench: Bench, found: dict[str, Timing]) -> None:
    longest, shortest = found[f"query {bench.scale.largest_window}"], found["query 10"]
    ratio, longest_us = longest.ratio_to(shortest), longest.median / 1e3
    name = f"query of {bench.scale.largest_window:,} prices, again and again"
    bench.targets += [
        Target(
            f"{name}, against 10 prices",
            f"at most {_LONGEST_TIMES_SHORTEST:g} times",
            f"{number(ratio)} times",
            ratio <= _LONGEST_TIMES_SHORTEST,
        ),
        Target(
            name, f"under {_LONGEST_US:g} µs", f"{number(longest_us)} µs", longest_us < _LONGEST_US
        ),
    ]


def _time_rivals(bench: Bench, prices: npt.NDArray[np.float64]) -> dict[str, Timing]:
    length, scale = len(prices), bench.scale
    functions: dict[str, Callable[[], object]] = {"ours": partial(bench.stats.window, length)}
    calls: dict[str, Callable[[], rivals.Answer]] = {
        "NumPy": partial(rivals.numpy_recompute, prices)
    }
    if length <= 10**scale.rolling_k_max:
        calls["pandas"] = partial(rivals.pandas_rolling, prices)
        calls["polars"] = partial(rivals.polars_rolling, prices)
    answer = bench.stats.window(length)
    for call in calls.values():
        rivals.assert_close(
            call(), (answer.min, answer.max, answer.avg, answer.var), var_tolerance=1e-6
        )
    k = len(str(length)) - 1
    if length == 10**k and length <= scale.deque_prices:
        calls["deques"] = partial(bench.deques.stats, k)
        held = rivals.numpy_recompute(bench.deques.held(k))
        rivals.assert_close(bench.deques.stats(k), held, var_tolerance=1e-3)
    functions.update(calls)
    return _time_in_budget(functions, scale.rival_budget_ns, scale.rounds)


def _time_in_budget(
    functions: dict[str, Callable[[], object]], budget_ns: int, rounds_max: int
) -> dict[str, Timing]:
    block_ns = min(_RIVAL_BLOCK_NS, budget_ns)
    sides = [Side(name, call, calls_for(call, block_ns)) for name, call in functions.items()]
    begin = perf_counter_ns()
    alternate(sides, 1)  # two rounds with the one that is thrown away
    cost_ns = (perf_counter_ns() - begin) // 2
    rounds = max(2, min(rounds_max, len(functions) * budget_ns // cost_ns))
    return alternate(sides, rounds)


def _us(timing: Timing) -> str:
    return number(timing.median / 1e3)


def _range(timing: Timing) -> str:
    return f"{number(timing.least / 1e3)}–{number(timing.greatest / 1e3)}"
