"""What ``fds load`` says of the files that it has read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from financial_data_service.cli.console import counted, output, printable

if TYPE_CHECKING:
    from financial_data_service.cli.price_files.reading import PriceFileReport, Reading
    from financial_data_service.cli.price_files.spool import Spool

__all__ = ["notes_of", "print_dry_run"]

_SHOWN_PRICES = 3


def notes_of(reading: Reading) -> Iterator[str]:
    """Yield a sentence for each thing that a user might not expect."""
    for report in reading.reports:
        if report.is_alias:
            yield f"{report.name} has no column 'price'; its {report.price} is taken."
        if report.is_newest_first:
            yield f"{report.name} is newest first by its {report.time}; it is turned round."
        if report.gaps:
            yield f"{report.name}: {counted(report.gaps, 'row')} without a price left out."


def print_dry_run(reading: Reading) -> None:
    """Print what would be loaded."""
    console = output()
    for report in reading.reports:
        console.print(printable(_described(report)), soft_wrap=True)
    for symbol, spool in reading.spools.items():
        console.print(
            printable(f"{symbol}: {counted(len(spool), 'price')}, {_ends(spool)}."), soft_wrap=True
        )
    console.print("Nothing was stored (--dry-run).")


def _described(report: PriceFileReport) -> str:
    parts = [report.form, f"prices from {report.price}"]
    if report.time is None:
        parts.append("no column of times, so the order is that of the file")
    else:
        order = "newest first, to be turned round" if report.is_newest_first else "oldest first"
        parts.append(f"times from {report.time}, {order}")
    if report.symbol is not None:
        parts.append(f"symbols from {report.symbol}")
    parts.append(counted(report.rows, "row"))
    parts.append(f"{counted(report.gaps, 'gap')} left out" if report.gaps else "no gaps")
    return f"{report.name}: {'; '.join(parts)}."


def _ends(spool: Spool) -> str:
    """Describe the first and the last prices."""
    shown = min(_SHOWN_PRICES, len(spool))
    first = ", ".join(repr(float(each)) for each in spool.read(0, shown))
    last = ", ".join(repr(float(each)) for each in spool.read(len(spool) - shown, shown))
    return f"first {first}; last {last}"
