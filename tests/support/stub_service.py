"""A stand-in for the service, for tests of its clients: same API, plain lists, faults on demand.

It keeps every price, compares retried batches bit by bit, and can be told to answer badly, to hang,
or to drop connections, which the real service cannot.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

Reply = tuple[int, Any]


class StubService:
    """The service on a free port of this machine, between ``with`` and its end.

    Attributes
    ----------
    prices : dict
        Every price of each symbol.
    largest_window : int
        Only that many of the newest prices can be compared.
    before_batch : callable or None
        Called with the number of the batch request (from 1) before it is looked at; returns
        None, or the reply to give instead. ``(0, None)`` drops the connection.
    """

    def __init__(self) -> None:
        self.prices: dict[str, list[float]] = {}
        self.largest_window = 10**8
        self.max_symbols = 10
        self.batch_requests = 0
        self.stats_requests = 0  # of one symbol
        self.all_stats_requests = 0
        self.before_batch: Callable[[int], Reply | None] = lambda _: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add_batch(self, symbol: str, values: list[float], start: int | None) -> Reply:
        self.batch_requests += 1
        fault = self.before_batch(self.batch_requests)
        if fault is not None:
            return fault
        if symbol not in self.prices and len(self.prices) == self.max_symbols:
            return 400, {"detail": f"Maximum number of symbols ({self.max_symbols}) reached"}
        held = self.prices.get(symbol, [])
        start = len(held) if start is None else start
        if start > len(held):
            return 409, {"detail": f"gap: {start} > {len(held)}", "sequence": len(held)}
        known = held[start : start + len(values)]
        oldest = max(0, len(held) - self.largest_window)
        if start < oldest or _bits(known) != _bits(values[: len(known)]):
            return 409, {"detail": "the stored prices differ", "sequence": len(held)}
        added = values[len(known) :]
        self.prices[symbol] = held + added
        reply = {"symbol": symbol, "added": len(added), "sequence": len(held) + len(added)}
        return 201 if added else 200, reply

    def symbols(self) -> Reply:
        rows = [
            {"symbol": s, "sequence": len(p), "values": min(len(p), self.largest_window)}
            for s, p in self.prices.items()
        ]
        limits = {"max_symbols": self.max_symbols, "largest_window": 10**8, "batch_max": 10_000}
        return 200, {"symbols": rows, **limits}

    def stats(self, symbol: str, query: dict[str, str]) -> Reply:
        if symbol not in self.prices:
            return 404, {"detail": f"Symbol {symbol} not found"}
        prices = self.prices[symbol]
        head = {"symbol": symbol, "sequence": len(prices)}
        if "last" in query or "k" in query:
            window = int(query["last"]) if "last" in query else 10 ** int(query["k"])
            return 200, head | {"k": None} | _window(prices, window)
        return 200, head | {"stats": [{"k": k} | _window(prices, 10**k) for k in range(1, 9)]}

    def get(self, path: str, query: dict[str, str]) -> Reply:
        if path == "/symbols":
            return self.symbols()
        if path.startswith("/stats/"):
            names = [unquote(part) for part in path.split("/")[2:] if part]
            if len(names) == 2:
                query["k"] = names[1]
            if not names and "symbol" not in query:
                self.all_stats_requests += 1
                rows = [self.stats(name, {})[1] for name in self.prices]
                if "k" in query:
                    k = int(query["k"])
                    rows = [row | {"stats": [row["stats"][k - 1]]} for row in rows]
                return 200, {"symbols": rows}
            self.stats_requests += 1
            return self.stats(names[0] if names else query["symbol"], query)
        return 404, {"detail": "Not Found"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self) -> None:
                self._reply(*stub.get(*self._split()))

            def do_POST(self) -> None:
                url, query = self._split()
                content = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-type"] == "application/json":
                    body = json.loads(content)
                    symbol, start = body["symbol"], body.get("from_sequence")
                    values = [float(value) for value in body["values"]]
                else:
                    symbol = unquote(url.removeprefix("/add_batch/"))
                    values = list(struct.unpack(f"<{len(content) // 8}d", content))
                    start = query.get("from_sequence")
                self._reply(*stub.add_batch(symbol, values, None if start is None else int(start)))

            def _split(self) -> tuple[str, dict[str, str]]:
                url = urlsplit(self.path)
                return url.path, {name: each[0] for name, each in parse_qs(url.query).items()}

            def _reply(self, status: int, body: Any) -> None:
                if status == 0:
                    self.close_connection = True
                    return
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _bits(prices: list[float]) -> bytes:
    return struct.pack(f"{len(prices)}d", *prices)


def _window(prices: list[float], window: int) -> dict[str, float]:
    held = prices[-window:]
    avg = sum(held) / len(held)
    return {
        "window": window,
        "min": min(held),
        "max": max(held),
        "last": held[-1],
        "avg": avg,
        "var": sum((price - avg) ** 2 for price in held) / len(held),
        "values": len(held),
    }
