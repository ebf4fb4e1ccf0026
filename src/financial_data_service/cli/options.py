"""Options which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from financial_data_service.cli.console import UsageError

__all__ = ["DEFAULT_URL", "Url", "check_symbol", "data_directory"]

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


def data_directory(name: str) -> Path:
    """Return the data directory of a name, whose ``~`` a shell may have left where it was.

    An empty one is refused: to Path it would be the current directory, to whoever wrote ``$UNSET``
    it is not.
    """
    if not name:
        raise UsageError("The data directory must have a name, got ''.")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UsageError(f"Expected the home directory of a user in {name!r}.") from None
