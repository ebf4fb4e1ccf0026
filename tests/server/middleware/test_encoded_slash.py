"""Paths with ``%2F``: each segment is decoded by itself, and no client can send the stand-in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from financial_data_service.server.middleware.encoded_slash import (
    EncodedSlashMiddleware,
    raw_route_path,
)

UNTOUCHED = "what the server decoded"


def path_behind_the_middleware(raw_path: bytes, kind: str = "http") -> str:
    """Return the path that the application inside is given; the server's is ``UNTOUCHED``."""
    paths: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])

    async def never() -> Any:
        raise AssertionError

    async def nowhere(message: Any) -> None:
        raise AssertionError(message)

    scope: Scope = {"type": kind, "path": UNTOUCHED, "raw_path": raw_path}
    asyncio.run(EncodedSlashMiddleware(app)(scope, never, nowhere))
    return paths[0]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/stats/BTC%2FUSDT/3", "/stats/BTC\0USDT/3"),
        (b"/stats/BTC%2fUSDT/3", "/stats/BTC\0USDT/3"),
        (b"/stats/%2F/3", "/stats/\0/3"),
        (b"/stats/a%2Fb%2Fc", "/stats/a\0b\0c"),
        (b"/stats/%E2%82%AC%2FUSD/3", "/stats/€\0USD/3"),
        (b"/stats/a%252F%2Fb", "/stats/a%2F\0b"),  # is decoded once
        (b"/stats/a%00%2Fb", "/stats/a\1\0b"),  # NUL is no stand-in of a slash
        (b"/symbols/a%2Fb/", "/symbols/a\0b"),
        (b"/symbols/a%2Fb//", "/symbols/a\0b"),
        (b"/stats/BTC/3", UNTOUCHED),
        (b"/stats/a%00b/3", UNTOUCHED),
        (b"/stats/a%252Fb/3", UNTOUCHED),
        (b"", UNTOUCHED),
    ],
)
def test_a_path_is_decoded_by_segments(raw_path: bytes, path: str, kind: str) -> None:
    assert path_behind_the_middleware(raw_path, kind) == path


def test_a_scope_without_a_path_is_passed_on() -> None:
    assert path_behind_the_middleware(b"/a%2Fb", "lifespan") == UNTOUCHED


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"raw_path": b"/stats/a%2Fb/3", "path": "/stats/a/b/3"}, b"/stats/a%2Fb/3"),
        ({"raw_path": b"/in/livez", "path": "/in/livez", "root_path": "/in"}, b"/livez"),
        ({"raw_path": b"/livez", "path": "/livez", "root_path": "/in"}, b"/livez"),
        ({"raw_path": b"", "path": "/stats/€ b/3"}, b"/stats/%E2%82%AC%20b/3"),
        ({"path": "/livez"}, b"/livez"),
    ],
)
def test_the_path_as_it_was_sent(scope: Scope, path: bytes) -> None:
    assert raw_route_path(scope) == path
