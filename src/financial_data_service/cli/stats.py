"""``fds stats``: the statistics of symbols as a table, or as JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from financial_data_service.cli.console import (
    CliError,
    UsageError,
    output,
    print_text,
    printable,
)
from financial_data_service.cli.options import DEFAULT_URL, Url, check_symbol, connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from financial_data_service.client.exchange import ClientSession
    from financial_data_service.client.replies import SymbolStatsReply, WindowReply
    from financial_data_service.client.steps import Plan, Reply

__all__ = ["stats"]

_UNFOLDED_COLUMNS = 10_000
_RETRY_SECONDS = 5.0  # Somebody waits at the terminal. A restart takes about a second.


class TableLayout(NamedTuple):
    """The layout of a table."""

    digits: int
    """Significant digits of avg, var and std; 0 means all."""
    left_out: tuple[str, ...]
    """Omitted columns. They can be computed from the others."""


_DERIVED = ("fill", "std")
# The first layout that fits the terminal is used. Prices are never rounded.
_LAYOUTS = (
    *(TableLayout(digits, ()) for digits in (0, 12, 9, 7)),
    *(TableLayout(digits, _DERIVED) for digits in (9, 7)),
)


def stats(
    symbol: Annotated[
        str | None,
        typer.Argument(
            metavar="SYMBOL", callback=check_symbol, help="Symbol to show; all without it."
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last", "-n", min=1, metavar="N", help="Only the window of the last N prices."
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", min=1, metavar="K", help="Only the window of the last 10^K prices."),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print the service's own JSON, every digit of it."),
    ] = False,
) -> None:
    """Show min, max, last, avg, var and std over the last 10, 100, … prices."""
    from financial_data_service.client.blocking import PlanRunner

    if last is not None and k is not None:
        raise UsageError(f"Expected either -k or --last, got both (-k {k} --last {last}).")
    with connect(PlanRunner, url, _RETRY_SECONDS) as service:
        body, found = service.run(_ask(service.session, symbol, last, k))
    if as_json:
        print_text(body.decode())  # the service's own: no digit is decoded and encoded again
    elif found:
        _print_tables(found)
    else:
        raise CliError(f"{service.url} holds no symbols yet. Add one: fds load FILE --symbol S")


def _ask(
    session: ClientSession, symbol: str | None, last: int | None, k: int | None
) -> Plan[tuple[bytes, list[SymbolStatsReply]]]:
    """Return the raw body of the reply, and the decoded statistics of each symbol.

    All symbols are read in one request. The service has no route for the last N prices of all
    symbols, so that case needs one request per symbol.
    """
    from financial_data_service.client.asking import symbols
    from financial_data_service.client.exchange import decode_reply
    from financial_data_service.client.replies import AllStatsReply

    if symbol is not None:
        body, found = yield from _ask_symbol(session, symbol, last, k)
        return body, [found]
    if last is None:
        reply = yield from _get_stats(session, k=k)
        return reply.content, decode_reply(session, reply, AllStatsReply).symbols
    names = [each.symbol for each in (yield from symbols(session))]
    replies = []
    for name in names:
        replies.append((yield from _ask_symbol(session, name, last, None)))  # noqa: PERF401 - a yield
    body = b'{"symbols":[' + b",".join(body for body, _ in replies) + b"]}"
    return body, [found for _, found in replies]


def _ask_symbol(
    session: ClientSession, symbol: str, last: int | None, k: int | None
) -> Plan[tuple[bytes, SymbolStatsReply]]:
    from financial_data_service.client.exchange import decode_reply
    from financial_data_service.client.replies import SymbolStatsReply, WindowReply
    from financial_data_service.client.results import Symbol

    reply = yield from _get_stats(session, symbol=symbol, last=last, k=k)
    if last is None and k is None:
        return reply.content, decode_reply(session, reply, SymbolStatsReply)
    head = decode_reply(session, reply, Symbol)
    window = decode_reply(session, reply, WindowReply)
    return reply.content, SymbolStatsReply(head.symbol, head.sequence, [window])


def _get_stats(session: ClientSession, **query: str | int | None) -> Plan[Reply]:
    from financial_data_service.client.exchange import exchange
    from financial_data_service.client.steps import Request, path_of

    return (yield from exchange(session, Request("GET", path_of("stats", "", **query)))).reply


def _print_tables(all_stats: Sequence[SymbolStatsReply]) -> None:
    from rich.text import Text

    console = output()
    layout = next((each for each in _LAYOUTS if _fits(console, all_stats, each)), _LAYOUTS[-1])
    for symbol_stats in all_stats:
        console.print(_title(symbol_stats))
        console.print(_table(symbol_stats, layout))
        console.print()
    if layout.digits:
        left_out = f", {' and '.join(layout.left_out)} left out" if layout.left_out else ""
        note = (
            f"avg and var to {layout.digits} digits{left_out}; a wider terminal or --json has all."
        )
        console.print(Text(note, "dim"))


def _fits(console: Console, all_stats: Sequence[SymbolStatsReply], layout: TableLayout) -> bool:
    unfolded = console.options.update(max_width=_UNFOLDED_COLUMNS)
    return all(
        console.measure(_table(each, layout), options=unfolded).maximum <= console.width
        for each in all_stats
    )


def _title(symbol_stats: SymbolStatsReply) -> Text:
    from rich.text import Text

    title = Text(printable(symbol_stats.symbol), "bold")
    noun = "price" if symbol_stats.sequence == 1 else "prices"
    return title.append(f"  {symbol_stats.sequence:,} {noun} so far", "not bold dim")


def _table(symbol_stats: SymbolStatsReply, layout: TableLayout) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )
    rows = [_cells(window, layout.digits) for window in symbol_stats.stats]
    headings = [heading for heading in rows[0] if heading not in layout.left_out]
    for heading in headings:
        # If no layout fits the terminal, numbers are wrapped and not truncated, because a truncated
        # number would be wrong.
        table.add_column(heading, justify="right", overflow="fold")
    for window, cells in zip(symbol_stats.stats, rows, strict=True):
        style = "" if _is_full(window) else "dim"
        table.add_row(*(cells[heading] for heading in headings), style=style)
    return table


def _cells(window: WindowReply, digits: int) -> dict[str, str]:
    return {
        "window": f"{window.window:,}",
        "values": f"{window.values:,}",
        "fill": fill(window.values, window.window),
        "min": number(window.min),
        "max": number(window.max),
        "last": number(window.last),
        "avg": number(window.avg, digits),
        "var": number(window.var, digits),
        "std": number(math.sqrt(window.var), digits),
    }


def _is_full(window: WindowReply) -> bool:
    return window.values >= window.window


def fill(values: int, window: int) -> str:
    """Return how full a window is, in percent.

    The value is rounded down, so only a full window shows 100 %.
    """
    if values >= window:
        return "100 %"
    hundredths = values * 10_000 // window
    return f"{hundredths / 100:.2f} %" if hundredths else "<0.01 %"


def number(value: float, digits: int = 0) -> str:
    """Return ``value`` with thousands separated, in ``digits`` significant digits.

    0 gives the shortest text that reads back as the same float64.
    """
    return f"{value:,.{digits}g}" if digits else f"{value:,}"
