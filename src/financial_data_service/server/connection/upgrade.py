"""Requests for a protocol upgrade.

Existing WebSocket routes are upgraded. All other upgrades are ignored.

A client may ask for an upgrade with any request, and a server may ignore that (RFC 9110, 7.8).
Java's HTTP client asks for HTTP/2 with its first request, whether or not it carries a batch. llhttp
does not ignore it. It assumes that HTTP ends after such a head, so it skips the body and stops.
uvicorn then drops the body and all requests behind it.

Here a new parser goes on where the old one stopped. The new parser first gets a *stand-in head*.
This head declares the same body as the original head and asks for no upgrade.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import httptools

__all__ = ["asks_for_websocket", "new_parser", "stand_in_head"]

Header = tuple[bytes, bytes]

_WEBSOCKET_PATH = re.compile(rb"/(stream|ingest/[^/?#]+)([?#]|$)")


def asks_for_websocket(
    parser: httptools.HttpRequestParser, url: bytes, headers: Iterable[Header]
) -> bool:
    """Tell whether a head asks for an upgrade in a way that a WebSocket's handshake may.

    It has to be a ``GET`` of HTTP/1.1 without a body, for a path that has a WebSocket. uvicorn
    checks that the upgrade is to ``websocket``.

    Parameters
    ----------
    parser : httptools.HttpRequestParser
        It has read the head.
    url : bytes
        The target of the request.
    headers : iterable of (bytes, bytes)
        Lower-case names with values.
    """
    return (
        parser.should_upgrade()
        and parser.get_method() == b"GET"
        and parser.get_http_version() == "1.1"
        and _WEBSOCKET_PATH.match(url) is not None
        and not any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
            for name, value in headers
        )
    )


def new_parser(protocol: object) -> httptools.HttpRequestParser:
    """Return a parser set up as uvicorn sets up its own."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def stand_in_head(headers: Iterable[Header]) -> bytes | None:
    """Return a head that declares the same body and nothing else; None when there is no body.

    The parser has checked that a ``content-length`` is a number.
    """
    framing = [
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
    ]
    return b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing) if framing else None
