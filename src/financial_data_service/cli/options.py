"""Options that several commands share."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from financial_data_service.cli.console import CliError, UsageError, print_error
from financial_data_service.wire import DEFAULT_URL

if TYPE_CHECKING:
    from financial_data_service.client.blocking import PlanRunner
    from financial_data_service.client.steps import Pause

    Runner = TypeVar("Runner", bound=PlanRunner)

__all__ = [
    "DEFAULT_URL",
    "DataDirectory",
    "Url",
    "check_symbol",
    "connect",
    "data_directory",
    "directory_and_symbol",
    "required",
]

Url = Annotated[
    str, typer.Option("--url", envvar="FDS_URL", metavar="URL", help="Where the service is.")
]


def connect(kind: type[Runner], url: str, retry_seconds: float) -> Runner:
    """Return a client of the service.

    It uses the API key in ``FDS_API_KEY``, or no key if that is empty.

    Parameters
    ----------
    kind : type
        ``Client``, or its base class ``PlanRunner``, which does not need NumPy.
    url : str
        URL of the service.
    retry_seconds : float
        Time limit for the retries of a request. If the first connection is refused, the client does
        not wait.

    Raises
    ------
    CliError
        When the URL or the key is invalid.
    """
    from financial_data_service.client.retries import Retries

    try:
        runner = kind(
            url,
            api_key=os.environ.get("FDS_API_KEY") or None,
            retries=Retries(seconds=retry_seconds),
        )
    except ValueError as error:
        raise CliError(f"{error}.") from None
    runner.on_pause = WaitNotice(retry_seconds).note
    return runner


class WaitNotice:
    """Prints one notice per outage that the command is waiting for the service.

    Parameters
    ----------
    retry_seconds : float
        How long the command waits at most.
    """

    _SILENT_SECONDS = 1.0  # A restart takes about a second: no reader could do anything about it.

    def __init__(self, retry_seconds: float) -> None:
        self._retry_seconds = retry_seconds
        self._since = self._newest = -math.inf
        self._has_said = False

    def note(self, pause: Pause) -> None:
        """Note a pause that begins now."""
        now = time.monotonic()
        if now - self._newest > self._retry_seconds:  # The outage before is over.
            self._since, self._has_said = now, False
        self._newest = now
        if not self._has_said and now + pause.seconds - self._since > self._SILENT_SECONDS:
            self._has_said = True
            print_error(f"{pause.reason}; trying again for up to {self._retry_seconds:g} s.")


def check_symbol(symbol: str | None) -> str | None:
    """Refuse a symbol that cannot be encoded as UTF-8. The service checks everything else."""
    if symbol is not None and not symbol.isascii():
        try:
            symbol.encode()
        except UnicodeEncodeError:
            raise UsageError(f"Expected a symbol in UTF-8, got {symbol!r}.") from None
    return symbol


def data_directory(name: str) -> Path:
    """Return the path of a data directory, with ``~`` expanded.

    An empty name is refused. It usually comes from an unset variable, and Path("") would mean the
    current directory.
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


def directory_and_symbol(
    words: Sequence[str], data_dir: Path | None, *, is_option: bool
) -> tuple[Path, str | None]:
    """Return the data directory and the symbol of a command line.

    The order is ``[SYMBOL] --data-dir DIRECTORY``. ``DIRECTORY [SYMBOL]`` is accepted too, for
    compatibility with older versions.

    Parameters
    ----------
    words : sequence of str
        The positional arguments.
    data_dir : Path or None
        From ``--data-dir`` or ``FDS_DATA_DIR``.
    is_option : bool
        Whether it is from ``--data-dir``.

    Raises
    ------
    UsageError
        When there is no directory, or more than one symbol.
    """
    rest = list(words)
    # If the directory comes from FDS_DATA_DIR, a single argument is the symbol, unless it is an
    # existing directory.
    is_first = len(rest) > 1 or data_dir is None or (rest and Path(rest[0]).is_dir())
    if rest and is_first and not is_option:
        data_dir = data_directory(rest.pop(0))
    if len(rest) > 1:
        raise UsageError(f"Expected one symbol, got {rest[0]!r} and {rest[1]!r}.")
    return required(data_dir), check_symbol(rest[0]) if rest else None


def required(data_dir: Path | None) -> Path:
    """Return the data directory, which the command needs."""
    if data_dir is None:
        raise UsageError("Which data directory? Give --data-dir DIRECTORY or set FDS_DATA_DIR.")
    return data_dir
