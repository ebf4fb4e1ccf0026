"""Options which several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from .console import UsageError

__all__ = ["DEFAULT_URL", "Url", "check_symbol"]

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[
    str, typer.Option("--url", envvar="FDS_URL", metavar="URL", help="Where the service is.")
]


def check_symbol(symbol: str | None) -> str | None:
    """Refuse a symbol that no request can carry; which of the others are fit, the service says."""
    if symbol is not None and not symbol.isascii():
        try:
            symbol.encode()
        except UnicodeEncodeError:
            raise UsageError(f"Expected a symbol in UTF-8, got {symbol!r}.") from None
    return symbol
