"""Addresses of streams: what is wrong with one is said before the stream begins.

A misspelt parameter that went unheeded would be noticed late: ``form_sequence=0`` would have every
frame that is sent again stored again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import HTTPConnection

from financial_data_service.engine.symbol_manager import check_symbol
from financial_data_service.errors import InvalidSymbolError
from financial_data_service.server.errors import error_item
from financial_data_service.server.paths import whole_symbol

__all__ = ["API_KEY", "unfit_query", "unfit_symbol"]

API_KEY = "api_key"  # taken from the query where it is checked, and wherever a client puts it

_KEY_SHOWN_MAX = 64


def unfit_query(connection: HTTPConnection, *parameters: str) -> dict[str, Any] | None:
    """Return what is wrong with the query of an address that may have some parameters, or None.

    No value is quoted: it may be a key.
    """
    seen = set()
    for name, _ in connection.query_params.multi_items():
        shown = name[:_KEY_SHOWN_MAX]
        if name not in parameters:
            message = f"Expected {_listed(parameters)} and no other parameter, got `{shown}`"
            return error_item("unknown_parameter", ("query", shown), message)
        if name in seen:
            message = f"Expected `{shown}` at most once"
            return error_item("repeated_parameter", ("query", shown), message)
        seen.add(name)
    return None


def unfit_symbol(connection: HTTPConnection, symbol: str) -> dict[str, Any] | None:
    """Return what is wrong with the symbol that ends a path, or None.

    What is no UTF-8 is refused: decoded, with a replacement for what does not fit, it would be a
    symbol that nobody meant.
    """
    segment = connection.scope["raw_path"].rpartition(b"/")[2]
    try:
        unquote_to_bytes(segment).decode()
        check_symbol(whole_symbol(connection, symbol))
    except UnicodeDecodeError:
        message = "Expected UTF-8 behind `%`"
    except InvalidSymbolError as error:
        message = str(error)
    else:
        return None
    return error_item("invalid_symbol", ("path", "symbol"), message)


def _listed(parameters: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in parameters)
