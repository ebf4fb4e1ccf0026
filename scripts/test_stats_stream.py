"""Load of ``GET /stats``: questions for random symbols and windows, many requests at once.

A load generator, not a test of pytest; it has the name its users know.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from enum import StrEnum
from typing import Annotated
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import typer
from yarl import URL

import load_report
from financial_data_service.wire import DEFAULT_URL
from load_report import LoadError, RequestError, ServiceState, Wording

K_MAX = 8
POLL_SECONDS = 0.2

app = typer.Typer(add_completion=False)


class Form(StrEnum):
    """The two ways to ask."""

    path = "path"
    query = "query"


class Answer(msgspec.Struct):
    """Statistics of one window."""

    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int


@dataclasses.dataclass(frozen=True)
class Options:
    url: str
    count: int
    concurrency: int
    symbols: str | None
    k: int | None
    form: Form
    seed: int
    wait_seconds: float


class Stream:
    """The questions on their way."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[URL]) -> None:
        self._session = session
        self._urls = urls
        self._decoder = msgspec.json.Decoder(Answer)

    async def send(self, number: int) -> int:
        """Ask one question; return how many prices its answer covers."""
        async with self._session.get(self._urls[number]) as response:
            answer = self._decoder.decode(await load_report.reply_of(response, 200))
        if not (answer.min <= answer.last <= answer.max and answer.var >= 0):
            raise RequestError(f"200 whose statistics contradict each other: {answer}")
        return answer.values


def prepare(options: Options, symbols: list[str], k_max: int) -> list[URL]:
    """Make the questions."""
    generator = random.Random(options.seed)
    urls = {
        (symbol, k): question(options.url, symbol, k, options.form)
        for symbol in symbols
        for k in ([options.k] if options.k else range(1, k_max + 1))
    }
    choices = list(urls.values())
    return [generator.choice(choices) for _ in range(options.count)]


def question(url: str, symbol: str, k: int, form: Form) -> URL:
    """Return the address of one window's statistics, symbols of any characters included."""
    if form is Form.path:
        return URL(f"{url}/stats/{quote(symbol, safe='')}/{k}", encoded=True)
    return URL(f"{url}/stats/?{urlencode({'symbol': symbol, 'k': k})}", encoded=True)


async def stream(options: Options) -> int:
    """Carry the run out; return the exit code."""
    async with load_report.connection(options.concurrency) as session:
        state = await _state_with_symbols(session, options)
        symbols = _chosen(options.symbols, state)
        k_max = min(K_MAX, len(str(state.largest_window)) - 1)
        traffic = Stream(session, prepare(options, symbols, k_max))
        meter = await load_report.drive(
            traffic.send, options.count, options.concurrency, "Statistics"
        )
    load_report.print_report(meter, _wording(options, len(symbols), k_max))
    return load_report.exit_code_of(meter)


async def _state_with_symbols(session: aiohttp.ClientSession, options: Options) -> ServiceState:
    """Return what the service holds, once it holds something."""
    deadline = time.monotonic() + options.wait_seconds
    state = await load_report.service_state(session, options.url)
    if not state.symbols and options.wait_seconds:
        print(f"{options.url} holds no symbols yet; waiting for the first …", flush=True)
    while not state.symbols:
        if time.monotonic() >= deadline:
            raise LoadError(f"{options.url} holds no symbols yet. Send some prices: make batches")
        await asyncio.sleep(POLL_SECONDS)
        state = await load_report.service_state(session, options.url)
    return state


def _chosen(symbols: str | None, state: ServiceState) -> list[str]:
    held = sorted(state.sequences())
    if symbols is None:
        return held
    return held[: int(symbols)] if symbols.isdecimal() else load_report.symbol_names(symbols)


def _wording(options: Options, symbols: int, k_max: int) -> Wording:
    windows = f"k = {options.k}" if options.k else f"k = 1 … {k_max} (random)"
    form = "{symbol}/{k}" if options.form is Form.path else "?symbol=…&k=…"
    return Wording(
        title=f"GET {options.url}/stats/{form}",
        setting=f"{options.count:,} questions, {windows}, {load_report.counted_symbols(symbols)}, "
        f"{options.concurrency} at once, seed {options.seed}",
        noun="prices",
        average="Average window",
        notes=(
            "Prices: how many the answers were computed over, window by window.",
            "All addresses were made before the clock started; answers are read and checked "
            "within it.",
            "Wall: of the whole run. Latency: from the call until the reply is read.",
        ),
    )


def _check_symbols(symbols: str | None) -> str | None:
    if symbols is not None:
        try:
            load_report.symbol_names(symbols)
        except LoadError as error:
            raise typer.BadParameter(str(error)) from None
    return symbols


@app.command()
def main(
    url: load_report.Url = DEFAULT_URL,
    count: Annotated[
        int, typer.Option("--count", min=1, metavar="N", help="Questions to ask.")
    ] = 20_000,
    k: Annotated[
        int | None,
        typer.Option(
            "--k",
            min=1,
            max=K_MAX,
            metavar="K",
            help="Ask for the last 10^K prices; without it, random from 1 to 8.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Form, typer.Option("--form", help="Ask by /stats/{symbol}/{k} or by /stats/?symbol=&k=.")
    ] = Form.path,
    concurrency: load_report.Concurrency = 8,
    symbols: Annotated[
        str | None,
        typer.Option(
            "--symbols",
            metavar="N|NAMES",
            callback=_check_symbols,
            help="How many of the service's symbols, or names; without it, all it has.",
            show_default=False,
        ),
    ] = None,
    seed: load_report.Seed = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", min=0, metavar="SECONDS", help="Wait for the first symbol this long."
        ),
    ] = 30.0,
) -> None:
    """Load the service with questions for statistics and report how it did.

    All addresses are made before the clock starts; every answer is read and checked within it.
    Ctrl-C reports what was done until then.
    """
    seed = load_report.seed_or_new(seed)
    options = Options(url.rstrip("/"), count, concurrency, symbols, k, form, seed, wait)
    load_report.launch(stream(options))


if __name__ == "__main__":
    app()
