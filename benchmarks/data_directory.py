"""Benchmark of the data directory: appends, queries, power mode, restarts, workers.

::

    python benchmarks/data_directory.py [--quick | --smoke] [--markdown FILE | --update FILE]

Files stand beside memory, an acknowledged append beside what the disk takes for the same bytes, two
processes beside one, all in turns in the same run. The files lie beside the sources (``.run``), and
in ``/dev/shm`` for comparison; they are removed at the end.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from financial_data_service.engine.running_stats import warm_up
from harness import command
from harness.table import Table, number
from measures.bench import targets_table
from measures.data_bench import SCALES, DataBench, Places
from measures.file_appends import measure_appends
from measures.file_windows import measure_windows
from measures.power import measure_power
from measures.restart import measure_restart
from measures.workers import measure_workers
from serving.ledger import WrongResultError
from serving.process import SetupError

_OWNER = "benchmarks/data_directory.py"
_INTERRUPTED = 130  # as shells report an end by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all measures and hand out their tables, targets first."""
    options = command.parse("Benchmark of the data directory.", arguments)
    signal.signal(signal.SIGTERM, _end)  # so that servers and files are gone then, too
    try:
        _measure(options)
    except KeyboardInterrupt:
        print("Interrupted; the servers are stopped, the files removed.", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except (SetupError, WrongResultError) as error:
        sys.exit(str(error))


def _measure(options: command.Options) -> None:
    header = command.header(options)
    warm_up()
    tables: list[Table] = []
    with Places.made() as places:
        bench = DataBench(SCALES[options.scale], places)
        for measure in (measure_appends, measure_power, measure_windows, measure_restart):
            print(f"{measure.__name__} …", file=sys.stderr)
            found = measure(bench)
            tables += found if isinstance(found, list) else [found]
        print(f"{measure_workers.__name__} …", file=sys.stderr)
        tables.append(measure_workers(bench))
    command.emit(_OWNER, options, header, [_targets(bench, options.scale), *tables])


def _targets(bench: DataBench, scale: str) -> Table:
    table = targets_table(bench.targets)
    answers, avg_error, var_error = bench.verdict
    table.notes.append(
        f"{answers} answers compared with exact integer arithmetic: min, max and last equal to the "
        f"bit, avg off by {number(avg_error)} ulp at most, var by {number(var_error)} relative."
    )
    if scale != "full":
        table.notes.append("The targets are meant for a run of full size; this was a smaller one.")
    return table


def _end(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
