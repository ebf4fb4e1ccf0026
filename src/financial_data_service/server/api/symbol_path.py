"""Symbols in a path: ``/stats/BTC%2FUSDT/3`` is about ``BTC/USDT``.

ASGI servers decode a path before it is routed, and an encoded slash then looks like one that parts
the path. This middleware decodes each segment by itself and lets an encoded slash travel as a
character that no symbol may hold; :func:`symbol_in_path` turns it back.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote_to_bytes

from fastapi import Path, Request
from starlette.requests import HTTPConnection

from financial_data_service.errors import InvalidSymbolError
from financial_data_service.server.middleware.encoded_slash import (
    ENCODED_SLASH_FLAG,
    SLASH_STAND_IN,
    raw_route_path,
)
from financial_data_service.symbols import check_symbol

__all__ = ["symbol_in_path", "whole_symbol"]
_REPLACEMENT = "\ufffd"  # which is also a character that a name may hold


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
    return symbol.replace(SLASH_STAND_IN, "/") if ENCODED_SLASH_FLAG in connection.scope else symbol


def _is_utf8(raw_path: bytes) -> bool:
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        return False
    return True
