"""A model of the service that keeps every price in a list, and a way to play requests against it.

:func:`play` takes the addresses of any number of services: the model says what is right, and the
services must agree with it and, to the byte, with one another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from financial_data_service.windows import WindowStats
from support.oracle import Oracle, same_bits
from support.raw_http import Connection, Reply, batch, get, post, post_chunked

MAX_SYMBOLS = 10
LARGEST_WINDOW = 100_000
K_MAX = 5


class Model:
    """What the service ought to hold and to answer."""

    def __init__(self) -> None:
        self.prices: dict[str, Oracle] = {}

    def sequence(self, symbol: str) -> int:
        """Prices ever added to a symbol; 0 if there is none of that name."""
        return len(self.prices[symbol]) if symbol in self.prices else 0

    def add(self, symbol: str, values: Sequence[float], from_sequence: int | None) -> int:
        """Add a batch and return the status that it deserves; the batch itself is fit."""
        held = self.prices[symbol].prices if symbol in self.prices else []
        new = list(values)
        if from_sequence is not None:
            if from_sequence > len(held):
                return 409
            there = held[from_sequence : from_sequence + len(new)]
            if not all(map(same_bits, there, new)):
                return 409
            new = new[len(there) :]
        if symbol not in self.prices:
            if len(self.prices) == MAX_SYMBOLS:
                return 400
            self.prices[symbol] = Oracle()
        self.prices[symbol].append(new)
        return 201 if new else 200

    def check_window(self, symbol: str, window: int, answer: Any, sequence: int) -> None:
        """Assert that an answer is the one for the last ``window`` prices, within the promise."""
        assert answer["window"] == window
        known = {name: answer[name] for name in WindowStats._fields if name != "sequence"}
        self.prices[symbol].check(WindowStats(**known, sequence=sequence), window)

    def check_all_windows(self, symbol: str, answer: Any) -> None:
        """Assert that an answer holds every window of a symbol."""
        assert answer["symbol"] == symbol
        assert [entry["k"] for entry in answer["stats"]] == list(range(1, K_MAX + 1))
        for entry in answer["stats"]:
            self.check_window(symbol, 10 ** entry["k"], entry, answer["sequence"])

    def check_everything(self, answer: Any) -> None:
        """Assert that an answer holds every window of every symbol."""
        assert [entry["symbol"] for entry in answer["symbols"]] == list(self.prices)
        for entry in answer["symbols"]:
            self.check_all_windows(entry["symbol"], entry)


Ask = Callable[[bytes], Reply]


@dataclass
class Add:
    """A fit batch; with ``behind``, one that repeats so many of the prices that are there."""

    symbol: str
    values: list[float]
    behind: int | None = None
    differs: bool = False
    in_chunks: bool = False

    def run(self, model: Model, ask: Ask) -> None:
        """Send it; status and receipt must be those of the model."""
        values, from_sequence = self.values, None
        if self.behind is not None:
            from_sequence = max(0, model.sequence(self.symbol) - self.behind)
            held = model.prices[self.symbol].prices if self.symbol in model.prices else []
            values = [*held[from_sequence:], *values]
            if self.differs:
                values[0] = -values[0] or 1.0
        elif self.differs:  # a gap
            from_sequence = model.sequence(self.symbol) + 1
        before = model.sequence(self.symbol)
        reply = ask(framed(batch(self.symbol, values, from_sequence), self.in_chunks))
        status = model.add(self.symbol, values, from_sequence)
        assert reply.status == status, reply
        content = reply.json()
        if status in (200, 201):
            assert content["sequence"] == model.sequence(self.symbol)
            assert content["added"] == content["sequence"] - before
        elif status == 409:
            assert content["sequence"] == before


@dataclass
class AddBytes:
    """A body that may be anything."""

    body: bytes
    in_chunks: bool = False

    def run(self, model: Model, ask: Ask) -> None:
        """Send it; what is taken must be what Python's own JSON makes of it."""
        reply = ask(framed(self.body, self.in_chunks))
        assert reply.status in (200, 201, 400, 409, 422), reply
        assert "detail" in reply.json() or reply.status in (200, 201)
        if reply.status != 422:
            content = json.loads(self.body)
            values = [float(value) for value in content["values"]]
            status = model.add(content["symbol"], values, content.get("from_sequence"))
            assert reply.status == status


@dataclass
class Window:
    """A question for one window of a symbol."""

    symbol: str
    k: int
    in_query: bool = False

    def run(self, model: Model, ask: Ask) -> None:
        """Ask and check."""
        name = quote(self.symbol, safe="")
        target = f"/stats/?symbol={name}&k={self.k}" if self.in_query else f"/stats/{name}/{self.k}"
        reply = ask(get(target))
        if self.symbol not in model.prices:
            assert reply.status == 404
        elif not 1 <= self.k <= K_MAX:
            assert reply.status == 422
        else:
            answer = reply.json()
            assert (answer["symbol"], answer["k"]) == (self.symbol, self.k)
            model.check_window(self.symbol, 10**self.k, answer, answer["sequence"])


@dataclass
class Last:
    """A question for the last prices of a symbol, any number of them."""

    symbol: str
    count: int

    def run(self, model: Model, ask: Ask) -> None:
        """Ask and check."""
        reply = ask(get(f"/stats/{quote(self.symbol, safe='')}?last={self.count}"))
        if self.symbol not in model.prices:
            assert reply.status == 404
        elif not 1 <= self.count <= LARGEST_WINDOW:
            assert reply.status == 422
        else:
            answer = reply.json()
            model.check_window(self.symbol, self.count, answer, answer["sequence"])


@dataclass
class Everything:
    """A question for all there is."""

    def run(self, model: Model, ask: Ask) -> None:
        """Ask and check."""
        model.check_everything(ask(get("/stats/")).json())
        listed = {e["symbol"]: e["sequence"] for e in ask(get("/symbols")).json()["symbols"]}
        assert listed == {symbol: len(oracle) for symbol, oracle in model.prices.items()}


@dataclass
class Delete:
    """The end of a symbol."""

    symbol: str

    def run(self, model: Model, ask: Ask) -> None:
        """Ask and check."""
        reply = ask(get(f"/symbols/{quote(self.symbol, safe='')}", method="DELETE"))
        assert reply.status == (200 if self.symbol in model.prices else 404)
        model.prices.pop(self.symbol, None)


@dataclass
class Target:
    """A ``GET`` of any address: no error of the service's own, and nothing changes."""

    target: str

    def run(self, model: Model, ask: Ask) -> None:
        """Ask."""
        reply = ask(get(self.target))
        assert reply.status in (200, 307, 404, 405, 422), reply
        assert reply.status == 307 or reply.headers["content-type"].startswith(
            ("application/json", "text/html")
        )


Request = Add | AddBytes | Window | Last | Everything | Delete | Target


@dataclass
class Asker:
    """Asks every service the same, and requires one answer."""

    connections: list[Connection]
    asked: list[bytes] = field(default_factory=list)

    def __call__(self, request: bytes) -> Reply:
        self.asked.append(request)
        replies = [connection.ask(request) for connection in self.connections]
        told = [(reply.status, _lasting(reply.headers), reply.body) for reply in replies]
        assert all(each == told[0] for each in told), (request, told)
        return replies[0]


def play(urls: Sequence[str], requests: Sequence[Request]) -> None:
    """Play requests against services that nobody else uses, and check each reply."""
    model = Model()
    with ExitStack() as stack:
        ask = Asker([stack.enter_context(Connection(url)) for url in urls])
        for connection in ask.connections:
            for entry in connection.ask(get("/symbols")).json()["symbols"]:
                name = quote(entry["symbol"], safe="")
                connection.ask(get(f"/symbols/{name}", method="DELETE"))
        for request in requests:
            request.run(model, ask)
        Everything().run(model, ask)


def framed(body: bytes, in_chunks: bool) -> bytes:
    """Return the request for a batch."""
    half = len(body) // 2
    pieces = [piece for piece in (body[:half], body[half:]) if piece]
    return post_chunked(pieces) if in_chunks else post(body)


def _lasting(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "date"}
