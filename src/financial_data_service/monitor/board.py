"""What the monitor knows about the service: windows, histories, the state.

The board does no I/O. The caller passes the current time as an argument. One thread feeds it,
another samples it, and any thread may call :meth:`Board.snapshot`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from financial_data_service.client import Limits, RefusedFile, Symbol, Update
from financial_data_service.monitor.history import History
from financial_data_service.monitor.snapshot import Snapshot, SymbolSnapshot

__all__ = ["Board"]

SET_SECONDS_MAX = 0.05
"""Longest time for which windows of a symbol wait for the others of their update."""

_NO_HISTORY = np.empty((0, 0))


class Board:
    """All that is known about the service. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = Snapshot(symbols=())
        self._symbols: dict[str, SymbolSnapshot] = {}
        self._sets: dict[str, SymbolSnapshot] = {}  # the newest with all windows at one sequence
        self._unset_since: dict[str, float] = {}  # of symbols whose windows differ in sequence
        self._histories: dict[str, History] = {}
        self._counted: tuple[float, float] | None = None  # requests, and the time

    @property
    def is_online(self) -> bool:
        """Whether the service can be reached."""
        return self._state.is_online

    def begin(self, symbols: Iterable[Symbol], limits: Limits) -> None:
        """Record that the monitor is connected, and which symbols and limits the service has.

        Symbols that were deleted meanwhile are removed. The other symbols may have been deleted and
        created again. Until its next update, each is shown in its last known state and is not
        sampled.
        """
        names = {each.symbol for each in symbols}
        with self._lock:
            if limits.largest_window != self._state.largest_window:
                names = set()
            kept = {name: each for name, each in self._symbols.items() if name in names}
            self._symbols = {name: replace(each, is_current=False) for name, each in kept.items()}
            self._sets = {
                name: replace(each, is_current=False)
                for name, each in self._sets.items()
                if name in kept
            }
            self._unset_since.clear()
            self._histories = {name: self._histories[name] for name in kept}
            self._state = replace(
                self._state,
                limits=limits,
                is_online=True,
                problem=None,
                wants_key=False,
                lost_at=None,
            )

    def lose(self, problem: str, now: float, *, wants_key: bool = False) -> None:
        """Record that the service cannot be reached, or rejects this API key.

        The last known state is kept.
        """
        with self._lock:
            self._counted = None
            self._state = replace(
                self._state,
                is_online=False,
                problem=problem,
                wants_key=wants_key,
                lost_at=self._state.lost_at or now,
                request_rate=math.nan,
            )

    def take(self, update: Update, now: float) -> None:
        """Take in an update of a window."""
        name = update.symbol
        with self._lock:
            known = self._symbols.get(name)
            windows = {} if known is None else dict(known.windows)
            windows[update.k or 0] = update
            if known is None:
                self._histories[name] = History(self._state.k_max)
            if known is None or not known.is_current or update.sequence >= known.sequence:
                sequence, last = update.sequence, update.last
            else:
                sequence, last = known.sequence, known.last
            self._symbols[name] = SymbolSnapshot(name, windows, sequence, last, _NO_HISTORY)
            self._note_whether_set(name, now)
            self._state = replace(self._state, updated_at=now)

    def forget(self, name: str) -> None:
        """Remove a symbol that was deleted."""
        with self._lock:
            for known in (self._symbols, self._sets, self._unset_since, self._histories):
                known.pop(name, None)

    def _note_whether_set(self, name: str, now: float) -> None:
        symbol = self._symbols[name]
        sequences = {window.sequence for window in symbol.windows.values()}
        if len(symbol.windows) == self._state.k_max and len(sequences) == 1:
            self._sets[name] = symbol
            self._unset_since.pop(name, None)
        else:
            self._unset_since.setdefault(name, now)

    def _shown(self, name: str, now: float) -> SymbolSnapshot:
        """Return the snapshot of a symbol.

        While an update is incomplete, return the snapshot from before that update.
        """
        is_due = now - self._unset_since.get(name, -math.inf) < SET_SECONDS_MAX
        return self._sets.get(name, self._symbols[name]) if is_due else self._symbols[name]

    def measured(self, requests: float, started_at: float | None, now: float) -> None:
        """Take in how many requests the service has answered, and when it started."""
        with self._lock:
            rate = math.nan
            if self._counted is not None and requests >= self._counted[0]:
                rate = (requests - self._counted[0]) / max(now - self._counted[1], 1e-3)
            self._counted = requests, now
            self._state = replace(self._state, request_rate=rate, started_at=started_at)

    def unmeasured(self) -> None:
        """Record that the service is alive but does not provide metrics now."""
        with self._lock:
            self._state = replace(self._state, request_rate=math.nan)

    def refuses(self, files: Sequence[RefusedFile]) -> None:
        """Take in which files the service cannot serve."""
        with self._lock:
            self._state = replace(self._state, refused=files)

    def sample(self, now: float) -> None:
        """Add a sample to each history. While the service cannot be reached, add a gap."""
        with self._lock:
            for name in self._symbols:
                symbol = self._shown(name, now)
                is_known = self._state.is_online and symbol.is_current
                known = symbol if is_known else None
                self._histories[name].add(now, known, self._state.largest_window)

    def snapshot(self, now: float = math.inf) -> Snapshot:
        """Return all that is known.

        The windows of an update arrive one by one. If `now` (seconds since the epoch) is given, a
        symbol with an incomplete update is returned in its state from before that update, for at
        most `SET_SECONDS_MAX`.
        """
        with self._lock:
            symbols = [
                replace(self._shown(name, now), history=self._histories[name].frozen())
                for name in sorted(self._symbols)
            ]
            return replace(self._state, symbols=symbols)
