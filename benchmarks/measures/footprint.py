"""Memory: bytes a price, mapped and resident, and what empty symbols cost. And compile time."""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory

from financial_data_service import RunningStats
from harness.memory import resident_bytes
from harness.table import Table, number
from measures.bench import Bench, Target

__all__ = ["measure_memory", "measure_start"]

_BYTES_A_PRICE = 8.5
_EMPTY_SYMBOLS = 10

_START = """
from time import perf_counter
begin = perf_counter()
from financial_data_service.engine.running_stats import warm_up
imported = perf_counter()
warm_up()
print(imported - begin, perf_counter() - imported)
"""


def measure_memory(bench: Bench) -> Table:
    """Count the bytes of the full ring, of empty ones, and of the deques."""
    held = min(bench.stats.sequence, bench.stats.largest_window)
    mapped = bench.stats.size_bytes / held
    resident = resident_bytes(bench.stats._ring.region) / held
    table = Table("Memory", ("what", "bytes a price", "MB"))
    table.add("array of the prices alone", "8.00", f"{8 * held / 1e6:,.1f}")
    for name, value in (("mapped", mapped), ("resident, ring full", resident)):
        table.add(f"{held:,} prices, {name}", f"{value:.2f}", f"{value * held / 1e6:,.1f}")
    empty = [RunningStats(bench.scale.largest_window) for _ in range(_EMPTY_SYMBOLS)]
    empty_mb = sum(resident_bytes(stats._ring.region) for stats in empty) / 1e6
    table.add(f"{_EMPTY_SYMBOLS} empty symbols of that size, resident", "", f"{empty_mb:,.2f}")
    prices, size = bench.scale.deque_prices, bench.deques_bytes
    table.add(f"deques, {prices:,} prices, resident", f"{size / prices:,.0f}", f"{size / 1e6:,.1f}")
    table.notes.append(
        "Resident memory is counted page by page in the ring's own mapping, for the deques as the "
        "growth of the process."
    )
    bytes_a_price = max(mapped, resident)
    bench.targets.append(
        Target(
            f"bytes a price at {held:,} prices",
            f"at most {_BYTES_A_PRICE:g}",
            f"{bytes_a_price:.2f}",
            bytes_a_price <= _BYTES_A_PRICE,
        )
    )
    return table


def measure_start(scale: str) -> Table:
    """Time the import and the compilation in fresh processes, without and with a cache."""
    table = Table("Start: seconds", ("", "import", "compile or load kernels"))
    with TemporaryDirectory() as cache:
        names = ("nothing cached", "kernels cached") if scale != "smoke" else ()
        for name in names:
            table.add(name, *_start({"NUMBA_CACHE_DIR": cache}))
    if scale == "smoke":  # compiling takes longer than all the rest of it
        table.add("as it is", *_start({}))
    table.notes.append("Compiling happens once on a machine; no figure above contains any of it.")
    return table


def _start(environment: dict[str, str]) -> tuple[str, str]:
    result = subprocess.run(
        [sys.executable, "-c", _START],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    imported, compiled = result.stdout.split()
    return number(float(imported)), number(float(compiled))
