"""What the load generators share: sending concurrently, measuring, and the report at the end.

Latency is the time from handing a request to the HTTP client until its reply has been read; wall
time is the time of the whole run. Per request and per trade, wall time is what the service and the
generator together take; latency is what one caller waits, the queue of ``--concurrency`` callers
included. Only requests that succeeded are in the latencies.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import signal
import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import aiohttp
import msgspec
import typer
import uvloop
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from financial_data_service.wire import DEFAULT_URL

TICKERS = ("AAPL", "MSFT", "GOOGL", "AMZN", "NVDA", "TSLA", "META", "JPM", "V", "XOM")
REQUEST_TIMEOUT_SECONDS = 60
# Requests under way at Ctrl-C are given this long; a service that hangs does not hold the report.
GRACE_SECONDS = 2.0
TICK_SECONDS = 0.1  # the progress bar costs the measurement nothing that shows
EXIT_INTERRUPTED = 130
_SHOWN_CHARACTERS = 100

Url = Annotated[
    str, typer.Option("--url", envvar="FDS_URL", metavar="URL", help="Where the service is.")
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", min=1, metavar="N", help="Requests under way at once.")
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        help="Makes the run repeatable; the report names it.",
        show_default=False,
    ),
]


class LoadError(Exception):
    """The run cannot start or go on; the message is the sentence to show."""


class RequestError(Exception):
    """The service answered a request with an error; the message is status and reason."""


class SymbolState(msgspec.Struct):
    """One line of ``GET /symbols``."""

    symbol: str
    sequence: int


class ServiceState(msgspec.Struct):
    """Reply of ``GET /symbols``."""

    symbols: list[SymbolState]
    max_symbols: int
    largest_window: int

    def sequences(self) -> dict[str, int]:
        """Return the number of prices ever appended to each symbol."""
        return {state.symbol: state.sequence for state in self.symbols}


@dataclass
class Meter:
    """What happened: one latency per success, a count per reason of failure."""

    latencies_seconds: array[float] = field(default_factory=lambda: array("d"))
    trades: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    elapsed_seconds: float = 0.0
    is_interrupted: bool = False

    @property
    def successes(self) -> int:
        return len(self.latencies_seconds)

    @property
    def requests(self) -> int:
        """Requests that are over, well or badly."""
        return self.successes + self.errors.total()

    def succeeded(self, latency_seconds: float, trades: int) -> None:
        self.latencies_seconds.append(latency_seconds)
        self.trades += trades


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest of ``ordered`` that ``percent`` % of them do not exceed."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def symbol_names(text: str) -> list[str]:
    """Read ``--symbols``: how many, or names with commas between."""
    if text.isdecimal():
        numbered = (f"SYM{number}" for number in range(len(TICKERS) + 1, int(text) + 1))
        names = [*TICKERS[: int(text)], *numbered]
    else:
        names = list(dict.fromkeys(name for name in map(str.strip, text.split(",")) if name))
    if not names:
        raise LoadError(f"Expected a number from 1 or names with commas between, got {text!r}.")
    return names


def seed_or_new(seed: int | None) -> int:
    return secrets.randbelow(1_000_000) if seed is None else seed


@contextlib.asynccontextmanager
async def connection(concurrency: int) -> Any:
    """One keep-alive connection for each request under way."""
    key = os.environ.get("FDS_API_KEY")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency),
        headers={"X-API-Key": key} if key else None,
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
    ) as session:
        yield session


async def service_state(session: aiohttp.ClientSession, url: str) -> ServiceState:
    """Return what the service holds; a sentence when it is none or not there."""
    try:
        async with session.get(f"{url}/symbols") as response:
            body = await response.read()
            if response.status in (401, 403, 429, 502, 503, 504):
                raise LoadError(_no(url, response))
            return msgspec.json.decode(body, type=ServiceState)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise LoadError(f"Expected a URL such as {DEFAULT_URL}, got {url!r}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, aiohttp.ClientResponseError):
        raise LoadError(f"{url} answers, but is not a financial-data-service.") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise LoadError(
            f"Cannot reach {url} ({getattr(error, 'os_error', error)}). "
            "Is the service running? Start it: make run"
        ) from None


def _no(url: str, response: aiohttp.ClientResponse) -> str:
    """Return the sentence for a service, or a proxy before it, that does not answer now."""
    status = f"({response.status} {response.reason})"
    if response.status in (401, 403):
        got = "another" if os.environ.get("FDS_API_KEY") else "none"
        return f"{url} wants its API key in FDS_API_KEY, got {got} {status}."
    if response.status == 429:
        return f"{url} has as many requests under way as it takes {status}. Try again in a moment."
    return f"{url} is not available now {status}."


async def reply_of(response: aiohttp.ClientResponse, expected_status: int) -> bytes:
    """Return the body of a good reply; raise the reason of any other."""
    body = await response.read()
    if response.status == expected_status:
        return body
    try:
        detail = msgspec.json.decode(body, type=dict[str, Any])["detail"]
        reason = detail[0]["msg"] if isinstance(detail, list) else str(detail)
    except (msgspec.MsgspecError, LookupError, TypeError):
        reason = response.reason or ""
    raise RequestError(f"{response.status} {reason}"[:_SHOWN_CHARACTERS])


Send = Callable[[int], Awaitable[int]]
"""Sends one request, by its number; returns the trades it was about."""


async def drive(send: Send, count: int, concurrency: int, title: str) -> Meter:
    """Send ``count`` requests, ``concurrency`` at a time, until done or Ctrl-C."""
    meter, stop = Meter(), asyncio.Event()
    numbers = iter(range(count))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    started = time.perf_counter()
    workers = [
        asyncio.create_task(_work(send, numbers, meter, stop))
        for _ in range(min(concurrency, count))
    ]
    ticker = asyncio.create_task(_tick(meter, count, title))
    await _until_done_or_stopped(workers, stop)
    meter.elapsed_seconds = time.perf_counter() - started
    meter.is_interrupted = stop.is_set()
    ticker.cancel()
    await asyncio.gather(ticker, return_exceptions=True)
    loop.remove_signal_handler(signal.SIGINT)
    return meter


async def _work(send: Send, numbers: Iterator[int], meter: Meter, stop: asyncio.Event) -> None:
    for number in numbers:
        started = time.perf_counter()
        try:
            trades = await send(number)
        except RequestError as error:
            meter.errors[str(error)] += 1
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            meter.errors[f"{type(error).__name__}: {error}"[:_SHOWN_CHARACTERS]] += 1
        else:
            meter.succeeded(time.perf_counter() - started, trades)
        if stop.is_set():
            return


async def _until_done_or_stopped(workers: list[asyncio.Task[None]], stop: asyncio.Event) -> None:
    finished = asyncio.create_task(asyncio.wait(workers))
    stopped = asyncio.create_task(stop.wait())
    either: set[asyncio.Future[Any]] = {finished, stopped}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        _, late = await asyncio.wait(workers, timeout=GRACE_SECONDS)
        for worker in late:
            worker.cancel()
    stopped.cancel()
    await finished
    for worker in workers:
        if not worker.cancelled():
            worker.result()  # A fault of the generator itself is shown, not counted.


async def _tick(meter: Meter, count: int, title: str) -> None:
    """Show the progress; nothing where there is no terminal."""
    console = Console()
    if not console.is_terminal:
        return
    columns = (
        TextColumn(title, markup=False),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=count, rate=0.0)
        started = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            rate = meter.requests / (time.perf_counter() - started)
            progress.update(task, completed=meter.requests, rate=rate, refresh=True)


def counted_symbols(count: int) -> str:
    return "1 symbol" if count == 1 else f"{count:,} symbols"


@dataclass(frozen=True)
class Wording:
    """How a report speaks of its own run."""

    title: str
    setting: str
    """What was asked for, in a line."""
    noun: str
    """What the trades are: ``trades`` sent, or ``prices`` that were summarised."""
    average: str
    """What ``trades / requests`` is called."""
    notes: tuple[str, ...]


def print_report(meter: Meter, wording: Wording, verdict: Text | None = None) -> None:
    """Print the framed report."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in _rows(meter, wording):
        table.add_row(label, value)
    table.add_row("Errors", _errors(meter))
    if verdict is not None:
        table.add_row("Sequences", verdict)
    notes = Text("\n".join(wording.notes), "dim")
    frame = Panel(
        Group(Text(wording.setting, "dim"), "", table, "", notes),
        title=Text(wording.title, "bold"),
        border_style="red" if meter.errors else "green",
        expand=False,
        padding=(1, 2),
    )
    Console(highlight=False).print(frame)


def _rows(meter: Meter, wording: Wording) -> Iterator[tuple[str, str]]:
    wall, noun, one = meter.elapsed_seconds, wording.noun, wording.noun.removesuffix("s")
    fate = f"{meter.errors.total():,} failed" if meter.errors else "all successful"
    state = ", interrupted" if meter.is_interrupted else ""
    yield "Requests", f"{meter.requests:,}, {fate}{state}"
    yield noun.capitalize(), f"{meter.trades:,}"
    if not meter.successes:
        return
    ordered = sorted(meter.latencies_seconds)
    latency = math.fsum(ordered)
    yield wording.average, f"{meter.trades / meter.successes:,.1f} {noun}"
    yield "Elapsed", f"{wall:,.3f} s"
    yield "Rate", f"{meter.successes / wall:,.0f} requests/s, {meter.trades / wall:,.0f} {noun}/s"
    yield "Time per request", _pair(wall, latency, meter.successes)
    if meter.trades:
        yield f"Time per {one}", _pair(wall, latency, meter.trades)
    shown = (("p50", percentile(ordered, 50)), ("p99", percentile(ordered, 99)))
    parts = [*shown, ("max", ordered[-1])]
    yield "Latency", ", ".join(f"{name} {_us(seconds)}" for name, seconds in parts)


def _pair(wall_seconds: float, latency_seconds: float, count: int) -> str:
    return f"{_us(wall_seconds / count)} wall, {_us(latency_seconds / count)} latency"


def _us(seconds: float) -> str:
    """Return microseconds, to a tenth or to three digits, whichever says more."""
    us = seconds * 1e6
    return f"{us:,.1f} µs" if us >= 10 else f"{us:.3g} µs"


def _errors(meter: Meter) -> Text:
    if not meter.errors:
        return Text("none", "green")
    lines = (f"{count:,} × {reason}" for reason, count in meter.errors.most_common())
    return Text("\n".join(lines), "red")


def launch(run: Coroutine[Any, Any, int]) -> None:
    """Run a generator and exit with its code; a failure is one sentence."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            exit_code = runner.run(run)
    except LoadError as error:
        print(error, file=sys.stderr)
        exit_code = 1
    except KeyboardInterrupt:
        print("Interrupted before the first request.", file=sys.stderr)
        exit_code = EXIT_INTERRUPTED
    raise typer.Exit(exit_code)


def exit_code_of(meter: Meter, is_verified: bool = True) -> int:
    if meter.is_interrupted:
        return EXIT_INTERRUPTED
    return 0 if is_verified and not meter.errors else 1
