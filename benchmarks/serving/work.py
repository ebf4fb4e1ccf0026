"""What is asked for: rows of the benchmark, each a cycle of requests.

The bodies of a row differ from each other, so that no reply can be remembered by its request; the
prices in them are random doubles in full, 16 or 17 digits each, as ``repr`` writes them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["FILLING_BATCH", "POSTED", "SEEDED", "Request", "Row", "filling", "rows"]

SEEDED, POSTED, MIXED = "AAPL", "MSFT", "NVDA"
"""Symbols: only asked for; only added to; both in turns."""

FILLING_BATCH = 10_000

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
    body: str = ""


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
        """Write the requests for whoever sends them, one a line, parts parted by tabs."""
        text = "".join("\t".join(request) + "\n" for request in self.requests)
        path.write_text(text, encoding="ascii")


def rows(only: str = "") -> list[Row]:
    """Return the rows whose names have the pattern in them."""
    wanted = re.compile(only, re.IGNORECASE)
    found = [_get_row(k) for k in _EXPONENTS]
    found += [_post_row(length) for length in _BATCHES]
    found.append(_mixed_row())
    return [row for row in found if wanted.search(row.name)]


def filling(symbol: str) -> list[Request]:
    """Return a few requests that fill a symbol, in the largest batches."""
    return [_post(symbol, batch) for batch in _batches(FILLING_BATCH)]


def _get_row(k: int) -> Row:
    return Row(f"GET k={k}", SEEDED, [_get(SEEDED, k)], batches=_batches(FILLING_BATCH))


def _post_row(length: int) -> Row:
    batches = _batches(length)
    requests = [_post(POSTED, batch) for batch in batches]
    return Row(f"POST {length:,}", POSTED, requests, length, batches)


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
    return Request("POST", "/add_batch/", body)
