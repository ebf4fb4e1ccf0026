"""What is asked for: rows of the benchmark, each a cycle of requests.

The bodies of a row differ from each other, so that no reply can be remembered by its request; the
prices in them are random doubles in full, 16 or 17 digits each, as ``repr`` writes them, or their
bytes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = [
    "BINARY",
    "FILLING_BATCH",
    "JSON",
    "POSTED",
    "SEEDED",
    "Request",
    "Row",
    "filling",
    "name_of_post",
    "rows",
]

SEEDED, POSTED, MIXED = "AAPL", "MSFT", "NVDA"
"""Symbols: only asked for; only added to; both in turns."""

FILLING_BATCH = 10_000

JSON, BINARY = "application/json", "application/octet-stream"

_LARGE_BODY_BYTES = 4_096  # what nginx discards at a time
_BATCHES = (1, 10, 100, 1_000, FILLING_BATCH)

_EXPONENTS = (1, 3, 8)
_MIXED_BATCH = 10
_GETS_PER_POST = 9
_SEED = 40_000


class Request(NamedTuple):
    """One request; a GET has no body."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = JSON

    def line(self) -> str:
        """Return it as a line for the load generator: parts between tabs, bytes in hexadecimal."""
        is_binary = self.content_type == BINARY
        body = self.body.hex() if is_binary else self.body.decode("ascii")
        return f"{self.method}\t{self.path}\t{self.content_type}\t{body}\n"

    @classmethod
    def of_line(cls, line: str) -> Request:
        """Return the request of a line."""
        method, path, content_type, body = line.removesuffix("\n").split("\t")
        is_binary = content_type == BINARY
        return cls(
            method,
            path,
            bytes.fromhex(body) if is_binary else body.encode("ascii"),
            content_type,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """Requests that are sent again and again, one after the other.

    Attributes
    ----------
    name : str
        As the tables show it.
    symbol : str
        The one that all its requests are about.
    requests : list of Request
        The cycle.
    batch : int
        Prices to a POST; 0 when there is none.
    batches : list of list of float
        Prices of which one lot is the symbol's last, whenever it is asked for.
    """

    name: str
    symbol: str
    requests: list[Request]
    batch: int = 0
    batches: list[list[float]] = field(default_factory=list)

    @property
    def gets(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET"]

    @property
    def is_large(self) -> bool:
        """Whether its bodies are better read whole than in small pieces."""
        return len(self.requests[0].body) > _LARGE_BODY_BYTES

    def write(self, path: Path) -> None:
        """Write the requests for the load generator, one per line."""
        path.write_text("".join(request.line() for request in self.requests), encoding="ascii")

    @property
    def is_binary(self) -> bool:
        """Whether its batches are bytes, rather than JSON."""
        return self.requests[0].content_type == BINARY


def rows(only: str = "") -> list[Row]:
    """Return the rows whose names have the pattern in them."""
    wanted = re.compile(only, re.IGNORECASE)
    found = [_get_row(k) for k in _EXPONENTS]
    found += [_post_row(length, JSON) for length in _BATCHES]
    found.append(_post_row(FILLING_BATCH, BINARY))
    found.append(_mixed_row())
    return [row for row in found if wanted.search(row.name)]


def filling(symbol: str) -> list[Request]:
    """Return a few requests that fill a symbol, in the largest batches."""
    return [_post(symbol, batch) for batch in _batches(FILLING_BATCH)]


def _get_row(k: int) -> Row:
    return Row(f"GET k={k}", SEEDED, [_get(SEEDED, k)], batches=_batches(FILLING_BATCH))


def name_of_post(length: int, content_type: str) -> str:
    """Return the name of the row of batches of so many prices."""
    return f"POST {length:,}" + (" octet-stream" if content_type == BINARY else "")


def _post_row(length: int, content_type: str) -> Row:
    batches = _batches(length)
    post = _post_bytes if content_type == BINARY else _post
    requests = [post(POSTED, batch) for batch in batches]
    return Row(name_of_post(length, content_type), POSTED, requests, length, batches)


def _mixed_row() -> Row:
    batches = _batches(_MIXED_BATCH)
    requests: list[Request] = []
    for batch in batches:
        requests.append(_post(MIXED, batch))
        for _ in range(_GETS_PER_POST):  # eight windows and nine turns: every window comes first
            requests.append(_get(MIXED, 1 + len(requests) % 8))
    name = f"mixed, {_GETS_PER_POST} GET to 1 POST {_MIXED_BATCH}"
    return Row(name, MIXED, requests, _MIXED_BATCH, batches)


def _batches(length: int) -> list[list[float]]:
    count = max(8, min(64, 10_000 // length))  # a large batch is 190 KB of JSON
    rng = np.random.default_rng([_SEED, length])
    drawn: list[list[float]] = rng.uniform(35_000.0, 45_000.0, (count, length)).tolist()
    return drawn


def _get(symbol: str, k: int) -> Request:
    return Request("GET", f"/stats/{symbol}/{k}")


def _post(symbol: str, prices: list[float]) -> Request:
    body = json.dumps({"symbol": symbol, "values": prices}, separators=(",", ":"))
    return Request("POST", "/add_batch/", body.encode("ascii"))


def _post_bytes(symbol: str, prices: list[float]) -> Request:
    body = np.array(prices, dtype="<f8").tobytes()
    return Request("POST", f"/add_batch/{symbol}", body, BINARY)
