"""The live page: every symbol, how full its largest window is, and its windows side by side.

Run by ``make monitor-ui`` on port 8501. It reads the HTTP API once a second (``FDS_URL``, default
``http://127.0.0.1:8000``) and knows nothing else of the service. While the server does not answer,
the last numbers stay on the page, marked with their age.

The tables are HTML of our own, every text in them escaped, so that a symbol made of markdown,
tags or right-to-left marks is shown as what it is.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

import httpx
import streamlit as st

__all__ = ["Snapshot", "UnreachableError", "fetch"]

REFRESH_S = 1.0
TIMEOUT_S = 2.0
DECIMALS_MIN, DECIMALS_MAX = 2, 8  # cents at least; the satoshi is the finest tick traded
DIGITS_MAX = 15  # what a float64 always holds
COLUMNS = ("window", "min", "max", "last", "avg", "var", "std", "values")

STYLE = """<style>
.stMainBlockContainer { padding-top: 3rem; }
.fds { font-variant-numeric: tabular-nums; --line: #8884; --muted: #8d96a5; --fill: #2f81f7; }
.fds .muted, .fds.muted { color: var(--muted); }
.fds h2 { font-size: 1.25rem; margin: 0; padding: 0; overflow-wrap: anywhere;
  white-space: pre-wrap; }
.fds .state { display: flex; gap: 2rem; flex-wrap: wrap; align-items: baseline; }
.fds .state b { font-weight: 600; }
.fds .dot { display: inline-block; width: .65em; height: .65em; border-radius: 50%;
  margin-right: .5em; }
.fds .up { background: #3fb950; } .fds .down { background: #f85149; }
.fds .notice { margin-top: .8rem; padding: .4rem .9rem; border-left: 3px solid #d29922;
  background: #d2992218; }
.fds .title { display: flex; gap: 1.5rem; align-items: center; flex-wrap: wrap; margin-top: .8rem; }
.fds .pill { position: relative; flex: 1; min-width: 22rem; height: 1.7rem; border-radius: .85rem;
  overflow: hidden; background: #8883; }
.fds .pill i { position: absolute; inset: 0 auto 0 0; background: var(--fill); min-width: 3px; }
.fds .pill span { position: absolute; inset: 0; line-height: 1.7rem; padding: 0 1rem;
  font-size: .85rem; white-space: nowrap; }
.fds table { width: 100%; min-width: 62rem; table-layout: fixed; font-size: .92rem;
  border-collapse: collapse; margin: .6rem 0 1rem; }
.fds th { font-weight: 500; color: var(--muted); }
.fds th, .fds td { text-align: right; padding: .3rem .75rem; border: 0;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
.fds th:nth-child(1) { width: 10%; } .fds th:nth-child(n+2) { width: 13.5%; }
.fds th:nth-child(6), .fds th:nth-child(7), .fds th:nth-child(8) { width: 12%; }
.fds td:nth-child(4) { font-weight: 600; }
.fds .wide { overflow-x: auto; }
.fds.stale .numbers { opacity: .6; }
</style>"""


class UnreachableError(Exception):
    """The server did not answer, or what answered is not this service; the message says which."""


@dataclass(frozen=True)
class Snapshot:
    """What the server said at one moment: its limits, and all windows of all symbols."""

    symbols: list[dict[str, Any]]
    max_symbols: int
    largest_window: int
    taken_at: float
    """``time.monotonic()`` of the answer, in seconds."""


def fetch(url: str) -> Snapshot:
    """Ask the server for everything the page shows.

    Raises
    ------
    UnreachableError
        When nothing answers at `url`, or something other than the service.
    """
    try:
        # No proxy of the environment stands between this page and a server beside it.
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
            limits = client.get("/symbols").raise_for_status().json()
            stats = client.get("/stats/").raise_for_status().json()
        return Snapshot(
            symbols=stats["symbols"],
            max_symbols=limits["max_symbols"],
            largest_window=limits["largest_window"],
            taken_at=time.monotonic(),
        )
    except httpx.HTTPStatusError as error:
        raise UnreachableError(f"{url} answers {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(f"The server at {url} does not answer") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UnreachableError(f"What answers at {url} is not this service") from error


def decimals_of(prices: list[float]) -> int:
    """Decimals that show all of `prices` as they were sent, as far as that stays readable."""
    exponents = [Decimal(repr(price)).as_tuple().exponent for price in prices]
    finest = max((-e for e in exponents if isinstance(e, int)), default=0)
    return min(max(finest, DECIMALS_MIN), DECIMALS_MAX)


def format_price(price: float, decimals: int) -> str:
    """Price with thousands separators and no more digits than a float64 holds.

    In powers of ten below 10^-6 and from 10^15 on, where zeros would have to be counted.
    """
    size = abs(price)
    if size >= 1e15 or 0 < size < 1e-6:
        return f"{price:.9g}"
    digits = math.floor(math.log10(size)) + 1 if size >= 1 else 1
    return f"{price:,.{min(decimals, DIGITS_MAX - digits)}f}"


def format_spread(value: float) -> str:
    """Format a variance or standard deviation: six significant digits, no more noise than that."""
    if value == 0:
        return "0"
    if not 1e-4 <= value < 1e15:
        return f"{value:.5e}"
    decimals = max(5 - math.floor(math.log10(value)), 0)
    return f"{value:,.{decimals}f}"


def format_percent(values: int, largest_window: int) -> str:
    """Exact percentage: 12,800 of 10^8 prices are 0.0128 %."""
    percent = Decimal(values) * 100 / Decimal(largest_window)
    text = f"{percent:.6f}".rstrip("0").rstrip(".")
    return f"{text} %"


def format_age(seconds: float) -> str:
    """Age in whole seconds, minutes or hours."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def cell(text: str, exact: float | None = None) -> str:
    """One table cell; the number in full appears when the mouse rests on it."""
    title = "" if exact is None else f' title="{exact!r}"'
    return f"<td{title}>{escape(text)}</td>"


def window_row(stats: dict[str, Any], decimals: int) -> str:
    """One window as a table row; muted while it is not full."""
    prices = [
        cell(format_price(stats[key], decimals), stats[key]) for key in ("min", "max", "last")
    ]
    avg, var = stats["avg"], stats["var"]
    cells = [
        cell(f"{stats['window']:,}"),
        *prices,
        cell(format_price(avg, decimals + 2), avg),
        cell(format_spread(var), var),
        cell(format_spread(math.sqrt(var)), math.sqrt(var)),
        cell(f"{stats['values']:,}"),
    ]
    muted = "" if stats["values"] >= stats["window"] else ' class="muted"'
    return f"<tr{muted}>{''.join(cells)}</tr>"


def symbol_html(symbol: dict[str, Any], largest_window: int) -> str:
    """Heading, progress pill and table of one symbol."""
    windows = symbol["stats"]
    values = min(symbol["sequence"], largest_window)
    decimals = decimals_of([windows[-1][key] for key in ("min", "max", "last")])
    percent = format_percent(values, largest_window)
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join(window_row(stats, decimals) for stats in windows)
    return (
        f'<div class="title"><h2><bdi>{escape(symbol["symbol"])}</bdi></h2>'
        f'<div class="pill"><i style="width:{100 * values / largest_window:.4f}%"></i>'
        f"<span>{percent} · {values:,} of {largest_window:,} prices</span></div></div>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def header_html(url: str, snapshot: Snapshot | None, problem: str | None) -> str:
    """State of the server, symbols used, prices received."""
    dot, state = ("down", "not reachable") if problem else ("up", "ready")
    parts = [f'<span><span class="dot {dot}"></span><b>{state}</b></span>']
    if snapshot is not None:
        received = sum(symbol["sequence"] for symbol in snapshot.symbols)
        parts.append(
            f"<span><b>{len(snapshot.symbols)}</b> of {snapshot.max_symbols} symbols</span>"
        )
        parts.append(f"<span><b>{received:,}</b> prices received</span>")
    parts.append(f'<span class="muted">{escape(url)}</span>')
    return f'<div class="state">{"".join(parts)}</div>'


def notice_html(snapshot: Snapshot | None, problem: str) -> str:
    """One sentence on what is wrong and what the page shows meanwhile."""
    if snapshot is None:
        shown = "<code>make run</code> starts it, and this page goes on by itself."
    else:
        age = format_age(time.monotonic() - snapshot.taken_at)
        shown = f"these numbers are stale, {age} old, until it is back."
    return f'<div class="notice">{escape(problem)}; {shown}</div>'


def show_hint(url: str) -> None:
    """Say how to send the first prices."""
    st.write("No symbols yet. Send the first prices, or load a file:")
    body = '{"symbol": "BTC/USDT", "values": [64123.4, 64123.5, 64122.9]}'
    st.code(
        f"curl {url}/add_batch/ -H 'Content-Type: application/json' \\\n     -d '{body}'\n\n"
        "fds load examples/btcusdt-trades.csv --symbol BTC/USDT",
        language="bash",
    )


@st.fragment(run_every=REFRESH_S)
def live() -> None:
    """Show the part of the page that is read anew every second."""
    url = os.environ.get("FDS_URL", "http://127.0.0.1:8000").rstrip("/")
    problem = None
    try:
        st.session_state["snapshot"] = fetch(url)
    except UnreachableError as error:
        problem = str(error)
    snapshot: Snapshot | None = st.session_state.get("snapshot")

    parts = [header_html(url, snapshot, problem)]
    if problem:
        parts.append(notice_html(snapshot, problem))
    if snapshot is not None:
        symbols = [symbol_html(symbol, snapshot.largest_window) for symbol in snapshot.symbols]
        parts.append(f'<div class="numbers">{"".join(symbols)}</div>')
    stale = " stale" if problem else ""
    st.html(f'{STYLE}<div class="fds{stale}">{"".join(parts)}</div>')
    if snapshot is not None and not snapshot.symbols and not problem:
        show_hint(url)


def page() -> None:
    """Lay out the page."""
    st.set_page_config(page_title="financial-data-service", page_icon="📈", layout="wide")
    st.title("financial-data-service", anchor=False)
    live()


if __name__ == "__main__":
    page()
