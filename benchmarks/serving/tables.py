"""The tables of the benchmark over HTTP, and what was to be reached."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.table import Table, number
from serving.campaign import CONNECTIONS, Results, Run
from serving.server import BARE, NGINX, OURS, SLOW
from serving.work import BINARY, FILLING_BATCH, JSON, Row, name_of_post

__all__ = ["parsing_table", "rates_table", "shares_table", "targets_table"]

_MANY = CONNECTIONS[-1]
_SHARES = {"GET k=8": (0.70, 0.80), "POST 10": (0.53, 0.60), "POST 10,000": (0.13, 0.16)}
_TIMES_SLOW = {"GET k=8": 10.0}
_TIMES_JSON = 5.0
_TIMES_PARSING = 1.8
_P99_TIMES_P50 = 4.0


def targets_table(results: Results) -> Table:
    """Return what was to be reached beside what was."""
    columns = ("what", "limit", "aim", *map(_connections, CONNECTIONS), "reached")
    table = Table("Targets over HTTP", columns)
    names = [row.name for row in results.rows]
    for name, (limit, aim) in _SHARES.items():
        if name in names and NGINX in results.servers:
            shares = [_ratio(results, name, count, OURS, NGINX) for count in CONNECTIONS]
            _add_least(table, f"{name}, share of nginx's requests/s", limit, aim, shares)
    for name, limit in _TIMES_SLOW.items():
        if name in names:
            times = [_ratio(results, name, count, OURS, SLOW) for count in CONNECTIONS]
            _add_least(table, f"{name}, times FastAPI alone", limit, None, times)
    binary, json = (name_of_post(FILLING_BATCH, kind) for kind in (BINARY, JSON))
    if binary in names and json in names:
        times = [_times_row(results, binary, json, count) for count in CONNECTIONS]
        _add_least(table, f"{binary}, times {json}", _TIMES_JSON, None, times)
    if results.parsing_us:
        times = [_times_parsing(results, count) for count in CONNECTIONS]
        what = f"POST {FILLING_BATCH:,}, processor time, times parsing plus memcpy"
        _add_most(table, what, f"at most {_TIMES_PARSING:g}", times, times[-1] <= _TIMES_PARSING)
    _add_tail(table, results)
    table.notes.append(
        f"Medians over the repetitions, ratios taken within each; {_MANY} connections count. "
        "Tails: the row in which p99 is furthest from p50."
    )
    return table


def shares_table(results: Results) -> Table:
    """Return requests per second as shares of nginx's."""
    others = (OURS, BARE, SLOW)
    columns = [f"{name}, {count}" for count in CONNECTIONS for name in others]
    table = Table("Share of nginx's requests/s, by connections", ("request", *columns))
    for row in results.rows:
        pairs = [(name, count) for count in CONNECTIONS for name in others]
        shares = [_ratio(results, row.name, count, name, NGINX) for name, count in pairs]
        table.add(row.name, *map(number, shares))
    return table


def rates_table(results: Results, connections: int) -> Table:
    """Return everything that was measured with so many connections."""
    table = Table(
        f"Requests over {_connections(connections)}",
        (
            "request",
            "server",
            "requests/s",
            "min–max",
            "prices/s",
            "p50 µs",
            "p99",
            "p99.9",
            "CPU µs/request",
            "busy",
        ),
    )
    for row in results.rows:
        for server in results.servers:
            runs = results.runs[row.name, connections, server]
            table.add(row.name, server, *_rates(row, runs))
    return table


def parsing_table(results: Results) -> Table:
    """Return the largest batch beside the least that must be done with it."""
    table = Table(
        f"POST of {FILLING_BATCH:,} prices: microseconds of processor time a batch",
        ("what", "µs", "min–max", "times parsing plus memcpy"),
    )
    both, alone = (list(times) for times in zip(*results.parsing_us, strict=True))
    table.add("parsing", *_cells(alone), number(_median_ratio(alone, both)))
    table.add("parsing plus memcpy", *_cells(both), "1")
    for count in CONNECTIONS:
        for server in (OURS, SLOW, BARE):
            times = _processor(results, count, server)
            name = f"{server}, {_connections(count)}"
            table.add(name, *_cells(times), number(_median_ratio(times, both)))
    table.notes.append(
        "Parsing plus memcpy is in process, on the servers' core: the service's own JSON reader, "
        "then the copy into a ring of the same size. A server's processor time is the kernel's "
        "count for its process, divided by requests; it includes reading from the socket."
    )
    return table


def _rates(row: Row, runs: list[Run]) -> Iterable[str]:
    rates = [run.report.rate for run in runs]
    yield f"{_median(rates):,.0f}"
    yield f"{min(rates):,.0f}–{max(rates):,.0f}"
    prices = [row.batch * run.report.rate * run.report.posts / run.report.sent for run in runs]
    yield f"{_median(prices):,.0f}" if row.batch else ""
    for tail in ("p50_us", "p99_us", "p999_us"):
        yield number(_median(getattr(run.report, tail) for run in runs))
    yield number(_median(run.processor_us for run in runs))
    yield f"{_median(run.busy for run in runs):.0%}"


def _add_least(
    table: Table, what: str, limit: float, aim: float | None, found: list[float]
) -> None:
    wanted = f"at least {limit:g}", "" if aim is None else f"{aim:g}"
    table.add(what, *wanted, *map(number, found), _yes(found[-1] >= limit))


def _add_most(table: Table, what: str, limit: str, found: list[float], reached: bool) -> None:
    table.add(what, limit, "", *map(number, found), _yes(reached))


def _add_tail(table: Table, results: Results) -> None:
    worst = [
        max((_tail(results, row, count), row.name) for row in results.rows) for count in CONNECTIONS
    ]
    cells = [f"{number(times)} ({name})" for times, name in worst]
    reached = worst[-1][0] < _P99_TIMES_P50
    table.add("p99, times p50", f"under {_P99_TIMES_P50:g}", "", *cells, _yes(reached))


def _tail(results: Results, row: Row, connections: int) -> float:
    runs = results.runs[row.name, connections, OURS]
    return _median(run.report.p99_us / max(run.report.p50_us, 1e-3) for run in runs)


def _ratio(results: Results, row: str, connections: int, one: str, other: str) -> float:
    """Return the median of the ratios of requests per second within each repetition."""
    rates = [
        [run.report.rate for run in results.runs[row, connections, server]]
        for server in (one, other)
    ]
    return _median_ratio(*rates)


def _times_row(results: Results, one: str, other: str, connections: int) -> float:
    """Return the median of the ratios of our requests per second for two rows."""
    rates = [
        [run.report.rate for run in results.runs[row, connections, OURS]] for row in (one, other)
    ]
    return _median_ratio(*rates)


def _times_parsing(results: Results, connections: int) -> float:
    both = [times[0] for times in results.parsing_us]
    return _median_ratio(_processor(results, connections, OURS), both)


def _processor(results: Results, connections: int, server: str) -> list[float]:
    runs = results.runs[f"POST {FILLING_BATCH:,}", connections, server]
    return [run.processor_us for run in runs]


def _median_ratio(ones: list[float], others: list[float]) -> float:
    return _median(one / other for one, other in zip(ones, others, strict=True))


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _cells(times: list[float]) -> tuple[str, str]:
    return number(_median(times)), f"{number(min(times))}–{number(max(times))}"


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"
