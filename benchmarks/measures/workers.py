"""Two processes beside one over a data directory: what a request costs, and how many are answered.

Servers and load share all cores, because there are no more: so nginx with one and with two
processes shows what a second process can gain on this machine at best.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.exact import Verdict
from harness.table import Table, number
from measures.data_bench import DataBench
from serving.campaign import Run, assert_flawless, replies_of
from serving.ledger import Ledger
from serving.load import Load
from serving.server import Server, fixed, service_with
from serving.work import FILLING_BATCH, POSTED, SEEDED, Row, rows

__all__ = ["measure_workers"]

_CONNECTIONS = 32
_ROWS = "^(GET k=3|POST 100|POST 10,000)$"
_IN_MEMORY, _ONE, _TWO = "in memory", "data directory", "data directory, 2 workers"
_NGINX_ONE, _NGINX_TWO = "nginx", "nginx, 2 workers"
_BASE_OF = {
    _IN_MEMORY: _ONE,
    _ONE: _ONE,
    _TWO: _ONE,
    _NGINX_ONE: _NGINX_ONE,
    _NGINX_TWO: _NGINX_ONE,
}


@dataclass(slots=True)
class _Servers:
    """What runs, who loads it, and what each run showed."""

    servers: list[Server]
    ledgers: dict[str, Ledger]
    load: Load
    directory: Path
    runs: dict[tuple[str, str], list[Run]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def started(cls, bench: DataBench, wanted: list[Row]) -> Iterator[_Servers]:
        """Start all servers, with prices where prices are asked for; end them afterwards."""
        directory = bench.places.disk / "served"
        directory.mkdir()
        window = ("--largest-window", str(10**bench.scale.served_k_max))
        flags: dict[str, tuple[str, ...]] = {
            _IN_MEMORY: (),
            _ONE: ("--data-dir", str(directory / "one")),
            _TWO: ("--data-dir", str(directory / "two"), "--workers", "2"),
        }
        with ExitStack() as stack:
            servers = [
                stack.enter_context(service_with(name, *window, *more))
                for name, more in flags.items()
            ]
            ledgers = {server.name: Ledger(server) for server in servers}
            for ledger in ledgers.values():
                stack.callback(ledger.close)
                _fill(bench, ledger)
            servers += _start_nginx(stack, ledgers[_ONE], wanted, directory)
            for row in wanted:
                row.write(_file(directory, row))
                for ledger in ledgers.values():
                    ledger.open(row.symbol)
            load = Load(shutil.which("wrk"), None, bench.scale.seconds)
            yield cls(servers, ledgers, load, directory)

    def measure(self, row: Row, server: Server) -> None:
        """Load a server with a row, and check what it holds afterwards."""
        before = server.processor_seconds()
        report = self.load.run(server.url_of(row), _file(self.directory, row), _CONNECTIONS)
        run = Run(report, server.processor_seconds() - before)
        assert_flawless(report, server, row)
        if server.name in self.ledgers:
            self.ledgers[server.name].check(row, report, _CONNECTIONS)
        self.runs.setdefault((row.name, server.name), []).append(run)


def measure_workers(bench: DataBench) -> Table:
    """Load every server with every row, in turns."""
    wanted = rows(_ROWS)
    with _Servers.started(bench, wanted) as these:
        for repetition in range(bench.scale.repetitions):
            shift = repetition % len(these.servers)
            for row in wanted:
                for server in (*these.servers[shift:], *these.servers[:shift]):
                    these.measure(row, server)
        posted = sum(ledger.prices for ledger in these.ledgers.values())
        verdict = Verdict(0, 0.0, 0.0)
        for ledger in these.ledgers.values():
            verdict = verdict.worse(ledger.verdict)
    bench.verdict = bench.verdict.worse(verdict)
    return _table(bench, these, wanted, posted)


def _fill(bench: DataBench, ledger: Ledger) -> None:
    """Go round the ring that is added to, so that no run meets fresh pages."""
    ledger.fill(SEEDED, FILLING_BATCH)
    ledger.fill(POSTED, 2 * 10**bench.scale.served_k_max)


def _start_nginx(
    stack: ExitStack, ledger: Ledger, wanted: list[Row], directory: Path
) -> Iterator[Server]:
    executable = shutil.which("nginx", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))
    if executable is None:
        print("nginx is not installed: no rows of it.", file=sys.stderr)
        return
    replies = replies_of(ledger, wanted)
    for name, processes in ((_NGINX_ONE, 1), (_NGINX_TWO, 2)):
        own = directory / f"nginx-{processes}"
        own.mkdir()
        yield stack.enter_context(
            fixed(executable, None, replies, own, name=name, processes=processes)
        )


def _file(directory: Path, row: Row) -> Path:
    return directory / f"{row.name.replace(' ', '-')}.requests"


def _table(bench: DataBench, these: _Servers, wanted: list[Row], posted: int) -> Table:
    table = Table(
        f"Workers: requests over {_CONNECTIONS} connections, servers and load on all cores",
        (
            *("request", "served by", "requests/s", "min–max", "times 1 process"),
            *("processor µs", "times 1 process", "p99 µs"),
        ),
    )
    for row in wanted:
        for server in these.servers:
            base = these.runs[row.name, _BASE_OF[server.name]]
            runs = these.runs[row.name, server.name]
            rates = [run.report.rate for run in runs]
            costs = [run.processor_us for run in runs]
            table.add(
                row.name,
                server.name,
                f"{_median(rates):,.0f}",
                f"{min(rates):,.0f}–{max(rates):,.0f}",
                number(_ratio(rates, [run.report.rate for run in base])),
                number(_median(costs)),
                number(_ratio(costs, [run.processor_us for run in base])),
                number(_median([run.report.p99_us for run in runs])),
            )
    scale = bench.scale
    table.notes.append(
        f"{scale.repetitions} runs of {scale.seconds:g} s each, in turns; windows up to "
        f"{10**scale.served_k_max:,} prices, rings gone round before. `processor µs` is the "
        "processor time of all processes of a server, in their own code and in the kernel, for "
        "each request; ratios are to one process with a data directory, for nginx to one of its "
        "own, taken within each repetition. The load takes part of the same cores: nginx, which "
        f"sends the same replies and stores nothing, shows how much room there is. {posted:,} "
        "prices were posted and counted, each once; after each run the windows were those of a "
        "batch that was sent."
    )
    if these.load.wrk is None:
        table.notes.append(
            "**Without wrk**: the load came from a client in Python, which is slower than the "
            "servers. These numbers show that it runs, not how fast."
        )
    return table


def _ratio(ones: list[float], others: list[float]) -> float:
    # A short run may not show in processor time, which is counted in hundredths of a second.
    return _median([one / max(other, 1e-9) for one, other in zip(ones, others, strict=True)])


def _median(values: list[float]) -> float:
    return float(np.median(values))
