"""What the page shows, made of a snapshot: HTML, and the data of the plots. Pure.

The tables are HTML of our own, every text in them escaped, so that a symbol made of markdown,
tags or right-to-left marks is shown as what it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from html import escape
from shlex import quote
from typing import Any

from financial_data_service.monitor.history import History
from financial_data_service.monitor.snapshot import DECIMALS_MAX, Message, Snapshot, SymbolSnapshot

__all__ = [
    "DEFAULT_URL",
    "STYLE",
    "bands_style",
    "header_html",
    "hint",
    "plots_data",
    "symbol_html",
]

DEFAULT_URL = "http://127.0.0.1:8000"  # where `make run` serves
COLOURS = (  # of the windows 10, 100, …, as plots.js has them
    *("#e5534b", "#e0823d", "#4184e4", "#57ab5a"),
    *("#986ee2", "#c69026", "#2f9e9e", "#d1539a"),
)
DIGITS_MAX = 15  # what a float64 always holds
COLUMNS = ("k", "window", "values", "fill", "min", "max", "last", "avg", "var", "std")

STYLE = """<style>
.stMainBlockContainer { padding-top: 3rem; max-width: 88rem; }
.stMainBlockContainer h1 { font-size: 1.9rem; padding-bottom: .8rem; }
.fds { font-variant-numeric: tabular-nums; --line: #8883; --muted: #8d96a5; --fill: #2f6fd0;
  --panel: #8881; }
.fds .muted, .fds.muted { color: var(--muted); }
.fds h2 { font-size: 1.3rem; margin: 0; padding: 0; overflow-wrap: anywhere;
  white-space: pre-wrap; }
.fds .state { display: grid; grid-template-columns: 2fr repeat(5, 1fr); border-radius: 8px;
  border: 1px solid var(--line); background: var(--panel); margin: 0; padding: 0; }
.fds .state div { padding: .6rem 1.1rem; min-width: 0; }
.fds .state dt { font-size: .8rem; font-weight: 400; color: var(--muted); }
.fds .state dd { margin: 0; font-size: 1.15rem; font-weight: 600; white-space: nowrap; }
.fds .dot { display: inline-block; width: .65em; height: .65em; border-radius: 50%;
  margin-right: .5em; background: var(--muted); }
.fds .up { background: #3fb950; } .fds .down { background: #f85149; }
.fds .degraded { background: #d29922; }
.fds .notice { margin-top: .8rem; padding: .4rem .9rem; border-left: 3px solid #d29922;
  background: #d2992218; }
.fds .notice ul { margin: 0; padding-left: 1.2rem; } .fds .notice li { overflow-wrap: anywhere; }
.fds .title { display: flex; gap: .4rem 1.4rem; align-items: center; flex-wrap: wrap;
  margin-top: .8rem; padding-top: 1rem; border-top: 1px solid var(--line); }
.fds .newest { font-size: 1.3rem; font-weight: 600; }
.fds .pill { position: relative; flex: 1; min-width: 19rem; height: 1.7rem;
  border-radius: .85rem; overflow: hidden; background: #8883; }
.fds .pill i { position: absolute; inset: 0 auto 0 0; background: var(--fill); min-width: 3px; }
.fds .pill span { position: absolute; inset: 0; line-height: 1.7rem; padding: 0 1rem;
  font-size: .85rem; white-space: nowrap; }
.fds table { width: 100%; min-width: 62rem; font-size: .9rem; border-collapse: collapse;
  margin: .4rem 0 0; }
.fds th { font-weight: 400; } .fds thead th { color: var(--muted); font-weight: 500; }
.fds th, .fds td { text-align: right; padding: .22rem .7rem; border: 0;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
.fds th:nth-child(1) { width: 2.6rem; } .fds thead th:nth-child(4) { min-width: 11rem; }
.fds thead th:nth-child(n+5) { min-width: 5.8rem; } /* Columns widen for long numbers alone. */
.fds td:nth-child(7) { font-weight: 600; }
.fds .meter { float: left; width: 2.6rem; height: .45rem; margin-top: .5rem; overflow: hidden;
  border-radius: .25rem; background: #8884; }
.fds .meter i { display: block; height: 100%; background: var(--fill); }
.fds .wide { overflow-x: auto; }
.fds.stale .numbers { opacity: .6; }
@media (max-width: 66rem) { /* A table does not fit: each of its rows becomes three. */
  .fds table { min-width: 0; }
  .fds thead { display: none; }
  .fds table, .fds tbody { display: block; }
  .fds tbody tr { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr));
    gap: .3rem .8rem; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .fds tbody th { display: none; }
  .fds td { padding: 0; border: 0; white-space: normal; overflow-wrap: anywhere; }
  .fds td::before { content: attr(data-field); display: block; font-size: .75rem;
    font-weight: 400; color: var(--muted); }
  .fds td[data-field="window"] { font-weight: 600; }
}
@media (max-width: 60rem) {
  .fds .state { grid-template-columns: repeat(3, 1fr); }
  .fds .state div:first-child { grid-column: 1 / -1; }
  .fds .state dd { white-space: normal; }
}
</style>"""


def format_price(price: float, decimals: int) -> str:
    """Price with thousands separators and no more digits than a float64 holds.

    In powers of ten below 10^-6 and from 10^15 on, where zeros would have to be counted.
    """
    size = abs(price)
    if size >= 1e15 or 0 < size < 1e-6:
        return f"{price:.9g}"
    digits = math.floor(math.log10(size)) + 1 if size >= 1 else 1
    return _fixed(price, min(decimals, DIGITS_MAX - digits))


def _fixed(value: float, decimals: int) -> str:
    """Round half away from zero what `value` is as it is written, as browsers do."""
    rounded = Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded:,f}"


def format_spread(value: float) -> str:
    """Format a variance or standard deviation: six significant digits, no more noise than that."""
    if value == 0:
        return "0"
    if not 1e-4 <= value < 1e15:
        return f"{value:.5e}"
    decimals = max(5 - math.floor(math.log10(value)), 0)
    return _fixed(value, decimals)


def format_percent(values: int, largest_window: int) -> str:
    """Exact percentage: 12,800 of 10^8 prices are 0.0128 %."""
    percent = Decimal(values) * 100 / Decimal(largest_window)
    text = f"{percent:.6f}".rstrip("0").rstrip(".")
    return f"{text} %"


def format_age(seconds: float) -> str:
    """Age in whole seconds, minutes, hours or days."""
    seconds = max(seconds, 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def format_rate(rate: float) -> str:
    """Format a rate so that it can be read at a glance; a dash while it is not known."""
    if math.isnan(rate):
        return "–"
    return f"{rate:,.0f}" if rate >= 100 or rate % 1 == 0 else f"{rate:.1f}"


def cell(field: str, text: str, exact: float) -> str:
    """One table cell; the number in full appears when the mouse rests on it."""
    return f'<td data-field="{field}" title="{exact!r}">{escape(text)}</td>'


def window_row(window: Message, decimals: int) -> str:
    """One window as a table row; muted while it is not full."""
    values, length = window["values"], window["window"]
    avg, var = window["avg"], window["var"]
    std = math.sqrt(var)
    share = min(1.0, values / length)
    cells = [
        cell("window", f"{length:,}", length),
        cell("values", f"{values:,}", values),
        f'<td data-field="fill" title="{share!r}"><span class="meter">'
        f'<i style="width:{100 * share:.1f}%"></i></span>{format_percent(values, length)}</td>',
        *(cell(key, format_price(window[key], decimals), window[key]) for key in _PRICES),
        cell("avg", format_price(avg, decimals + 2), avg),
        cell("var", format_spread(var), var),
        cell("std", format_spread(std), std),
    ]
    muted = "" if values >= length else ' class="muted"'
    return f'<tr data-k="{window["k"]}"{muted}><th>{window["k"]}</th>{"".join(cells)}</tr>'


_PRICES = ("min", "max", "last")


def symbol_html(symbol: SymbolSnapshot, largest_window: int) -> str:
    """Heading, progress pill and table of one symbol."""
    values = min(symbol.sequence, largest_window)
    decimals = symbol.decimals
    percent = format_percent(values, largest_window)
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join(window_row(window, decimals) for _, window in sorted(symbol.windows.items()))
    name = escape(symbol.symbol)
    return (
        f'<div class="numbers" data-symbol="{name}" data-sequence="{symbol.sequence}">'
        f'<div class="title"><h2><bdi>{name}</bdi></h2>'
        f'<span class="newest">{format_price(symbol.last, decimals)}</span>'
        f'<div class="pill"><i style="width:{100 * values / largest_window:.4f}%"></i>'
        f"<span>{percent} · {values:,} of {largest_window:,} prices</span></div></div>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def header_html(url: str, snapshot: Snapshot, now: float) -> str:
    """State of the service, symbols used, prices received, rates; what is wrong, if anything."""
    dot, state = _state(snapshot, now)
    is_known = snapshot.max_symbols > 0  # Until then, no symbols does not mean that there are none.
    symbols = f"{len(snapshot.symbols)} of {snapshot.max_symbols}" if is_known else "–"
    parts = [
        ("service", f'<span class="dot {dot}"></span>{state}'),
        ("symbols", symbols),
        ("prices received", f"{snapshot.received:,}" if is_known else "–"),
        ("prices/s", format_rate(snapshot.price_rate)),
        ("requests/s", format_rate(snapshot.request_rate)),
        ("newest update", _newest(snapshot, now)),
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in parts)
    header = f'<dl class="state" title="{escape(url)}">{cells}</dl>'
    if snapshot.problem is not None:
        header += notice_html(url, snapshot)
    if snapshot.refused:
        header += refused_html(snapshot.refused)
    return header


def _state(snapshot: Snapshot, now: float) -> tuple[str, str]:
    if snapshot.problem is not None:
        return "down", "needs the API key" if snapshot.wants_key else "not reachable"
    if not snapshot.is_online:
        return "", "connecting …"
    dot, health = ("degraded", "degraded") if snapshot.refused else ("up", "online")
    if snapshot.started_at is None:
        return dot, health
    return dot, f"{health}, up {format_age(now - snapshot.started_at)}"


def _newest(snapshot: Snapshot, now: float) -> str:
    if snapshot.updated_at is None:
        return "–"
    age = now - snapshot.updated_at
    return "now" if age < 1 else f"{format_age(age)} ago"


def notice_html(url: str, snapshot: Snapshot) -> str:
    """One sentence on what is wrong and what the page shows meanwhile."""
    since = time.strftime("%H:%M:%S", time.localtime(snapshot.lost_at))
    from_before = "The numbers are those from before." if snapshot.symbols else ""
    problem = escape(snapshot.problem or "")
    if snapshot.wants_key:
        return (
            f'<div class="notice" role="alert">{problem}. The service is there: set FDS_API_KEY of '
            f"this monitor to its key, and start the monitor anew. {from_before}</div>"
        )
    if from_before:
        shown = from_before
    elif url == DEFAULT_URL:
        shown = "<code>make run</code> starts it, and this page goes on by itself."
    else:
        shown = "This page goes on by itself once it is there."
    return (
        f'<div class="notice" role="alert">{problem}: not reachable since {since}, trying again. '
        f"{shown}</div>"
    )


def refused_html(refused: Sequence[tuple[str, str]]) -> str:
    """Files that the service cannot serve, and why."""
    count = len(refused)
    which = f"{count} files of" if count > 1 else "A file of"
    items = "".join(
        f"<li><bdi>{escape(file)}</bdi>: {escape(reason)}</li>" for file, reason in refused
    )
    return (
        f'<div class="notice" role="alert">{which} the data directory cannot be served:'
        f"<ul>{items}</ul></div>"
    )


def bands_style(key: str) -> str:
    """Style of the choice of windows: what is chosen has the colour that its plots have."""
    chosen = f'.st-key-{key} button[aria-pressed="true"]'
    rules = "\n".join(
        f"{chosen}:nth-of-type({k}) {{ border-color: {colour}; background: {colour}33; }}\n"
        f"{chosen}:nth-of-type({k}) p {{ color: {colour}; }}"
        for k, colour in enumerate(COLOURS, 1)
    )
    return f"<style>\n{rules}\n</style>"


def plots_data(symbol: SymbolSnapshot, ks: list[int], largest_window: int) -> dict[str, Any]:
    """Return what ``plots.js`` draws of one symbol, with the bands of some windows."""
    decimals = symbol.decimals
    # Of very small prices every digit counts, and how many there are is not known.
    places = decimals + 3 if decimals < DECIMALS_MAX else None
    columns = History.columns(symbol.history, ks, places)
    now = {
        "last": symbol.last,
        "held": min(symbol.sequence, largest_window),
        "rate": next((rate for rate in reversed(columns["rate"]) if rate is not None), None),
        "windows": [_window_now(symbol.windows.get(k)) for k in ks],
    }
    return {**columns, "heldMax": largest_window, "decimals": decimals, "now": now}


def _window_now(window: Message | None) -> dict[str, float | None]:
    if window is None:
        return dict.fromkeys(("avg", "std", "min", "max"))
    return {key: window[key] for key in ("avg", "min", "max")} | {"std": math.sqrt(window["var"])}


def hint(url: str) -> str:
    """Return commands for the first prices, in whatever order: each fills a symbol of its own."""
    body = '{"symbol": "TEST", "values": [64123.4, 64123.5, 64122.9]}'
    address = quote(f"{url}/add_batch/")
    return (
        f"curl {address} -H 'Content-Type: application/json' \\\n     -d '{body}'\n\n"
        f"fds load examples/btcusdt-trades.csv --symbol BTC/USDT \\\n     --url {quote(url)}"
    )
