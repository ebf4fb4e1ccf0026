"""Heads that ask for an upgrade: which may be a WebSocket's, and the stand-in head for the others.

The parser is the real one, fed without a socket; :mod:`test_http_protocol` and the tests of framing
send the same over the wire.
"""

from __future__ import annotations

from contextlib import suppress

import httptools
import pytest

from financial_data_service.server.connection.upgrade import (
    asks_for_websocket,
    new_parser,
    stand_in_head,
)

UPGRADE = ["Connection: Upgrade", "Upgrade: websocket"]


class Heads:
    """Keeps what a parser reports of one head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


def asks(line: str, *headers: str) -> bool:
    heads = Heads()
    parser = new_parser(heads)
    with suppress(httptools.HttpParserUpgrade):
        parser.feed_data("\r\n".join([line, "Host: x", *headers, "", ""]).encode())
    return asks_for_websocket(parser, heads.url, heads.headers)


@pytest.mark.parametrize("path", ["/stream", "/stream?api_key=x", "/ingest/S", "/ingest/S?a=b"])
def test_handshakes_are_gets_of_the_paths_that_have_websockets(path: str) -> None:
    assert asks(f"GET {path} HTTP/1.1", *UPGRADE)
    assert asks(f"GET {path} HTTP/1.1", *UPGRADE, "Content-Length: 0")


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("GET /stream HTTP/1.1", []),
        ("GET /stream HTTP/1.1", ["Upgrade: websocket"]),
        ("GET /stream HTTP/1.0", UPGRADE),
        ("POST /stream HTTP/1.1", UPGRADE),
        ("GET /streams HTTP/1.1", UPGRADE),
        ("GET /ingest/ HTTP/1.1", UPGRADE),
        ("GET /ingest/a/b HTTP/1.1", UPGRADE),
        ("GET /stats/S/1 HTTP/1.1", UPGRADE),
        ("GET /stream HTTP/1.1", [*UPGRADE, "Content-Length: 1"]),
        ("GET /stream HTTP/1.1", [*UPGRADE, "Transfer-Encoding: chunked"]),
    ],
)
def test_no_other_head_is_a_handshake(line: str, headers: list[str]) -> None:
    assert not asks(line, *headers)


@pytest.mark.parametrize(
    "headers", [[], [(b"content-length", b"0")], [(b"upgrade", b"h2c"), (b"host", b"x")]]
)
def test_nothing_stands_in_for_a_head_without_a_body(headers: list[tuple[bytes, bytes]]) -> None:
    assert stand_in_head(headers) is None


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        ((b"content-length", b"5"), b"12345"),
        ((b"transfer-encoding", b"chunked"), b"5\r\n12345\r\n0\r\n\r\n"),
    ],
)
def test_a_parser_led_by_a_stand_in_head_reads_the_body(
    framing: tuple[bytes, bytes], sent: bytes
) -> None:
    head = stand_in_head([(b"connection", b"upgrade"), (b"upgrade", b"h2c"), framing])
    assert head is not None
    heads = Heads()
    parser = new_parser(heads)
    parser.feed_data(head)
    assert not heads.is_complete
    parser.feed_data(sent)
    assert (heads.body, heads.is_complete) == (b"12345", True)
    assert heads.headers == [framing]


def test_a_body_declared_twice_leads_no_parser() -> None:
    head = stand_in_head([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")])
    assert head is not None
    with pytest.raises(httptools.HttpParserError):
        new_parser(Heads()).feed_data(head)
