"""Benchmarks of the engine: appends, queries, courses of prices, memory.

::

    python benchmarks/engine.py [--quick | --smoke] [--markdown FILE | --update FILE]

Each number stands beside its speed of light and beside what one would take instead, measured in
turns in the same run. Every answer that was timed is checked: against exact integer arithmetic,
the ring's content price by price against the copy's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from financial_data_service.engine.running_stats import warm_up
from harness import command
from harness.table import Table, number
from measures.appends import measure_appends, measure_first_fill
from measures.bench import SCALES, Bench, targets_table
from measures.footprint import measure_memory, measure_start
from measures.shapes import measure_shapes
from measures.windows import measure_alternatives, measure_windows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all measures and hand out their tables, targets first."""
    options = command.parse("Benchmarks of the engine.", arguments)
    header = command.header(options)
    warm_up()
    bench = Bench.of(SCALES[options.scale])
    tables = []
    for measure in (
        measure_first_fill,
        measure_appends,
        measure_windows,
        measure_alternatives,
        measure_shapes,
        measure_memory,
    ):
        print(f"{measure.__name__} …", file=sys.stderr)
        tables.append(measure(bench))
    tables.append(measure_start(options.scale))
    command.emit("benchmarks/engine.py", options, header, [_targets(bench), *tables])


def _targets(bench: Bench) -> Table:
    """Return what was to be reached beside what was, and how exact the answers were."""
    table = targets_table(bench.targets)
    answers, avg_error, var_error = bench.verdict
    table.notes.append(
        f"{answers} answers over 10 to {bench.scale.largest_window:,} prices compared with exact "
        f"integer arithmetic: min, max and last equal to the bit, avg off by {number(avg_error)} "
        f"ulp at most, var by {number(var_error)} relative."
    )
    if bench.scale.k_max < 8:
        table.notes.append("The targets are meant for a run of full size; this was a smaller one.")
    return table


if __name__ == "__main__":
    main()
