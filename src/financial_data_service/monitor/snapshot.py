"""Snapshots: what the monitor knows at one moment, ready to be shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DECIMALS_MAX", "Message", "Snapshot", "SymbolSnapshot", "decimals_of"]

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


def decimals_of_windows(windows: Iterable[Message]) -> int:
    return decimals_of(window[key] for window in windows for key in ("min", "max", "last"))


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
