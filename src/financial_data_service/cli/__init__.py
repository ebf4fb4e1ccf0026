"""The command ``fds``: run the service, load files, read statistics, check data directories.

One module per command (``serve``, ``load``, ``stats``, ``inspect``, ``verify``, ``export``,
``doctor``). ``console`` prints, ``progress`` draws bars, ``options`` holds common options.
``load`` has ``load_options``, ``load_report`` and the package ``price_files``, which reads files.
``machine`` and ``diagnosis`` gather what ``doctor`` prints. It may import everything below. A new
command goes here.

Invariants: every failure is one sentence on stderr and an exit code (1: it failed, 2: wrong usage,
130: interrupted), and never a traceback unless ``FDS_DEBUG=1``. Commands that use the service never
load the engine; commands on a data directory load it after their arguments are checked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated

import typer

from financial_data_service.cli.console import Command, Commands, examples, paragraphs
from financial_data_service.cli.doctor import doctor
from financial_data_service.cli.export import export
from financial_data_service.cli.inspect import inspect
from financial_data_service.cli.load import load
from financial_data_service.cli.serve import serve
from financial_data_service.cli.stats import stats
from financial_data_service.cli.verify import verify
from financial_data_service.version import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    name="fds",
    cls=Commands,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "fds serve",
        "fds load examples/btcusdt-trades.csv --symbol BTCUSDT",
        "fds stats BTCUSDT",
    ),
)
_COMMANDS: dict[Callable[..., None], tuple[str, ...]] = {
    serve: (
        "fds serve",
        "fds serve --port 9000 --max-symbols 50",
        "fds serve --data-dir prices --workers 2",
        "FDS_LARGEST_WINDOW=1000000 fds serve",
    ),
    load: (
        "fds load trades.csv --symbol AAPL",
        "fds load quotes.csv --symbol EURUSD --column 2",
        "fds load 'BTCUSDT-trades-2026-*.zip' --symbol BTC/USDT --column 2",
        "fds load kurse.csv --symbol SAP --column Kurs --decimal , --thousands .",
        "fds load bars.parquet --symbol-column ticker --dry-run",
        "fds load today.parquet --symbol AAPL --append",
        "xzcat trades.csv.xz | fds load - --symbol AAPL",
    ),
    stats: (
        "fds stats",
        "fds stats BTCUSDT",
        "fds stats BTCUSDT -k 3",
        "fds stats BTCUSDT --last 5000 --json",
    ),
    inspect: (
        "fds inspect --data-dir /var/lib/fds",
        "FDS_DATA_DIR=/var/lib/fds fds inspect --json",
    ),
    verify: (
        "fds verify --data-dir /var/lib/fds",
        "fds verify BTCUSDT --data-dir /var/lib/fds",
    ),
    export: (
        "fds export BTCUSDT --to btcusdt.parquet --data-dir /var/lib/fds",
        "fds export BTCUSDT --to last.csv --last 1000000",
        "FDS_DATA_DIR=/var/lib/fds fds export BTCUSDT --to btcusdt.npy --force",
    ),
    doctor: (
        "fds doctor",
        "fds doctor --data-dir /var/lib/fds --workers 2",
        "fds doctor --json",
    ),
}
for _command, _examples in _COMMANDS.items():
    app.command(
        cls=Command,
        help=paragraphs(_command.__doc__),
        epilog=examples(*_examples),
        context_settings={"allow_extra_args": _command is verify},
    )(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"financial-data-service {__version__}")
        raise typer.Exit


def _fds(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            metavar="",
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Exact min, max, last, avg and var over the last 10 to 100,000,000 prices of a symbol.

    Start the service with [bold]fds serve[/bold], put prices in with [bold]fds load[/bold], read
    the statistics with [bold]fds stats[/bold]. With a data directory, [bold]fds inspect[/bold],
    [bold]fds verify[/bold] and [bold]fds export[/bold] look at its files, service or no service.
    If something goes wrong, start with [bold]fds doctor[/bold].
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.callback(invoke_without_command=True, help=paragraphs(_fds.__doc__))(_fds)


def main() -> None:
    """Run ``fds`` with the arguments of this process, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A symbol may hold characters which a terminal of another encoding cannot show.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="fds")
