"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from financial_data_service.cli.console import CliError, UsageError
from financial_data_service.wire import DEFAULT_URL

if TYPE_CHECKING:
    from financial_data_service.client.blocking import PlanRunner

    Runner = TypeVar("Runner", bound=PlanRunner)

__all__ = [
    "DEFAULT_URL",
    "Column",
    "DataDirectory",
    "Url",
    "check_symbol",
    "connect",
    "data_directory",
]

Url = Annotated[
    str, typer.Option("--url", envvar="FDS_URL", metavar="URL", help="Where the service is.")
]


def connect(kind: type[Runner], url: str, retry_seconds: float) -> Runner:
    """Return a client of the service, with the API key of ``FDS_API_KEY``; none if that is empty.

    Parameters
    ----------
    kind : type
        ``Client``, or its part that needs no NumPy.
    url : str
        URL of the service.
    retry_seconds : float
        Time in which a request is retried. A service that was never reached is not waited for.

    Raises
    ------
    CliError
        When the URL or the key is invalid.
    """
    from financial_data_service.client.retries import Retries

    try:
        return kind(
            url,
            api_key=os.environ.get("FDS_API_KEY") or None,
            retries=Retries(seconds=retry_seconds),
        )
    except ValueError as error:
        raise CliError(f"{error}.") from None


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
