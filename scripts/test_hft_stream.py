"""Load of ``POST /add_batch/``: batches of random-walk prices, many requests at once.

A load generator, not a test of pytest; it has the name its users know.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import aiohttp
import msgspec
import numpy as np
import typer
from rich.text import Text

import load_report
from financial_data_service.wire import DEFAULT_URL
from load_report import LoadError, Wording

BATCH_MAX = 10_000
# About 40 MB of JSON and one second of preparation; a longer run sends its bodies again in turn.
POOL_PRICES_MAX = 5_000_000
TICK = 0.01
VOLATILITY = 2e-4  # of one step; gives a day of seconds the 3 % or so that a stock moves

app = typer.Typer(add_completion=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """One request, ready to be sent."""

    symbol: str
    size: int
    body: bytes


class Receipt(msgspec.Struct):
    """Reply to a batch."""

    added: int


@dataclasses.dataclass(frozen=True)
class Options:
    url: str
    count: int
    batch_size: int | None
    concurrency: int
    symbols: list[str]
    seed: int


class Stream:
    """The batches on their way, and what the service said of them, symbol by symbol."""

    def __init__(self, session: aiohttp.ClientSession, url: str, batches: list[Batch]) -> None:
        self._session = session
        self._url = f"{url}/add_batch/"
        self._batches = batches
        self._decoder = msgspec.json.Decoder(Receipt)
        self.acknowledged: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()

    async def send(self, number: int) -> int:
        """Send one batch; return how many trades were acknowledged."""
        batch = self._batches[number % len(self._batches)]
        headers = {"content-type": "application/json"}
        try:
            async with self._session.post(self._url, data=batch.body, headers=headers) as response:
                reply = await load_report.reply_of(response, 201)
        except load_report.RequestError:
            raise
        except BaseException:  # Whatever it was, the service may have stored the batch.
            self.unanswered[batch.symbol] += batch.size
            raise
        added = self._decoder.decode(reply).added
        self.acknowledged[batch.symbol] += added
        return added


def prepare(options: Options) -> list[Batch]:
    """Make the batches: a price walks on from batch to batch of its symbol."""
    generator = np.random.default_rng(options.seed)
    prices = {name: float(generator.uniform(20, 900)) for name in options.symbols}
    batches: list[Batch] = []
    pool_prices = 0
    while len(batches) < options.count and pool_prices < POOL_PRICES_MAX:
        symbol = options.symbols[len(batches) % len(options.symbols)]
        size = options.batch_size or int(generator.integers(1, BATCH_MAX + 1))
        walk = prices[symbol] * np.exp(np.cumsum(generator.normal(0, VOLATILITY, size)))
        prices[symbol] = float(walk[-1])
        values = np.maximum(np.round(walk, 2), TICK).tolist()
        body = msgspec.json.encode({"symbol": symbol, "values": values})
        batches.append(Batch(symbol, size, body))
        pool_prices += size
    return batches


async def stream(options: Options) -> int:
    """Carry the run out; return the exit code."""
    async with load_report.connection(options.concurrency) as session:
        before = await load_report.service_state(session, options.url)
        _check_room(before, options.symbols)
        started = time.perf_counter()
        batches = prepare(options)
        preparation_seconds = time.perf_counter() - started
        traffic = Stream(session, options.url, batches)
        meter = await load_report.drive(traffic.send, options.count, options.concurrency, "Batches")
        is_verified, verdict = await _verify(session, options, before, traffic)
    wording = _wording(options, len(batches), preparation_seconds)
    load_report.print_report(meter, wording, verdict)
    return load_report.exit_code_of(meter, is_verified)


def _check_room(state: load_report.ServiceState, symbols: list[str]) -> None:
    held = {each.symbol for each in state.symbols}
    room = state.max_symbols - len(held)
    if len(set(symbols) - held) > room:
        raise LoadError(
            f"The service keeps {state.max_symbols} symbols and has room for {room} more; "
            f"choose fewer, or of those it has, by --symbols."
        )


async def _verify(
    session: aiohttp.ClientSession,
    options: Options,
    before: load_report.ServiceState,
    traffic: Stream,
) -> tuple[bool, Text]:
    """Compare how far the service's sequences grew with what it acknowledged."""
    try:
        after = await load_report.service_state(session, options.url)
    except LoadError as error:
        return False, Text(f"not verified: {error}", "red")
    old, new = before.sequences(), after.sequences()
    growth = {name: new.get(name, 0) - old.get(name, 0) for name in options.symbols}
    lines = list(_discrepancies(growth, traffic))
    if lines:
        return False, Text("\n".join(lines), "red")
    grown, unanswered = sum(growth.values()), traffic.unanswered.total()
    if not unanswered:
        return True, Text(f"grew by {grown:,}, exactly the trades acknowledged", "green")
    return True, Text(
        f"grew by {grown:,}: {traffic.acknowledged.total():,} acknowledged, the rest of the "
        f"{unanswered:,} in requests that got no reply",
        "yellow",
    )


def _discrepancies(growth: dict[str, int], traffic: Stream) -> Iterator[str]:
    for name, grown in growth.items():
        least = traffic.acknowledged[name]
        if not least <= grown <= least + traffic.unanswered[name]:
            yield (
                f"{name} grew by {grown:,}, but {least:,} trades were acknowledged: "
                "does another program add prices?"
            )


def _wording(options: Options, pool: int, preparation_seconds: float) -> Wording:
    size = f"of {options.batch_size:,}" if options.batch_size else f"of 1 … {BATCH_MAX:,} (random)"
    turns = "" if pool >= options.count else ", and sent again in turn after that"
    return Wording(
        title=f"POST {options.url}/add_batch/",
        setting=f"{options.count:,} batches {size} for "
        f"{load_report.counted_symbols(len(options.symbols))}, "
        f"{options.concurrency} at once, seed {options.seed}",
        noun="trades",
        average="Average batch",
        notes=(
            f"{pool:,} bodies were made and encoded before the clock started "
            f"({preparation_seconds:.2f} s){turns}.",
            "Wall: of the whole run. Latency: from the call until the reply is read.",
        ),
    )


@app.command()
def main(
    url: load_report.Url = DEFAULT_URL,
    count: Annotated[
        int, typer.Option("--count", min=1, metavar="N", help="Batches to send.")
    ] = 1000,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=1,
            metavar="N",
            help="Trades in each batch; without it, random from 1 to 10,000.",
            show_default=False,
        ),
    ] = None,
    concurrency: load_report.Concurrency = 8,
    symbols: Annotated[
        str,
        typer.Option("--symbols", metavar="N|NAMES", help="How many symbols, or names: AAPL,MSFT."),
    ] = "4",
    seed: load_report.Seed = None,
) -> None:
    """Load the service with batches of random-walk prices and report how it did.

    All bodies are made and encoded before the clock starts (up to 5,000,000 prices of them, which
    are then sent in turn). At the end, the growth of the service's sequences is compared with the
    trades it acknowledged. Ctrl-C reports what was done until then.
    """
    try:
        names = load_report.symbol_names(symbols)
    except LoadError as error:
        raise typer.BadParameter(str(error)) from None
    seed = load_report.seed_or_new(seed)
    options = Options(url.rstrip("/"), count, batch_size, concurrency, names, seed)
    load_report.launch(stream(options))


if __name__ == "__main__":
    app()
