"""``fds verify``: recompute the stored summaries and the window statistics, and compare."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from financial_data_service.cli.console import counted, output, print_error, printable
from financial_data_service.cli.load import EXIT_INTERRUPTED
from financial_data_service.cli.options import DataDirectory as DataDirectoryOption
from financial_data_service.cli.options import directory_and_symbol

if TYPE_CHECKING:
    from financial_data_service.storage.reader import DataDirectory, SymbolReader

__all__ = ["verify"]

SHOWN_MAX = 10
"""Maximum number of faults that are printed per symbol."""


def verify(
    context: typer.Context,
    symbol: Annotated[
        str | None,
        typer.Argument(metavar="SYMBOL", help="Symbol to verify; all without it."),
    ] = None,
    data_dir: DataDirectoryOption = None,
) -> None:
    """Recompute every summary and every window of a data directory from its prices, and compare.

    It takes about 20 ns a price, two seconds for 100,000,000. It adds the prices one by one, with
    other arithmetic than the service. min, max and last must be the same, sums exact, avg within 1
    unit in the last place, var within 1e-14.

    A changed price is not found if nothing contradicts it. That is so for the newest prices of an
    incomplete block, and for changes before an unclean end, after which all summaries are
    recomputed.

    The command only reads. It may run while a service uses the directory. If something differs, the
    exit code is 1, and stderr names level, block and field, the stored and the expected value.
    """
    # The directory may also be given before the symbol. Then the second argument is in
    # `context.args`.
    words = context.args if symbol is None else [symbol, *context.args]
    source = context.get_parameter_source("data_dir")
    is_option = source is not None and source.name == "COMMANDLINE"
    data_dir, symbol = directory_and_symbol(words, data_dir, is_option=is_option)
    try:
        from financial_data_service.engine.compile_notice import announce_compilation
        from financial_data_service.engine.running_stats import warm_up
        from financial_data_service.storage import reader

        with announce_compilation(_note), reader.open(data_dir) as data:
            warm_up()  # Otherwise the first symbol would seem slower.
            verified = [_verify(data[symbol])] if symbol is not None else list(_verify_all(data))
    except KeyboardInterrupt:
        print_error("Interrupted.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not all(verified):
        raise typer.Exit(1)
    if not verified:
        output().print(printable(f"{data_dir}: no symbols."))


def _note(sentence: str) -> None:
    """Print a notice, but only on a terminal.

    In the output of a cron job it would look like an error.
    """
    if sys.stderr.isatty():
        print_error(sentence)


def _verify_all(data: DataDirectory) -> Iterator[bool]:
    """Verify one symbol after the other. A rejected file counts as failed."""
    from financial_data_service.errors import SymbolFileError, SymbolNotFoundError
    from financial_data_service.storage.identification import read_header
    from financial_data_service.storage.trust import ring_files

    for path in ring_files(data.path):
        try:
            yield _verify(data[read_header(path).symbol])
        except (SymbolNotFoundError, FileNotFoundError):  # Deleted meanwhile.
            continue
        except SymbolFileError as error:
            print_error(f"{error}.")
            yield False


def _verify(reader: SymbolReader) -> bool:
    """Verify one symbol, and print the result in a sentence."""
    from financial_data_service.cli.progress import PriceProgress
    from financial_data_service.engine.ring_view import RingView
    from financial_data_service.errors import OverwrittenError
    from financial_data_service.verify.levels import verify_levels, work_of_levels
    from financial_data_service.verify.windows import WindowCheck, check_windows

    view = RingView(reader.symbol, reader.ring)
    started = time.perf_counter()
    checks: list[WindowCheck] = []
    faults: list[str] = []
    with PriceProgress(reader.symbol, work_of_levels(view) + view.longest_window) as progress:
        levels = verify_levels(view, progress.advance)
        try:
            checks = check_windows(view, advance=progress.advance)
        except OverwrittenError as error:
            faults.append(f"the windows could not be compared. {error}, again and again")
    elapsed_seconds = time.perf_counter() - started
    faults = [
        *map(str, levels.wrong),
        *(str(check) for check in checks if check.differing),
        *faults,
    ]
    said = (
        f"{counted(levels.blocks, 'summary')} on {counted(view.geometry.levels, 'level')} and "
        f"{counted(len(checks), 'window')}"
    )
    for fault in faults[:SHOWN_MAX]:
        print_error(f"{reader.symbol}: {fault}.")
    if len(faults) > SHOWN_MAX:
        print_error(f"{reader.symbol}: and {len(faults) - SHOWN_MAX:,} more.")
    if faults:
        print_error(f"{reader.symbol}: {counted(len(faults), 'fault')} in {said}.")
        return False
    line = (
        f"{reader.symbol}: {said} agree with the prices, {view.sequence - view.oldest:,} held of "
        f"{view.sequence:,} ({elapsed_seconds:.2f} s)."
    )
    output().print(printable(line), soft_wrap=True)
    return True
