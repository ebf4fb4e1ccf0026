"""What is known of the service, from its messages alone: windows, histories, how things stand.

Pure but for a lock: times are given, nothing is asked for. One thread feeds it, another samples it,
any number look at it by :meth:`Board.snapshot`.

A history is a table of samples, :data:`SAMPLES_MAX` of them at most, NaN where nothing was known::

    time | sequence | held | last | rate | decimals | avg std min max of k = 1 | of k = 2 | …
"""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import numpy as np

from financial_data_service.monitor.history import History
from financial_data_service.monitor.snapshot import (
    DECIMALS_MIN,
    Message,
    Snapshot,
    SymbolSnapshot,
    decimals_of_windows,
)

__all__ = ["Board"]

SET_SECONDS_MAX = 0.05
"""That the windows of a symbol wait for the others of their update."""


class Board:
    """What is known of the service. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = Snapshot(symbols=[])
        self._symbols: dict[str, SymbolSnapshot] = {}
        self._sets: dict[str, SymbolSnapshot] = {}  # as each was when its windows were of one price
        self._unset_since: dict[str, float] = {}  # of those whose windows are not
        self._histories: dict[str, History] = {}
        self._decimals: dict[str, int] = {}  # that prices have had since the last sample
        self._counted: tuple[float, float] | None = None  # requests, when

    def begin(self, limits: Message) -> None:
        """Take in the reply of ``GET /symbols``: the service is there.

        Symbols that were deleted meanwhile go. Those that are there may have begun anew: what is
        known of them is shown until their next message, and no sample is made of it.

        Raises
        ------
        KeyError, TypeError, ValueError
            When it is not a reply of the service.
        """
        names = {entry["symbol"] for entry in limits["symbols"]}
        largest_window = int(limits["largest_window"])
        with self._lock:
            if largest_window != self._state.largest_window:
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
            self._decimals = {name: self._decimals[name] for name in kept}
            self._state = replace(
                self._state,
                max_symbols=int(limits["max_symbols"]),
                largest_window=largest_window,
                is_online=True,
                problem=None,
                wants_key=False,
                lost_at=None,
            )

    def lose(self, problem: str, now: float, *, wants_key: bool = False) -> None:
        """Note that the service cannot be reached, or not with this key. What was known stays."""
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

    def take(self, message: Message, now: float) -> None:
        """Take in a message about a window of a symbol."""
        name = message["symbol"]
        with self._lock:
            if message["event"] == "deleted":
                self._forget(name)
                return
            known = self._symbols.get(name)
            windows = {} if known is None else dict(known.windows)
            windows[message["k"]] = message
            if known is None:
                self._histories[name] = History(self._state.k_max)
            if known is None or not known.is_current or message["sequence"] >= known.sequence:
                sequence, last = message["sequence"], message["last"]
            else:
                sequence, last = known.sequence, known.last
            decimals = decimals_of_windows([message])
            self._decimals[name] = max(decimals, self._decimals.get(name, DECIMALS_MIN))
            self._symbols[name] = SymbolSnapshot(
                name, windows, sequence, last, math.nan, np.empty((0, 0))
            )
            self._note_whether_set(name, now)
            self._state = replace(self._state, updated_at=now)

    def _forget(self, name: str) -> None:
        self._symbols.pop(name, None)
        self._sets.pop(name, None)
        self._unset_since.pop(name, None)
        self._histories.pop(name, None)
        self._decimals.pop(name, None)

    def _note_whether_set(self, name: str, now: float) -> None:
        symbol = self._symbols[name]
        sequences = {window["sequence"] for window in symbol.windows.values()}
        if len(symbol.windows) == self._state.k_max and len(sequences) == 1:
            self._sets[name] = symbol
            self._unset_since.pop(name, None)
        else:
            self._unset_since.setdefault(name, now)

    def _shown(self, name: str, now: float) -> SymbolSnapshot:
        """Return a symbol as it was when its windows were of one price, while the rest is due."""
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
        """Note that the service is there and tells no figures now."""
        with self._lock:
            self._state = replace(self._state, request_rate=math.nan)

    def refuses(self, health: Message) -> None:
        """Take in the reply of ``GET /readyz``, which names the files that cannot be served.

        Raises
        ------
        AttributeError, KeyError, TypeError
            When it is not a reply of the service.
        """
        refused = tuple((each["file"], each["reason"]) for each in health.get("refused", ()))
        with self._lock:
            self._state = replace(self._state, refused=refused)

    def sample(self, now: float) -> None:
        """Add a sample to each history; a gap while the service is out of reach."""
        with self._lock:
            for name in self._symbols:
                symbol = self._shown(name, now)
                is_known = self._state.is_online and symbol.is_current
                known = symbol if is_known else None
                decimals, largest_window = self._decimals[name], self._state.largest_window
                self._histories[name].add(now, known, largest_window, decimals)
                self._decimals[name] = decimals_of_windows(self._symbols[name].windows.values())

    def snapshot(self, now: float = math.inf) -> Snapshot:
        """Return all that is known.

        The windows of an update come one by one. With `now`, in seconds of the epoch, a symbol of
        which some are still to come, and not for long, is given as it was before them.
        """
        with self._lock:
            symbols = [
                replace(
                    self._shown(name, now),
                    rate=self._histories[name].rate,
                    history=self._histories[name].frozen(),
                    decimals=max(self._decimals[name], self._histories[name].decimals),
                )
                for name in sorted(self._symbols)
            ]
            return replace(self._state, symbols=symbols)
