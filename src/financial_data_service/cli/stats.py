"""``fds stats``: the statistics of symbols as a table, or as JSON."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .console import CliError, output, printable
from .options import DEFAULT_URL, Url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from .service import Service, SymbolStats, WindowReply

__all__ = ["stats"]

# Digits of avg, var and std to try until the table fits the terminal; 0 stands for all.
_DIGITS = (0, 12, 9, 7)


def stats(
    symbol: Annotated[
        str | None,
        typer.Argument(metavar="[SYMBOL]", help="Symbol to show; all of them without it."),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last", "-n", min=1, metavar="N", help="Only the window of the last N prices."
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print the service's own JSON, every digit of it."),
    ] = False,
) -> None:
    """Show min, max, last, avg, var and std over the last 10, 100, … prices."""
    from .service import Service

    with Service(url) as service:
        names = [symbol] if symbol is not None else [s.symbol for s in service.symbols()]
        if not names and not as_json:
            raise CliError(f"{service.url} holds no symbols yet. Add one: fds load FILE --symbol S")
        replies = [service.stats(name, last) for name in names]
        if as_json:
            _print_json(replies, is_list=symbol is None)
        else:
            _print_tables(service, replies)


def _print_json(replies: Sequence[bytes], *, is_list: bool) -> None:
    """Print what the service wrote; no digit passes through here."""
    body = b",".join(replies)
    text = (b'{"symbols":[' + body + b"]}" if is_list else body).decode()
    sys.stdout.write(text + "\n")


def _print_tables(service: Service, replies: Sequence[bytes]) -> None:
    console = output()
    all_stats = [service.decode_stats(reply) for reply in replies]
    digits = next((d for d in _DIGITS if _fits(console, all_stats, d)), _DIGITS[-1])
    for symbol_stats in all_stats:
        console.print()
        console.print(_title(symbol_stats))
        console.print(_table(symbol_stats, digits))
    if digits:
        console.print(
            Text(f"avg, var, std to {digits} digits; --json or a wider terminal has all.", "dim")
        )


def _fits(console: Console, all_stats: Sequence[SymbolStats], digits: int) -> bool:
    return all(console.measure(_table(each, digits)).maximum <= console.width for each in all_stats)


def _title(symbol_stats: SymbolStats) -> Text:
    title = Text(printable(symbol_stats.symbol), "bold")
    noun = "price" if symbol_stats.sequence == 1 else "prices"
    return title.append(f"  {symbol_stats.sequence:,} {noun} so far", "not bold dim")


def _table(symbol_stats: SymbolStats, digits: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold cyan")
    for heading in ("window", "values", "fill", "min", "max", "last", "avg", "var", "std"):
        table.add_column(heading, justify="right", no_wrap=True)
    for window in symbol_stats.stats:
        table.add_row(*_cells(window, digits), style="" if _is_full(window) else "dim")
    return table


def _cells(window: WindowReply, digits: int) -> list[str]:
    exact = [f"{value:,}" for value in (window.min, window.max, window.last)]
    derived = (window.avg, window.var, math.sqrt(window.var))
    return [
        f"{window.window:,}",
        f"{window.values:,}",
        fill(window.values, window.window),
        *exact,
        *(number(value, digits) for value in derived),
    ]


def _is_full(window: WindowReply) -> bool:
    return window.values >= window.window


def fill(values: int, window: int) -> str:
    """Return how full a window is, rounded down so that only a full one says 100 %."""
    if values >= window:
        return "100 %"
    hundredths = values * 10_000 // window
    return f"{hundredths / 100:.2f} %" if hundredths else "<0.01 %"


def number(value: float, digits: int) -> str:
    """Return ``value`` with thousands separated, in ``digits`` significant digits.

    0 gives the shortest text that reads back as the very same float64.
    """
    return f"{value:,.{digits}g}" if digits else f"{value:,}"
