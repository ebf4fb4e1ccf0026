"""Snapshots: what the monitor knows at one moment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from financial_data_service.client import Limits, RefusedFile, Update

__all__ = ["Snapshot", "SymbolSnapshot"]


@dataclass(frozen=True)
class SymbolSnapshot:
    """A symbol at one moment.

    Attributes
    ----------
    symbol : str
        Its name.
    windows : dict
        The newest update of each window, by k; a window without an update is missing.
    sequence : int
        Number of prices ever appended, as of the newest update.
    last : float
        The newest price.
    history : array
        As :meth:`~financial_data_service.monitor.history.History.frozen` returns it.
    is_current : bool
        Whether an update of the symbol has arrived since the monitor last connected.
    """

    symbol: str
    windows: Mapping[int, Update]
    sequence: int
    last: float
    history: npt.NDArray[np.float64]
    is_current: bool = True


@dataclass(frozen=True)
class Snapshot:
    """All that is known at one moment. Times are seconds of the epoch, by this machine's clock.

    Attributes
    ----------
    symbols : list of SymbolSnapshot
        Sorted by name.
    limits : Limits or None
        Limits of the service; None until it has answered.
    problem : str or None
        Why the service cannot be reached; None while it can.
    wants_key : bool
        Whether the problem is a missing or wrong API key.
    lost_at : float or None
        When the connection was lost.
    updated_at : float or None
        When the newest update arrived.
    started_at : float or None
        When the service started, if known.
    request_rate : float
        Requests per second; NaN if not known.
    refused : sequence of RefusedFile
        Files that the service cannot serve.
    """

    symbols: Sequence[SymbolSnapshot]
    limits: Limits | None = None
    is_online: bool = False
    problem: str | None = None
    wants_key: bool = False
    lost_at: float | None = None
    updated_at: float | None = None
    started_at: float | None = None
    request_rate: float = math.nan
    refused: Sequence[RefusedFile] = ()

    @property
    def largest_window(self) -> int:
        """Prices in the largest window; 0 until it is known."""
        return 0 if self.limits is None else self.limits.largest_window

    @property
    def k_max(self) -> int:
        """Number of windows of each symbol; 0 until it is known."""
        return len(str(self.largest_window)) - 1
