"""HTTP by the byte: requests are bytes that the test writes, replies are parsed strictly.

A client library would mend, reorder or refuse much of what these tests send.
"""

from __future__ import annotations

import json
import socket
import struct
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 20.0  # far longer than any reply takes; a test that hangs fails with it
JSON_TYPE = "application/json"
FLOAT64_TYPE = "application/octet-stream"
ARROW_TYPE = "application/vnd.apache.arrow.stream"


class Reply(NamedTuple):
    """A reply as it came; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, which must be declared to be JSON and be it."""
        assert self.headers["content-type"] == JSON_TYPE, self
        return json.loads(self.body)


class Connection:
    """One connection to the service at a URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def ask(self, data: bytes, *, method: str = "GET") -> Reply:
        """Send a request and return the reply to it."""
        self.send(data)
        return self.receive(method)

    def receive(self, method: str = "GET") -> Reply:
        """Return the next reply; a reply to HEAD and an interim one (1xx) have no body."""
        head, _, self._received = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [line.split(":", 1) for line in lines]
        headers = {name.lower(): value.strip() for name, value in pairs}
        assert len(headers) == len(pairs), f"a header twice: {lines}"
        code = int(status)
        if code < 200 or method == "HEAD":
            return Reply(code, headers, b"")
        size = int(headers["content-length"])
        while len(self._received) < size:
            self._more()
        body, self._received = self._received[:size], self._received[size:]
        return Reply(code, headers, body)

    def is_closed(self) -> bool:
        """Wait for the server to close the connection, and return whether nothing else came."""
        assert not self._received, f"not asked for: {self._received!r}"
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:  # closed before it had read all that was sent
            return True

    def is_usable(self) -> bool:
        """Return whether the connection serves another request, its reply the first to come."""
        return self.ask(get("/livez")).body == b'{"status":"ok"}'

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._more()
        return self._received

    def _more(self) -> None:
        data = self._socket.recv(1 << 16)
        assert data, f"closed in mid-reply, after {self._received!r}"
        self._received += data


def get(target: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    """Return a request without a body; the target goes out as it is written."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(
    body: bytes,
    *headers: str,
    content_type: str | None = JSON_TYPE,
    target: str = "/add_batch/",
) -> bytes:
    """Return a batch with a body of declared length."""
    return (
        get(
            target,
            *_typed(content_type),
            f"Content-Length: {len(body)}",
            *headers,
            method="POST",
        )
        + body
    )


def post_chunked(
    chunks: list[bytes],
    *headers: str,
    content_type: str | None = JSON_TYPE,
    target: str = "/add_batch/",
) -> bytes:
    """Return a batch whose body goes in chunks."""
    head = get(
        target,
        *_typed(content_type),
        "Transfer-Encoding: chunked",
        *headers,
        method="POST",
    )
    return head + b"".join(map(chunk, [*chunks, b""]))


def chunk(data: bytes) -> bytes:
    """Return a chunk of a body; an empty one ends it."""
    return b"%X\r\n%b\r\n" % (len(data), data)


def batch(symbol: str, values: list[float], from_sequence: int | None = None) -> bytes:
    """Return the body of a batch, in JSON of no needless character."""
    content: dict[str, Any] = {"symbol": symbol, "values": values}
    if from_sequence is not None:
        content["from_sequence"] = from_sequence
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def post_float64(symbol: str, values: list[float], *headers: str, query: str = "") -> bytes:
    """Return a batch in binary; the symbol goes out as it is written."""
    body = struct.pack(f"<{len(values)}d", *values)
    target = f"/add_batch/{symbol}{query}"
    return post(body, *headers, content_type=FLOAT64_TYPE, target=target)


def _typed(content_type: str | None) -> list[str]:
    return [] if content_type is None else [f"Content-Type: {content_type}"]
