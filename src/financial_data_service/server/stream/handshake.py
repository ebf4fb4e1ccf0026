"""Addresses of streams, checked before the stream begins."""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection

from financial_data_service.errors import InvalidSymbolError
from financial_data_service.server.api import query_keys
from financial_data_service.server.api.error_replies import error_item
from financial_data_service.server.api.symbol_path import whole_symbol
from financial_data_service.symbols import check_symbol

__all__ = ["API_KEY", "invalid_query", "invalid_symbol"]

API_KEY = "api_key"  # taken from the query where it is checked, and wherever a client puts it


def invalid_query(connection: HTTPConnection, *known: str) -> dict[str, Any] | None:
    """Return what is wrong with the query of an address that may have some keys, or None."""
    errors = query_keys.errors_of(connection.scope["query_string"], known)
    return errors[0] if errors else None


def invalid_symbol(connection: HTTPConnection, symbol: str) -> dict[str, Any] | None:
    """Return what is wrong with the symbol in a path, or None."""
    try:
        check_symbol(whole_symbol(connection, symbol))
    except InvalidSymbolError as error:
        return error_item("invalid_symbol", ("path", "symbol"), str(error))
    return None
