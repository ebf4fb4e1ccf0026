"""The symbol in a path: ``/stats/BTC%2FUSDT/3`` names ``BTC/USDT``.

:mod:`~financial_data_service.server.middleware.encoded_slash` keeps an encoded slash in its
segment, as a stand-in character. Here the slash is put back.
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
_REPLACEMENT = "\ufffd"  # also a character that a name may contain


async def symbol_in_path(
    request: Request,
    symbol: Annotated[
        str,
        Path(
            # Do not encode the example: Swagger encodes it, and it would be encoded twice.
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
        When it is not the name of a symbol.
    """
    symbol = whole_symbol(request, symbol)
    check_symbol(symbol)
    return symbol


def whole_symbol(connection: HTTPConnection, symbol: str) -> str:
    """Return a symbol as the path names it, with its slashes. It may be invalid.

    Raises
    ------
    InvalidSymbolError
        When the path is not UTF-8. Servers decode invalid bytes to U+FFFD, so different names would
        become one symbol.
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
