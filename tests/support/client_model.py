"""A stand-in for the service below httpx: plain lists, and a fault for each request on demand.

It can do what the real service cannot be made to: break a connection just before or just after it
has stored a batch, be busy for exactly two requests, and let another writer in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np

BATCH_MAX = 4

Fault = str
"""What becomes of a request: a key of :data:`FAULTS`, a status, or ``"other writer: …"``."""

UNTOUCHED: tuple[Fault, ...] = ("refused", "connect timeout", "429", "408", "503")
"""Nothing was stored, and the client can know it."""

DOUBTFUL: tuple[Fault, ...] = (
    "reset before",
    "reset after",
    "timeout before",
    "timeout after",
    "502",
    "504",
    "proxy 503 before",
    "proxy 503 after",
)
"""The client cannot know whether something was stored."""

_ERRORS: dict[str, type[httpx.TransportError]] = {
    "refused": httpx.ConnectError,
    "connect timeout": httpx.ConnectTimeout,
    "reset": httpx.ReadError,
    "timeout": httpx.ReadTimeout,
}


class ModelService:
    """The service, behind ``transport`` for either client.

    Attributes
    ----------
    prices : dict
        Every price of each symbol.
    faults : deque of Fault
        What becomes of the next batches; without an entry they are stored.
    requests : list of str
        Method and target of what arrived.
    before_batch : callable
        Called before each batch is looked at.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.prices: dict[str, list[float]] = {}
        self.faults = deque(faults)
        self.requests: list[str] = []
        self.retry_after: str | None = None
        self.before_batch: Callable[[], None] = lambda: None
        self.transport = httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.raw_path.decode()}")
        path, query = request.url.raw_path.decode().partition("?")[0], request.url.params
        if request.method == "POST":
            return self._faulty(request, unquote(path.removeprefix("/add_batch/")))
        if path == "/symbols":
            rows = [
                {"symbol": symbol, "sequence": len(prices), "values": len(prices)}
                for symbol, prices in self.prices.items()
            ]
            limits = {"max_symbols": 10, "largest_window": 10**8, "batch_max": BATCH_MAX}
            return httpx.Response(200, json={"symbols": rows, **limits})
        if path == "/stats/":
            return self._stats(query["symbol"])
        return httpx.Response(404, json={"detail": "Not Found"})

    def _faulty(self, request: httpx.Request, symbol: str) -> httpx.Response:
        self.before_batch()
        fault = self.faults.popleft() if self.faults else ""
        what, _, when = fault.rpartition(" ")
        if what not in _ERRORS and what != "proxy 503":
            what = fault
        if what in _ERRORS:
            if when == "after":
                self._add(request, symbol)
            raise _ERRORS[what](fault, request=request)
        if what == "proxy 503":
            if when == "after":
                self._add(request, symbol)
            return httpx.Response(503, html="<h1>upstream reset</h1>")
        if fault:
            headers = {"retry-after": self.retry_after} if self.retry_after else {}
            return httpx.Response(int(fault), json={"detail": "not now"}, headers=headers)
        return self._add(request, symbol)

    def _add(self, request: httpx.Request, symbol: str) -> httpx.Response:
        values = np.frombuffer(request.content, "<f8").tolist()
        assert request.headers["content-type"] == "application/octet-stream"
        assert 1 <= len(values) <= BATCH_MAX
        held = self.prices.get(symbol, [])
        start = int(request.url.params.get("from_sequence", len(held)))
        known = held[start : start + len(values)]
        if start > len(held) or known != values[: len(known)]:
            conflict = {"detail": "they differ", "sequence": len(held)}
            return httpx.Response(409, json=conflict)
        added = values[len(known) :]
        self.prices[symbol] = held + added
        body = {"status": "success", "message": "…", "symbol": symbol, "added": len(added)}
        return httpx.Response(201 if added else 200, json=body | {"sequence": len(held + added)})

    def _stats(self, symbol: str) -> httpx.Response:
        if symbol not in self.prices:
            return httpx.Response(404, json={"detail": f"Symbol {symbol} not found"})
        prices = self.prices[symbol]
        one: dict[str, Any] = dict.fromkeys(("min", "max", "last", "avg"), prices[-1])
        body = one | {"symbol": symbol, "k": None, "window": 1, "var": 0.0, "values": 1}
        return httpx.Response(200, json=body | {"sequence": len(prices)})
