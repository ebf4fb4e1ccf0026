"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from financial_data_service.cli.console import UsageError
from financial_data_service.wire import DEFAULT_URL

__all__ = ["DEFAULT_URL", "Column", "DataDirectory", "Url", "check_symbol", "data_directory"]

Url = Annotated[
    str, typer.Option("--url", envvar="FDS_URL", metavar="URL", help="Where the service is.")
]


def check_symbol(symbol: str | None) -> str | None:
    """Refuse a symbol that no request can carry. The service decides about all others."""
    if symbol is not None and not symbol.isascii():
        try:
            symbol.encode()
        except UnicodeEncodeError:
            raise UsageError(f"Expected a symbol in UTF-8, got {symbol!r}.") from None
    return symbol


def data_directory(name: str) -> Path:
    """Return the path of a data directory, with ``~`` expanded.

    An empty name is refused: Path("") is the current directory, which nobody means who wrote
    ``$UNSET``.
    """
    if not name:
        raise UsageError("The data directory must have a name, got ''.")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UsageError(f"Expected the home directory of a user in {name!r}.") from None


DataDirectory = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="FDS_DATA_DIR",
        parser=data_directory,
        metavar="DIRECTORY",
        help="What fds serve --data-dir was given.",
        show_default=False,
    ),
]

Column = Annotated[
    str | None,
    typer.Option(
        "--column",
        "-c",
        metavar="NAME|NUMBER",
        help="Column of the prices: its name in the header, or its number from 1. "
        "Without it: 'price', or the only column.",
        show_default=False,
    ),
]
