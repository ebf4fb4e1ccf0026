"""The order of the rows of one symbol by their times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from financial_data_service.cli.console import CliError

__all__ = ["RowOrder"]

_WAY_ON = "Sort the file by time, or take the rows as they stand with --order file"


class RowOrder:
    """Whether rows come oldest first or newest first."""

    def __init__(self) -> None:
        self.direction = 0
        """1: oldest first, -1: newest first, 0: not known yet, since all times are equal."""
        self._first: Any = None
        self._last: Any = None
        self._last_place = ""
        self._newest_before: Any = None

    def check(self, name: str, times: npt.NDArray[Any], place: Callable[[int], str]) -> None:
        """Check the next rows.

        Raises
        ------
        CliError
            When they are neither all oldest first nor all newest first.
        """
        if not len(times):
            return
        before = times[:-1] if self._last is None else np.concatenate(([self._last], times[:-1]))
        after = times[1:] if self._last is None else times
        rises, falls = after > before, after < before
        if not self.direction:
            changed = np.flatnonzero(rises | falls)
            if len(changed):
                self.direction = 1 if rises[changed[0]] else -1
        wrong = falls if self.direction == 1 else rises
        if self.direction and wrong.any():
            row = int(np.argmax(wrong)) + (self._last is None)
            previous = place(row - 1) if row else self._last_place
            self._refuse(name, place(row), previous)
        self._first = times[0] if self._first is None else self._first
        self._last, self._last_place = times[-1], place(len(times) - 1)

    def _refuse(self, name: str, place: str, previous: str) -> None:
        how = "earlier" if self.direction == 1 else "later"
        order = "oldest" if self.direction == 1 else "newest"
        raise CliError(
            f"{name}, {place}: its time is {how} than that of {previous}, and the rows before it "
            f"are {order} first. {_WAY_ON}."
        )

    def end_file(self, name: str) -> bool:
        """End the file; return whether its rows are newest first.

        Raises
        ------
        CliError
            When the file begins before the end of the file before it.
        """
        if self._last is None:
            return False
        is_reversed = self.direction == -1
        oldest, newest = (self._last, self._first) if is_reversed else (self._first, self._last)
        if self._newest_before is not None and oldest < self._newest_before:
            raise CliError(
                f"{name} begins before the end of the file before it. Give the files in order of "
                "time, or take them as they stand with --order file."
            )
        self._newest_before = newest
        self.direction, self._first, self._last = 0, None, None
        return is_reversed
