"""Symbols in a path: ``/stats/BTC%2FUSDT/3`` is about ``BTC/USDT``.

ASGI servers decode a path before it is routed, and an encoded slash then looks like one that parts
the path. This middleware decodes each segment by itself and lets an encoded slash travel as a
character that no symbol may hold; :func:`symbol_in_path` turns it back.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, unquote, unquote_to_bytes

from fastapi import Path, Request
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from financial_data_service.engine.symbol_manager import check_symbol
from financial_data_service.errors import InvalidSymbolError

__all__ = ["EncodedSlashMiddleware", "raw_route_path", "symbol_in_path", "whole_symbol"]

_STAND_IN = "\x00"
_OTHER_CONTROL = "\x01"  # as unfit for a symbol as the stand-in itself
_REPLACEMENT = "\ufffd"  # which is also a character that a name may hold
_FLAG = "financial_data_service.encoded_slash"


class EncodedSlashMiddleware:
    """Pure ASGI middleware that keeps ``%2F`` in a path from parting it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, its path decoded segment by segment where that matters."""
        raw_path = scope.get("raw_path") or b""
        if scope["type"] in ("http", "websocket") and (b"%2F" in raw_path or b"%2f" in raw_path):
            # No route of a symbol ends with a slash, and a redirect would name the stand-in.
            segments = raw_path.decode("ascii").rstrip("/").split("/")
            # No copy: whoever looks on from outside is to find the route that the router notes.
            scope["path"] = "/".join(map(_decoded, segments))
            scope[_FLAG] = True
        await self.app(scope, receive, send)


async def symbol_in_path(
    request: Request,
    symbol: Annotated[
        str,
        Path(
            # Swagger, for one: who encoded a name there would have it encoded twice.
            description="Name of the symbol (percent-encoded in the address; tools that build the "
            "address do so).",
            examples=["AAPL"],
        ),
    ],
) -> str:
    """Return the symbol that a path names (dependency).

    Raises
    ------
    InvalidSymbolError
        When no symbol can have that name.
    """
    symbol = whole_symbol(request, symbol)
    check_symbol(symbol)
    return symbol


def whole_symbol(connection: HTTPConnection, symbol: str) -> str:
    """Return a symbol as the path named it, its slashes put back; it may be unfit.

    Raises
    ------
    InvalidSymbolError
        When the path is not UTF-8: servers decode it with U+FFFD for what means nothing, and
        different names would be one symbol.
    """
    if _REPLACEMENT in symbol and not _is_utf8(raw_route_path(connection.scope)):
        raise InvalidSymbolError("Expected UTF-8 behind `%` - at `symbol`")
    return symbol.replace(_STAND_IN, "/") if _FLAG in connection.scope else symbol


def raw_route_path(scope: Scope) -> bytes:
    """Return the path of a request below the root path as it was sent, nothing of it decoded."""
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    return raw_path.removeprefix(scope.get("root_path", "").encode())


def _is_utf8(raw_path: bytes) -> bool:
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(segment: str) -> str:
    return unquote(segment).replace(_STAND_IN, _OTHER_CONTROL).replace("/", _STAND_IN)
