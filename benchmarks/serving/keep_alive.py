"""A small keep-alive client, for machines without wrk; the same requests, the same report.

::

    python -m serving.keep_alive URL FILE CONNECTIONS SECONDS

Python sends fewer requests than any server here answers, so its numbers are the client's more than
the servers'.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

from serving.work import Request

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Cycle:
    """The requests, one after the other, and what became of them."""

    def __init__(self, path: Path, host: str) -> None:
        lines = path.read_text(encoding="ascii").splitlines()
        self._requests = [_bytes_of(Request.of_line(line), host) for line in lines]
        self._is_post = [line.startswith("POST") for line in lines]
        self._position = -1
        self.sent = self.posts = self.refused = self.errors = 0
        self.stopped = False
        self.latencies_ns: list[int] = []

    def take(self) -> bytes:
        """Return the next request, and count it as sent."""
        self._position = (self._position + 1) % len(self._requests)
        self.sent += 1
        self.posts += self._is_post[self._position]
        return self._requests[self._position]


class Connection(asyncio.Protocol):
    """One connection, a request at a time."""

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, but they do as those do.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head) if end else None
        if length is None or len(body) < int(length[1]):
            return
        self._cycle.latencies_ns.append(perf_counter_ns() - self._begin)
        self._cycle.refused += not head.startswith(b"HTTP/1.1 2")
        self._received = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cycle.errors += not self._cycle.stopped

    def _send(self) -> None:
        if not self._cycle.stopped:
            self._begin = perf_counter_ns()
            self._transport.write(self._cycle.take())


def main() -> None:
    """Send for a while, then report."""
    url, requests, connections, seconds = sys.argv[1:]
    uvloop.run(_load(url, Path(requests), int(connections), float(seconds)))


async def _load(url: str, requests: Path, connections: int, seconds: float) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    cycle = Cycle(requests, parts.netloc)
    begin = perf_counter()
    opened = [
        await loop.create_connection(lambda: Connection(cycle), parts.hostname, parts.port)
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    cycle.stopped = True
    print(_report(cycle, perf_counter() - begin), file=sys.stderr)
    for transport, _ in opened:
        transport.abort()


def _report(cycle: Cycle, seconds: float) -> str:
    p50, p99, p999 = np.percentile(cycle.latencies_ns or [0], [50, 99, 99.9]) / 1e3
    return json.dumps(
        {
            "seconds": seconds,
            "completed": len(cycle.latencies_ns),
            "sent": cycle.sent,
            "posts": cycle.posts,
            "refused": cycle.refused,
            "errors": cycle.errors,
            "p50_us": p50,
            "p99_us": p99,
            "p999_us": p999,
        }
    )


def _bytes_of(request: Request, host: str) -> bytes:
    lines = [f"{request.method} {request.path} HTTP/1.1", f"Host: {host}"]
    if request.method == "POST":
        lines += [f"Content-Type: {request.content_type}", f"Content-Length: {len(request.body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + request.body


if __name__ == "__main__":
    main()
