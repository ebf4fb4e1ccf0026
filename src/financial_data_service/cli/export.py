"""``fds export``: write the prices of a symbol to a file for other programs.

Prices are read in parts, oldest first. Each part is copied, and then checked for overwritten
prices. So the file contains the prices of one window, even if a service appends prices during the
export. The file gets its final name when it is complete.
"""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from financial_data_service.cli.console import (
    CliError,
    UsageError,
    output,
    print_error,
    printable,
    rate,
)
from financial_data_service.cli.load import EXIT_INTERRUPTED
from financial_data_service.cli.options import DataDirectory, check_symbol, required

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from financial_data_service.storage.reader import SymbolReader

__all__ = ["export"]


def export(
    symbol: Annotated[
        str,
        typer.Argument(metavar="SYMBOL", callback=check_symbol, help="Whose prices to export."),
    ],
    to: Annotated[
        Path,
        typer.Option("--to", "-o", metavar="FILE", help="File to write: .csv, .npy or .parquet."),
    ],
    data_dir: DataDirectory = None,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            "-n",
            min=1,
            metavar="N",
            help="Only the last N prices; without it, those of the largest window.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", metavar="", help="Overwrite FILE if it is there.")
    ] = False,
) -> None:
    """Write the prices of a symbol to a file, oldest first.

    CSV and Parquet have two columns: sequence, the number of the price counted from 0 for the first
    ever appended, and price. NumPy's .npy has only the prices. Every price reads back as the same
    float64. fds load reads CSV and Parquet.

    The command only reads. It may run while a service uses the directory.
    """
    data_dir = required(data_dir)
    writer = _writer_for(to)
    _must_be_free(to, force=force)
    try:
        from financial_data_service.storage import reader

        with _interrupted_by_signals(), reader.open(data_dir) as data:
            started = time.perf_counter()
            begin, end = _transfer(data[symbol], to, writer, last, force=force)
    except KeyboardInterrupt:
        print_error("Interrupted; nothing was written.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    elapsed_seconds = time.perf_counter() - started
    line = (
        f"{symbol}: prices {begin:,} to {end - 1:,} written to {to} in {elapsed_seconds:.2f} s"
        f"{rate(end - begin, elapsed_seconds)}."
    )
    output().print(printable(line), soft_wrap=True)


def _transfer(
    reader: SymbolReader, to: Path, writer: type[Writer], last: int | None, *, force: bool
) -> tuple[int, int]:
    """Write the prices to the file; return the first number, and the one after the last."""
    from financial_data_service.cli.progress import PriceProgress
    from financial_data_service.errors import OverwrittenError

    length = reader.largest_window if last is None else last
    if length > reader.largest_window:
        raise UsageError(f"--last must be at most {reader.largest_window}, got {length}.")
    end = reader.sequence
    begin = max(0, end - length)
    try:
        with (
            PriceProgress(reader.symbol, end - begin) as progress,
            _put_in_place(to, force=force) as file,
            closing(writer(file, end - begin)) as written,
        ):
            for first in range(begin, end, writer.at_once):
                part = reader.prices(first, min(first + writer.at_once, end), copy=True)
                written.write(first, part)
                progress.advance(len(part))
    except OverwrittenError:
        raise CliError(
            f"Newer prices of {reader.symbol} came faster than the older ones could be written. "
            "Try again, or take fewer with --last."
        ) from None
    return begin, end


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like Ctrl-C: the incomplete file is removed.

    Ignored signals (``nohup``) stay ignored.
    """
    before: dict[int, Any] = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _must_be_free(to: Path, *, force: bool) -> None:
    if to.is_dir():
        raise CliError(f"Cannot write {to}: is a directory.")
    if to.exists() and not force:
        raise CliError(f"{to} is there already. To overwrite it, add --force.")


@contextmanager
def _put_in_place(to: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces the target if all goes well.

    If the target is a symbolic link, the file that it points to is replaced.
    """
    wanted = Path(os.path.realpath(to))
    unfinished = wanted.with_name(f".{wanted.name}.{os.getpid()}.part")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _must_be_free(to, force=force)
        unfinished.replace(wanted)
    except OSError as error:
        if error.errno is None:  # One of this package's errors.
            raise
        raise CliError(f"Cannot write {to}: {os.strerror(error.errno).lower()}.") from error
    finally:
        with suppress(OSError):  # If it could not be created, it often cannot be removed either.
            unfinished.unlink()


class Writer(ABC):
    """Writes prices to a file in one format, part by part.

    Parameters
    ----------
    file : binary file
        Open for writing.
    count : int
        Total number of prices.

    Attributes
    ----------
    at_once : int
        Best number of prices per part.
    """

    at_once = 1 << 20

    def __init__(self, file: IO[bytes], count: int) -> None:
        self._file = file

    @abstractmethod
    def write(self, first: int, prices: npt.NDArray[np.float64]) -> None:
        """Write prices; the first has number `first`."""

    def close(self) -> None:  # noqa: B027 - two of the three formats have no footer
        """Write the footer; the file stays open."""


class CsvWriter(Writer):
    """CSV with the columns ``sequence,price``.

    Each price is written as the shortest decimal that reads back as the same double.
    """

    at_once = 1 << 16  # some 10 MB of Python objects at a time

    def __init__(self, file: IO[bytes], count: int) -> None:
        super().__init__(file, count)
        file.write(b"sequence,price\n")

    def write(self, first: int, prices: npt.NDArray[np.float64]) -> None:
        """Write a line per price."""
        import msgspec

        # A JSON array of pairs is CSV, apart from the separators. Encoding it takes a fifth of the
        # time of formatting each number in Python.
        pairs = msgspec.json.encode(list(enumerate(prices.tolist(), first)))
        self._file.write(pairs[2:-2].replace(b"],[", b"\n"))
        self._file.write(b"\n")


class NpyWriter(Writer):
    """The array, as ``numpy.save`` writes it."""

    def __init__(self, file: IO[bytes], count: int) -> None:
        super().__init__(file, count)
        from numpy.lib import format as npy

        header = {"descr": "<f8", "fortran_order": False, "shape": (count,)}
        npy.write_array_header_1_0(file, header)

    def write(self, first: int, prices: npt.NDArray[np.float64]) -> None:
        """Write the bytes."""
        self._file.write(prices.data)


class ParquetWriter(Writer):
    """Columns ``sequence`` (int64) and ``price`` (float64), one row group per part."""

    def __init__(self, file: IO[bytes], count: int) -> None:
        super().__init__(file, count)
        import pyarrow as arrow
        from pyarrow import parquet

        self._table: Any = arrow.table
        schema = arrow.schema([("sequence", arrow.int64()), ("price", arrow.float64())])
        self._parquet = parquet.ParquetWriter(
            file,
            schema,
            compression="zstd",
            # With these encodings, consecutive sequences take almost no space, and repeated prices
            # take little.
            use_dictionary=["price"],
            column_encoding={"sequence": "DELTA_BINARY_PACKED"},
        )

    def write(self, first: int, prices: npt.NDArray[np.float64]) -> None:
        """Write a row group."""
        import numpy as np

        columns = {"sequence": np.arange(first, first + len(prices)), "price": prices}
        self._parquet.write_table(self._table(columns))

    def close(self) -> None:
        """Write the footer."""
        self._parquet.close()


_WRITERS: dict[str, type[Writer]] = {
    ".csv": CsvWriter,
    ".npy": NpyWriter,
    ".parquet": ParquetWriter,
}


def _writer_for(to: Path) -> type[Writer]:
    """Return the writer for a file name, after checking that it is available."""
    writer = _WRITERS.get(to.suffix.lower())
    if writer is None:
        known = ", ".join(_WRITERS)
        raise UsageError(f"Expected --to a file that ends in one of {known}, got {str(to)!r}.")
    if writer is ParquetWriter:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise CliError(
                "Writing Parquet needs pyarrow: make install in a checkout, or pip install pyarrow."
            ) from error
    return writer
