"""What is known of the service, from its messages alone: windows, histories, how things stand.

Pure but for a lock: times are given, nothing is asked for. One thread feeds it, another samples it,
any number look at it by :meth:`Board.snapshot`.

A history is a table of samples, :data:`SAMPLES_MAX` of them at most, NaN where nothing was known::

    time | sequence | held | last | rate | decimals | avg std min max of k = 1 | of k = 2 | …
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "DECIMALS_MAX",
    "SAMPLES_MAX",
    "SAMPLE_SECONDS",
    "Board",
    "History",
    "Message",
    "Snapshot",
    "SymbolSnapshot",
    "decimals_of",
]

SAMPLE_SECONDS = 0.5
SAMPLES_MAX = 360
"""Three minutes: as much as a plot of this width can tell apart."""

RATE_SAMPLES = 4
"""Samples that a rate is over: fewer would show the batches, more hide a standstill."""

SET_SECONDS_MAX = 0.05
"""That the windows of a symbol wait for the others of their update."""

_TIME, _SEQUENCE, _HELD, _LAST, _RATE, _DECIMALS = range(6)
_FIRST = 6
_OF_WINDOW = ("avg", "std", "min", "max")

Message = Mapping[str, Any]

DECIMALS_MIN, DECIMALS_MAX = 2, 8  # cents at least; the satoshi is the finest tick traded
QUOTED_DIGITS_MAX = 12  # in all: no quote is longer
COMPUTED_DIGITS = 6  # shown of prices that have more of either: no tick, they have been computed


def decimals_of(prices: Iterable[float]) -> int:
    """Decimals that show all of `prices` as they were sent, as far as that stays readable."""
    return max(map(_decimals_of, prices), default=DECIMALS_MIN)


def _decimals_of(price: float) -> int:
    number = Decimal(repr(price)).normalize()
    decimals = -int(number.as_tuple().exponent)
    if decimals > DECIMALS_MAX or len(number.as_tuple().digits) > QUOTED_DIGITS_MAX:
        decimals = COMPUTED_DIGITS - number.adjusted() - 1
    return min(max(decimals, DECIMALS_MIN), DECIMALS_MAX)


def _decimals_of_windows(windows: Iterable[Message]) -> int:
    return decimals_of(window[key] for window in windows for key in ("min", "max", "last"))


class History:
    """Samples of one symbol, the oldest of which give way.

    Parameters
    ----------
    k_max : int
        Number of windows.
    """

    def __init__(self, k_max: int) -> None:
        self._table = np.full((SAMPLES_MAX, _FIRST + len(_OF_WINDOW) * k_max), math.nan)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(
        self,
        now: float,
        symbol: SymbolSnapshot | None,
        largest_window: int,
        decimals: int = DECIMALS_MIN,
    ) -> None:
        """Add what is known now, None if nothing is. `now` in seconds of the epoch.

        `decimals` are those that prices have had since the sample before.
        """
        if self._count == SAMPLES_MAX:
            self._table[:-1] = self._table[1:]
            self._count -= 1
        row = self._table[self._count]
        row[:] = math.nan
        row[_TIME] = now
        row[_DECIMALS] = decimals
        if symbol is not None:
            row[_SEQUENCE] = symbol.sequence
            row[_HELD] = min(symbol.sequence, largest_window)
            row[_LAST] = symbol.last
            for k, window in symbol.windows.items():
                begin = _FIRST + len(_OF_WINDOW) * (k - 1)
                row[begin : begin + len(_OF_WINDOW)] = (
                    *(window["avg"], math.sqrt(window["var"])),
                    *(window["min"], window["max"]),
                )
        self._count += 1
        row[_RATE] = self._rate()

    def _rate(self) -> float:
        """Prices per second over the last samples; NaN where one end is not known."""
        last = self._count - 1
        first = max(0, last - RATE_SAMPLES)
        added = self._table[last, _SEQUENCE] - self._table[first, _SEQUENCE]
        seconds = self._table[last, _TIME] - self._table[first, _TIME]
        return max(0.0, float(added / seconds)) if seconds > 0 and added == added else math.nan

    @property
    def rate(self) -> float:
        """The newest rate, in prices per second; NaN while it is not known."""
        return float(self._table[self._count - 1, _RATE]) if self._count else math.nan

    @property
    def decimals(self) -> int:
        """Decimals that show the prices of all samples."""
        return int(self._table[: self._count, _DECIMALS].max(initial=DECIMALS_MIN))

    def frozen(self) -> npt.NDArray[np.float64]:
        """Return a copy of the samples there are."""
        return self._table[: self._count].copy()

    @staticmethod
    def columns(
        table: npt.NDArray[np.float64], ks: list[int], decimals: int | None = None
    ) -> dict[str, Any]:
        """Return what :meth:`frozen` gave as lists by name, ready for JSON: NaN as None.

        With `decimals`, prices are rounded to so many: shorter by half.
        """
        if decimals is not None:
            table = table.round(decimals)
        lists = {
            "times": [round(1000 * time) for time in table[:, _TIME].tolist()],
            "last": _listed(table[:, _LAST]),
            "held": _listed(table[:, _HELD]),
            "rate": _listed(table[:, _RATE]),
        }
        windows = []
        for k in ks:
            begin = _FIRST + len(_OF_WINDOW) * (k - 1)
            columns = {name: _listed(table[:, begin + i]) for i, name in enumerate(_OF_WINDOW)}
            windows.append({"k": k, "window": 10**k, **columns})
        return {**lists, "windows": windows}


def _listed(column: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in column.tolist()]


@dataclass(frozen=True)
class SymbolSnapshot:
    """A symbol at one moment.

    Attributes
    ----------
    windows : dict
        The newest message of each window, by k; those that have come so far.
    sequence : int
        Prices ever appended, by the newest message.
    last : float
        The newest price.
    rate : float
        Prices per second; NaN while it is not known.
    history : array
        As :meth:`History.frozen` gives it.
    is_current : bool
        Whether anything of it has come since the service was last reached.
    decimals : int
        Of its prices, those of the history among them, so that nothing flickers.
    """

    symbol: str
    windows: Mapping[int, Message]
    sequence: int
    last: float
    rate: float
    history: npt.NDArray[np.float64]
    is_current: bool = True
    decimals: int = DECIMALS_MIN


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment. Times are seconds of the epoch, by this machine's clock.

    Attributes
    ----------
    symbols : list of SymbolSnapshot
        By name.
    problem : str or None
        Why the service cannot be reached; None while it can.
    wants_key : bool
        Whether the problem is that the service is there and wants another API key.
    lost_at : float or None
        Since when it cannot.
    updated_at : float or None
        When the newest message came.
    started_at : float or None
        When the service started, if it tells.
    request_rate : float
        Requests per second; NaN if the service does not tell.
    refused : tuple of (str, str)
        Files that the service has and cannot serve, and why.
    """

    symbols: list[SymbolSnapshot]
    max_symbols: int = 0
    largest_window: int = 0
    is_online: bool = False
    problem: str | None = None
    wants_key: bool = False
    lost_at: float | None = None
    updated_at: float | None = None
    started_at: float | None = None
    request_rate: float = math.nan
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def k_max(self) -> int:
        """Number of windows of each symbol; 0 while it is not known."""
        return len(str(self.largest_window)) - 1

    @property
    def received(self) -> int:
        """Prices ever appended to the symbols that are there."""
        return sum(symbol.sequence for symbol in self.symbols)

    @property
    def price_rate(self) -> float:
        """Prices per second of all symbols together; NaN while that of none is known."""
        known = [symbol.rate for symbol in self.symbols if not math.isnan(symbol.rate)]
        if not self.is_online or (self.symbols and not known):
            return math.nan
        return sum(known)


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
            decimals = _decimals_of_windows([message])
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
                self._decimals[name] = _decimals_of_windows(self._symbols[name].windows.values())

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
