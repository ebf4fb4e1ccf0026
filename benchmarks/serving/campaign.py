"""The campaign: every row on every server, in turns, and what each run showed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from serving.cores import Cores
from serving.ledger import Ledger, WrongResultError
from serving.load import Load, Report
from serving.options import Size
from serving.parsing import Parsing
from serving.server import OURS, SLOW, Replies, Server, bare, fixed, service
from serving.work import FILLING_BATCH, JSON, POSTED, SEEDED, Row, name_of_post

__all__ = ["CONNECTIONS", "Campaign", "Results", "Run", "Tools", "assert_flawless", "replies_of"]

CONNECTIONS = (1, 32)


class Tools(NamedTuple):
    """What is used from outside; None where it is not installed."""

    wrk: str | None
    nginx: str | None


class Run(NamedTuple):
    """One run: what was sent, and the processor time that the server took for it."""

    report: Report
    processor_seconds: float

    @property
    def processor_us(self) -> float:
        """Processor time of a request."""
        return 1e6 * self.processor_seconds / max(1, self.report.completed)

    @property
    def busy(self) -> float:
        """Share of its core that the server took."""
        return self.processor_seconds / self.report.seconds


@dataclass(slots=True)
class Results:
    """What was measured.

    Attributes
    ----------
    rows : list of Row
        In the order of the tables.
    servers : list of str
        Names, in the order of the tables.
    runs : dict
        By row, connections and server: a run for each repetition.
    parsing_us : list of (float, float)
        For each repetition: reading and copying a batch of the largest row, and reading alone.
    """

    rows: list[Row]
    servers: list[str]
    runs: dict[tuple[str, int, str], list[Run]] = field(default_factory=dict)
    parsing_us: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class Campaign:
    """The servers that run, and who asks them."""

    servers: Sequence[Server]
    ledgers: dict[str, Ledger]
    cores: Cores
    load: Load
    size: Size
    directory: Path

    @classmethod
    @contextmanager
    def prepared(
        cls, rows: Sequence[Row], size: Size, cores: Cores, tools: Tools, directory: Path
    ) -> Iterator[Campaign]:
        """Start the servers, with prices where prices are asked for; end them afterwards."""
        with ExitStack() as stack:
            servers = [stack.enter_context(service(name, cores.server)) for name in (SLOW, OURS)]
            ledgers = {server.name: Ledger(server) for server in servers}
            for name, ledger in ledgers.items():
                stack.callback(ledger.close)
                _say(f"filling {name} …")
                _fill(ledger, rows, size)
            replies = replies_of(ledgers[OURS], rows)
            for row in rows:
                for ledger in ledgers.values():
                    ledger.open(row.symbol)
            servers.insert(0, stack.enter_context(bare(cores.server, replies, directory)))
            if tools.nginx:
                nginx = fixed(tools.nginx, cores.server, replies, directory)
                servers.insert(0, stack.enter_context(nginx))
            load = Load(tools.wrk, cores.load, size.seconds)
            yield cls(servers, ledgers, cores, load, size, directory)

    def run(self, rows: Sequence[Row]) -> Results:
        """Measure all rows, again and again, the servers in another order each time."""
        results = Results(list(rows), [server.name for server in reversed(self.servers)])
        parsing = self._parsing(rows)
        for row in rows:
            row.write(self._file(row))
        for repetition in range(self.size.repetitions):
            for row in rows:
                _say(f"{repetition + 1}/{self.size.repetitions} {row.name} …")
                for connections in CONNECTIONS:
                    self._take_turns(row, connections, repetition, results)
            if parsing:
                results.parsing_us.append(parsing.microseconds())
        return results

    def _take_turns(self, row: Row, connections: int, repetition: int, results: Results) -> None:
        shift = repetition % len(self.servers)
        for server in (*self.servers[shift:], *self.servers[:shift]):
            key = row.name, connections, server.name
            results.runs.setdefault(key, []).append(self._measure(row, connections, server))

    def _measure(self, row: Row, connections: int, server: Server) -> Run:
        ledger = self.ledgers.get(server.name)
        before = server.processor_seconds()
        report = self.load.run(server.url_of(row), self._file(row), connections)
        run = Run(report, server.processor_seconds() - before)
        assert_flawless(report, server, row)
        if ledger:
            ledger.check(row, report, connections)
        return run

    def _parsing(self, rows: Sequence[Row]) -> Parsing | None:
        largest = [row for row in rows if row.name == name_of_post(FILLING_BATCH, JSON)]
        if not largest:
            return None
        size = self.size
        return Parsing(largest[0], self.cores.server, size.ring_prices, size.parsing_calls)

    def _file(self, row: Row) -> Path:
        return self.directory / f"{row.name.replace(' ', '-').replace('/', '-')}.requests"


def _fill(ledger: Ledger, rows: Sequence[Row], size: Size) -> None:
    symbols = {row.symbol for row in rows}
    for symbol in sorted(symbols):
        prices = {SEEDED: size.seeded, POSTED: size.ring_prices}.get(symbol, FILLING_BATCH)
        ledger.fill(symbol, prices)


def replies_of(ledger: Ledger, rows: Sequence[Row]) -> Replies:
    """Return the service's own replies, for those who send nothing but them."""
    requests = {request.path: request for row in rows for request in row.requests}
    return {path: ledger.ask(request) for path, request in requests.items()}


def assert_flawless(report: Report, server: Server, row: Row) -> None:
    """Check that every reply of a run was a success, and that there were any.

    Raises
    ------
    WrongResultError
        When not.
    """
    if not report.completed or report.refused or report.errors:
        raise WrongResultError(f"{server.name}, {row.name}: failures, or no reply; {report}")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
