"""Progress bars that show rows or prices, rate and remaining time.

They are shown only on a terminal.
"""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from financial_data_service.cli.console import output, printable

__all__ = ["LoadProgress", "PriceProgress"]


class LoadProgress:
    """A progress bar for the duration of a ``with`` block.

    Parameters
    ----------
    title : str
        What is loaded.
    size : int or None
        Length of the file in bytes or rows; None shows a bar without an end.
    """

    def __init__(self, title: str, size: int | None) -> None:
        console = output()
        end = [TaskProgressColumn(), TimeRemainingColumn()] if size is not None else []
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *end,
            TextColumn("{task.fields[count]}", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(printable(title), total=size, count="")
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, position: int, rows: int, sent: int) -> None:
        """Move the bar to ``position`` of the file; of ``rows``, ``sent`` went to the service."""
        rate = sent / (time.perf_counter() - self._started)
        count = f"{rows:,} prices, {rate:,.0f}/s"
        self._progress.update(self._task, completed=position, count=count)


class PriceProgress:
    """A progress bar of prices on stderr, for the duration of a ``with`` block.

    Parameters
    ----------
    title : str
        The task, or the symbol.
    total : int
        Number of prices to process.
    """

    def __init__(self, title: str, total: int) -> None:
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(printable(title), total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, prices: int) -> None:
        """Advance the bar by a number of prices."""
        self._progress.update(self._task, advance=prices)
