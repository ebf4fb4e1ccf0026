"""``fds load``: store the prices of files in the service.

All files are read and checked first, into a temporary file of float64 for each symbol. Row *i* of
the files is price ``base + i`` of the symbol, and every batch carries its ``from_sequence``. So a
load may be interrupted anywhere and repeated: the service compares the stored prices with the
files, and adds the rest.

Rows that have left the service's window can no longer be compared. A repeated load skips them.
"""

from __future__ import annotations

import os
import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from financial_data_service.cli.load_options import (
    Append,
    BatchSize,
    Decimal,
    DryRun,
    FromSequence,
    GapChoice,
    Gaps,
    LoadColumn,
    LoadSymbol,
    Member,
    Order,
    PriceFiles,
    RowOrderChoice,
    SkipLines,
    SymbolColumn,
    Thousands,
)
from financial_data_service.cli.load_report import notes_of, print_dry_run
from financial_data_service.cli.options import DEFAULT_URL, Url, connect
from financial_data_service.cli.price_files.numbers import NumberForm
from financial_data_service.cli.price_files.options import STANDARD_INPUT, ReadingOptions
from financial_data_service.errors import (
    FdsError,
    InvalidBatchError,
    SequenceConflictError,
    ServiceError,
    ServiceUnavailableError,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from financial_data_service.cli.price_files.reading import Reading
    from financial_data_service.cli.price_files.sources import Bytes, PriceSource
    from financial_data_service.cli.price_files.spool import Spool
    from financial_data_service.client import Client

__all__ = ["load"]

BATCH_SIZE = 10_000
EXIT_INTERRUPTED = 130
RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class LoadArguments:
    """The arguments of the command."""

    files: list[str]
    symbol: str | None
    options: ReadingOptions
    member: str | None
    url: str
    append: bool
    from_sequence: int | None
    batch_size: int

    @property
    def name(self) -> str:
        """What sentences call the files."""
        if self.files == [STANDARD_INPUT]:
            return "the standard input"
        return self.files[0] if len(self.files) == 1 else f"{len(self.files)} files"

    def resume_command(self, base: int) -> str:
        """Return the command that continues this load, whose row 0 is price ``base``."""
        words = ["fds", "load", *self.files]
        if self.symbol is not None:
            words += ["--symbol", self.symbol]
        words += self._reading_words()
        if self.append or self.from_sequence is not None:
            words += ["--from-sequence", str(base)]
        if self.url != DEFAULT_URL:
            words += ["--url", self.url]
        if self.batch_size != BATCH_SIZE:
            words += ["--batch-size", str(self.batch_size)]
        return shlex.join(words)

    def _reading_words(self) -> list[str]:
        options, form = self.options, self.options.number_form
        given = [
            ("--column", options.column),
            ("--symbol-column", options.symbol_column),
            ("--member", self.member),
            ("--decimal", None if form.decimal == "." else form.decimal),
            ("--thousands", form.thousands),
            ("--gaps", "skip" if options.skips_gaps else None),
            ("--skip-lines", str(options.skip_lines) if options.skip_lines else None),
            ("--order", "file" if options.keeps_file_order else None),
        ]
        return [word for option, value in given if value is not None for word in (option, value)]


class Transfer:
    """The transfer of the rows of all files to one symbol.

    Invariant: rows 0 … ``rows`` - 1 of the files are stored, or were and have left the window.
    """

    def __init__(self, service: Client, arguments: LoadArguments, symbol: str) -> None:
        self._service = service
        self._arguments = arguments
        self.symbol = symbol
        """The symbol they are stored for."""
        state = next((each for each in service.symbols() if each.symbol == symbol), None)
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

    def skip(self, rows: int) -> None:
        """Leave out leading rows, since they can no longer be compared."""
        self.skipped = min(rows, self.to_skip)

    def send(self, batch: npt.NDArray[np.float64]) -> None:
        """Store the next rows of the file."""
        self.is_started = True
        start = self.base + self.rows
        try:
            receipt = self._service.add_batch(self.symbol, batch, start)
        except ServiceUnavailableError:
            raise
        except (InvalidBatchError, ServiceError) as error:
            if isinstance(error, ServiceError) and isinstance(error, SequenceConflictError):
                raise self._explained(error.detail, error.sequence) from None
            rows = f"Rows {self.rows + 1:,} to {self.rows + len(batch):,} of {self._arguments.name}"
            raise CliError(f"{rows} cannot be stored: {sentence_of(error)}") from None
        self.sequence = receipt.sequence
        self.added += receipt.added
        self.already_stored += len(batch) - receipt.added

    def _explained(self, reason: str, sequence: int) -> CliError:
        symbol, file = self.symbol, self._arguments.name
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
    files: PriceFiles,
    symbol: LoadSymbol = None,
    column: LoadColumn = None,
    symbol_column: SymbolColumn = None,
    order: Order = RowOrderChoice.TIME,
    gaps: Gaps = GapChoice.REFUSE,
    decimal: Decimal = ".",
    thousands: Thousands = None,
    skip_lines: SkipLines = 0,
    member: Member = None,
    dry_run: DryRun = False,
    url: Url = DEFAULT_URL,
    append: Append = False,
    from_sequence: FromSequence = None,
    batch_size: BatchSize = BATCH_SIZE,
) -> None:
    """Load the prices of files into the service, oldest first.

    All files are read and checked before anything is stored. A file whose rows are newest first is
    turned round; one in no order of time is refused.

    The command may be interrupted (Ctrl-C) and run again. The service compares its prices with the
    files and adds only the rest. The first row of the files is the symbol's first price, unless
    --append or --from-sequence is given.
    """
    if append and from_sequence is not None:
        raise UsageError("--append and --from-sequence exclude each other: give one of them.")
    if symbol is None and (append or from_sequence is not None):
        raise UsageError("--append and --from-sequence need --symbol: each symbol has its own end.")
    if decimal == thousands:
        raise UsageError(f"--decimal and --thousands cannot both be {decimal!r}.")
    options = ReadingOptions(
        column,
        symbol_column,
        NumberForm(decimal, thousands),
        skips_gaps=gaps is GapChoice.SKIP,
        skip_lines=skip_lines,
        keeps_file_order=order is RowOrderChoice.FILE,
    )
    arguments = LoadArguments(
        files, symbol, options, member, url, append, from_sequence, batch_size
    )
    run(arguments, is_dry=dry_run)


def run(arguments: LoadArguments, *, is_dry: bool = False) -> None:
    """Load the files and print the result."""
    transfer = None
    try:
        with ExitStack() as stack:
            reading = _read(arguments, stack)
            if is_dry:
                print_dry_run(reading)
                return
            service = stack.enter_context(_connected(arguments))
            for symbol, spool in reading.spools.items():
                transfer = Transfer(service, arguments, symbol)
                started = time.perf_counter()
                _transfer(spool, transfer)
                _summarise(reading, transfer, arguments, time.perf_counter() - started)
    except KeyboardInterrupt:
        print_error(f"Interrupted{_resumption(transfer, arguments) or '; nothing was stored.'}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except NotResumableError:
        raise
    except (CliError, ServiceError) as error:
        raise CliError(_ending(error, transfer, arguments)) from error


def _connected(arguments: LoadArguments) -> Client:
    from financial_data_service.client import Client

    return connect(Client, arguments.url, RETRY_SECONDS)


def _read(arguments: LoadArguments, stack: ExitStack) -> Reading:
    """Read all files; nothing is stored until the last row is known to be good."""
    from financial_data_service.cli.price_files.reading import Reading
    from financial_data_service.cli.price_files.sources import find_sources
    from financial_data_service.cli.progress import LoadProgress

    sources = find_sources(arguments.files, arguments.member)
    reading = Reading(stack, arguments.options, arguments.symbol)
    sizes = _sizes(sources)
    with LoadProgress("Reading", sum(sizes.values()) if sizes else None) as progress:
        done = 0
        for index, source in enumerate(sources):

            def show(content: Bytes, done: int = done) -> None:
                progress.show(done + content.position, reading.rows, reading.rows)

            reading.read(source, show)
            is_last_member = index + 1 == len(sources) or sources[index + 1].path != source.path
            done += sizes.get(source.path, 0) if is_last_member else 0
    if not reading.rows:
        raise CliError(f"{arguments.name} holds no prices.")
    for note in notes_of(reading):
        print_error(note)
    return reading


def _sizes(sources: list[PriceSource]) -> dict[str, int]:
    """Return the size of each file in bytes, or nothing if one has no end in sight."""
    paths = {source.path for source in sources}
    if not all(os.path.isfile(path) for path in paths):
        return {}
    return {path: os.path.getsize(path) for path in paths}


def _transfer(spool: Spool, transfer: Transfer) -> None:
    from financial_data_service.cli.progress import LoadProgress

    transfer.skip(len(spool))
    with LoadProgress(transfer.symbol, len(spool)) as progress:
        for batch in spool.batches(transfer.skipped, transfer.batch_size):
            transfer.send(batch)
            progress.show(transfer.rows, transfer.rows, transfer.rows - transfer.skipped)


def _summarise(
    reading: Reading, transfer: Transfer, arguments: LoadArguments, elapsed_seconds: float
) -> None:
    sent = transfer.rows - transfer.skipped
    columns = {report.price for report in reading.reports}
    column = f", {columns.pop()}" if len(columns) == 1 else ""
    line = (
        f"{transfer.symbol}: {transfer.state()} from {arguments.name}{column}, "
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
    again = "the same input and " if arguments.files == [STANDARD_INPUT] else ""
    return (
        f" after row {transfer.rows:,}; all prices up to it are stored. "
        f"To go on: {again}{arguments.resume_command(transfer.base)}"
    )
