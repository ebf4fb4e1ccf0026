"""``fds load``: store the prices of a file in the service.

Row *i* of the file is price ``base + i`` of the symbol, and every batch carries its
``from_sequence``. So a load may be interrupted anywhere and repeated: the service compares the
stored prices with the file, and adds the rest.

Rows that have left the service's window can no longer be compared. A repeated load skips them.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from financial_data_service.cli.console import (
    CliError,
    UsageError,
    counted,
    output,
    print_error,
    printable,
    rate,
    sentence_of,
)
from financial_data_service.cli.options import DEFAULT_URL, Column, Url, check_symbol, connect
from financial_data_service.errors import (
    FdsError,
    InvalidBatchError,
    SequenceConflictError,
    ServiceError,
    ServiceUnavailableError,
)

if TYPE_CHECKING:
    from financial_data_service.cli.price_files import PriceFile
    from financial_data_service.cli.progress import LoadProgress
    from financial_data_service.client import Client

__all__ = ["load"]

BATCH_SIZE = 10_000
EXIT_INTERRUPTED = 130
RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class LoadArguments:
    """The arguments of the command."""

    file: str
    symbol: str
    column: str | None
    url: str
    append: bool
    from_sequence: int | None
    batch_size: int

    def resume_command(self, base: int) -> str:
        """Return the command that continues this load, whose row 0 is price ``base``."""
        words = ["fds", "load", self.file, "--symbol", self.symbol]
        if self.column is not None:
            words += ["--column", self.column]
        if self.append or self.from_sequence is not None:
            words += ["--from-sequence", str(base)]
        if self.url != DEFAULT_URL:
            words += ["--url", self.url]
        if self.batch_size != BATCH_SIZE:
            words += ["--batch-size", str(self.batch_size)]
        return shlex.join(words)


class Transfer:
    """The transfer of the rows of one file to one symbol.

    Invariant: rows 0 … ``rows`` - 1 of the file are stored, or were and have left the window.
    """

    def __init__(self, service: Client, arguments: LoadArguments) -> None:
        self._service = service
        self._arguments = arguments
        state = next((each for each in service.symbols() if each.symbol == arguments.symbol), None)
        self.batch_size = min(arguments.batch_size, service.limits().batch_max)
        """Prices sent at once."""
        self.sequence = state.sequence if state else 0
        """Number of prices ever appended to the symbol."""
        self.base = arguments.from_sequence or (self.sequence if arguments.append else 0)
        """Number of prices appended to the symbol before row 0 of the file."""
        oldest = state.sequence - state.values if state else 0
        self.to_skip = max(0, oldest - self.base)
        """Leading rows which the service can no longer compare."""
        self.skipped = self.already_stored = self.added = 0
        self.is_started = False

    @property
    def rows(self) -> int:
        """Number of processed rows of the file."""
        return self.skipped + self.already_stored + self.added

    def skip(self, prices: Iterator[float], rows_max: int) -> bool:
        """Skip some of the rows that can no longer be compared; return whether there were any."""
        rows_max = min(rows_max, self.to_skip - self.skipped)
        rows = sum(1 for _ in islice(prices, rows_max))
        self.skipped += rows
        return rows > 0

    def send(self, batch: list[float]) -> None:
        """Store the next rows of the file."""
        self.is_started = True
        start = self.base + self.rows
        try:
            receipt = self._service.add_batch(self._arguments.symbol, batch, start)
        except ServiceUnavailableError:
            raise
        except (InvalidBatchError, ServiceError) as error:
            if isinstance(error, ServiceError) and isinstance(error, SequenceConflictError):
                raise self._explained(error.detail, error.sequence) from None
            rows = f"Rows {self.rows + 1:,} to {self.rows + len(batch):,} of {self._arguments.file}"
            raise CliError(f"{rows} cannot be stored: {sentence_of(error)}") from None
        self.sequence = receipt.sequence
        self.added += receipt.added
        self.already_stored += len(batch) - receipt.added

    def _explained(self, reason: str, sequence: int) -> CliError:
        symbol, file = self._arguments.symbol, self._arguments.file
        start = self.base + self.rows
        if sequence >= start:
            way_out = (
                "Another program adds prices to it."
                if self._arguments.append or self.rows > self.skipped
                else "To put the file's prices after them, add --append."
            )
            return NotResumableError(
                f"{symbol} holds other prices than {file} from row {self.rows + 1:,} on "
                f"({reason}). {way_out}"
            )
        if self.rows:
            return NotResumableError(
                f"{symbol} held {counted(start, 'price')} and now holds {sequence:,}: the "
                "service was restarted or the symbol deleted. Load the file again from its start."
            )
        return NotResumableError(
            f"--from-sequence {start:,} leaves a gap: {symbol} holds {counted(sequence, 'price')}."
        )

    def state(self) -> str:
        """Describe the processed rows: ``2,000 already stored, 1 added``."""
        parts = [
            (self.skipped, "skipped since they have left the service's window"),
            (self.already_stored, "already stored"),
        ]
        known = [f"{count:,} {fate}" for count, fate in parts if count]
        return ", ".join([*known, f"{self.added:,} added"])


class NotResumableError(CliError):
    """The load cannot be resumed by running it again."""


def load(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="CSV (.gz too) or Parquet; - reads CSV from standard input."
        ),
    ],
    symbol: Annotated[
        str,
        typer.Option(
            "--symbol",
            "-s",
            metavar="SYMBOL",
            callback=check_symbol,
            help="Symbol to store the prices for.",
        ),
    ],
    column: Column = None,
    url: Url = DEFAULT_URL,
    append: Annotated[
        bool,
        typer.Option(
            "--append", metavar="", help="Put the file's prices after those the symbol has."
        ),
    ] = False,
    from_sequence: Annotated[
        int | None,
        typer.Option(
            "--from-sequence",
            min=0,
            metavar="N",
            help="The first row of the file is price N of the symbol, counted from 0.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, metavar="N", help="Prices sent at once.")
    ] = BATCH_SIZE,
) -> None:
    """Load the prices of a file into the service, oldest first.

    The command may be interrupted (Ctrl-C) and run again. The service compares its prices with the
    file and adds only the rest. The first row of the file is the symbol's first price, unless
    --append or --from-sequence is given.
    """
    if append and from_sequence is not None:
        raise UsageError("--append and --from-sequence exclude each other: give one of them.")
    run(LoadArguments(file, symbol, column, url, append, from_sequence, batch_size))


def run(arguments: LoadArguments) -> None:
    """Load the file and print the result."""
    from financial_data_service.cli.price_files import open_prices
    from financial_data_service.client import Client

    transfer = None
    try:
        with (
            open_prices(arguments.file, arguments.column) as prices,
            connect(Client, arguments.url, RETRY_SECONDS) as service,
        ):
            transfer = Transfer(service, arguments)
            started = time.perf_counter()
            _transfer(prices, transfer, arguments)
            _summarise(prices, transfer, arguments, time.perf_counter() - started)
    except KeyboardInterrupt:
        print_error(f"Interrupted{_resumption(transfer, arguments) or '; nothing was stored.'}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except NotResumableError:
        raise
    except (CliError, ServiceError) as error:
        raise CliError(_ending(error, transfer, arguments)) from error


def _transfer(prices: PriceFile, transfer: Transfer, arguments: LoadArguments) -> None:
    from financial_data_service.cli.progress import LoadProgress

    rows = iter(prices)
    with LoadProgress(arguments.symbol, prices.size) as progress:
        while transfer.skip(rows, transfer.batch_size):
            _show(progress, prices, transfer)
        for batch in _batches(rows, transfer.batch_size):
            transfer.send(batch)
            _show(progress, prices, transfer)


def _show(progress: LoadProgress, prices: PriceFile, transfer: Transfer) -> None:
    progress.show(prices.position, transfer.rows, transfer.rows - transfer.skipped)


def _batches(prices: Iterator[float], size: int) -> Iterator[list[float]]:
    while batch := list(islice(prices, size)):
        yield batch


def _summarise(
    prices: PriceFile, transfer: Transfer, arguments: LoadArguments, elapsed_seconds: float
) -> None:
    if not transfer.rows:
        raise CliError(f"{prices.name} holds no prices.")
    sent = transfer.rows - transfer.skipped
    line = (
        f"{arguments.symbol}: {transfer.state()} from {prices.name}, {prices.column}, "
        f"in {elapsed_seconds:.2f} s{rate(sent, elapsed_seconds)}; "
        f"{counted(transfer.sequence, 'price')} in all."
    )
    if not sent:
        line += " None could be compared; --append would add them after the stored prices."
    output().print(printable(line), soft_wrap=True)


def _ending(error: FdsError, transfer: Transfer | None, arguments: LoadArguments) -> str:
    """Return the sentence for a failure, and how to resume if something may be stored."""
    sentence = sentence_of(error)
    resumption = _resumption(transfer, arguments)
    is_stored = transfer is not None and (
        transfer.rows or isinstance(error, ServiceUnavailableError)
    )
    if not (is_stored and resumption):
        return sentence
    if isinstance(error, ServiceUnavailableError):
        # Acknowledged prices are there if the service still runs, and lost if it has ended.
        resumption += " If the service was restarted, load the file again from its start."
        resumption = resumption.replace("are stored.", "had been stored.")
    return f"{sentence.removesuffix('.')}. Broken off{resumption}"


def _resumption(transfer: Transfer | None, arguments: LoadArguments) -> str | None:
    """Describe how far the load came and how to resume it, or return None."""
    if transfer is None or not transfer.is_started:
        return None
    again = "the same input and " if arguments.file == "-" else ""
    return (
        f" after row {transfer.rows:,}; all prices up to it are stored. "
        f"To go on: {again}{arguments.resume_command(transfer.base)}"
    )
