"""The head of a request: all its parts are returned; anything but one whole head is None.

The parser is the server's own. The tests check that nothing is lost or invented around it.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.server.connection.request_head import HEAD_END, parse_head
from support.raw_http import get, post


def test_all_that_a_head_says() -> None:
    head = parse_head(get("/stats/%C3%A9/3?a=b&c", "X-A: 1", "x-a:  2", "X-Empty:", method="PUT"))
    assert head is not None
    assert (head.method, head.target) == (b"PUT", b"/stats/%C3%A9/3?a=b&c")
    assert head.http_version == "1.1"
    assert head.headers == {b"host": [b"test"], b"x-a": [b"1", b"2"], b"x-empty": [b""]}
    assert head.keep_alive


def test_a_header_that_came_once() -> None:
    head = parse_head(get("/", "A: 1", "B: 1", "b: 1", "Empty:"))
    assert head is not None
    assert head.only(b"a") == b"1"
    assert head.only(b"empty") == b""
    assert head.only(b"b") is None  # twice, even if alike
    assert head.only(b"c") is None


def test_the_head_of_a_request_with_a_body() -> None:
    request = post(b"{}")
    head = parse_head(request[: request.index(HEAD_END) + 4])
    assert head is not None
    assert (head.method, head.only(b"content-length")) == (b"POST", b"2")
    assert head.keep_alive


@pytest.mark.parametrize("length", ["", "Content-Length: 0", "Content-Length: 5"])
@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", "X: close", True),
        ("1.1", "Connection: close", False),
        ("1.1", "connection: Keep-Alive, CLOSE", False),
        ("1.0", "X: y", False),
        ("1.0", "Connection: keep-alive", True),
        ("1.0", "Connection: close", False),
    ],
)
def test_whether_the_connection_stays_open(
    version: str, connection: str, length: str, keep_alive: bool
) -> None:
    head = parse_head(get("/", connection, *filter(None, [length]), version=version))
    assert head is not None
    assert (head.http_version, head.keep_alive) == (version, keep_alive)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD_END,
        b"GET / HTTP/1.1\r\n",
        get("/")[:-1],
        get("/livez", method="get"),
        get("/li vez"),
        get("/livez", version="1.2"),
        get("/", "A : b"),
        get("/", "A: b\r\n c"),
        get("/", "A: \0"),
        get("/", "Content-Length: -1"),
        get("/", "Content-Length: 1", "Content-Length: 1"),
        get("/", "Content-Length: 1", "Transfer-Encoding: chunked"),
        b"GET / HTTP/1.1\nHost: test\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
)
def test_what_is_no_head(data: bytes) -> None:
    assert parse_head(data) is None


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_a_head_that_asks_for_another_protocol(protocol: str) -> None:
    assert parse_head(get("/", "Connection: Upgrade", f"Upgrade: {protocol}")) is None
    assert parse_head(get("host:80", method="CONNECT")) is None


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    for text in (data, b"GET /" + data, get("/")[:-2] + data + HEAD_END):
        parse_head(text)


def test_heads_do_not_mix() -> None:
    """Each head has a parser of its own: a broken one leaves nothing to the next."""
    assert parse_head(get("/a", "X: 1")[:-3]) is None
    head = parse_head(get("/b"))
    assert head is not None
    assert (head.target, head.headers) == (b"/b", {b"host": [b"test"]})
