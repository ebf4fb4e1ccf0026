"""The head of an HTTP request, parsed by itself: request line and headers, up to the empty line."""

from __future__ import annotations

from dataclasses import dataclass, field

import httptools

__all__ = ["HEAD_END", "RequestHead", "parse_head"]

HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class RequestHead:
    """A parsed head.

    Attributes
    ----------
    method, target : bytes
        As in the request line; the target is path and query, undecoded.
    http_version : str
        Such as ``"1.1"``.
    headers : dict of bytes to list of bytes
        Values by lower-case name, in the order they came.
    keep_alive : bool
        Whether the connection stays open after the reply.
    """

    method: bytes = b""
    target: bytes = b""
    http_version: str = ""
    headers: dict[bytes, list[bytes]] = field(default_factory=dict)
    keep_alive: bool = False

    def only(self, name: bytes) -> bytes | None:
        """Return the value of a header that came exactly once, or None."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None


class _Listener:
    """Takes the callbacks of httptools."""

    def __init__(self) -> None:
        self.head = RequestHead()
        self.complete = False
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head.headers.setdefault(name.lower(), []).append(value)

    def on_headers_complete(self) -> None:
        self.complete = True
        # Read it here, because the parser resets it after a message without a body.
        self.head.keep_alive = self.parser.should_keep_alive()


def parse_head(head: bytes) -> RequestHead | None:
    """Parse the bytes of one head, the empty line included.

    This uses the same parser as the server, so both accept the same requests.

    Returns
    -------
    RequestHead or None
        None when it is invalid or asks for an upgrade of the protocol.
    """
    listener = _Listener()
    parser = listener.parser
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if not listener.complete or parser.should_upgrade():
        return None
    parsed = listener.head
    parsed.method = parser.get_method()
    parsed.http_version = parser.get_http_version()
    return parsed
