"""The model that the view draws: a snapshot as JSON.

Its shape is described in the view's own file, ``view.js``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from financial_data_service.monitor.history import columns
from financial_data_service.monitor.snapshot import Snapshot, SymbolSnapshot

__all__ = ["model_of"]


def model_of(snapshot: Snapshot, url: str, ks: Sequence[int], now: float) -> dict[str, Any]:
    """Return the model of a snapshot, ready for JSON.

    Parameters
    ----------
    snapshot : Snapshot
        What is known.
    url : str
        URL of the service.
    ks : sequence of int
        Windows with a history, as powers of ten.
    now : float
        Seconds of the epoch.
    """
    return {
        "url": url,
        "isOnline": snapshot.is_online,
        "wantsKey": snapshot.wants_key,
        "problem": snapshot.problem,
        "offlineSince": _milliseconds(snapshot.lost_at),
        "updatedAt": _milliseconds(snapshot.updated_at),
        "startedAt": _milliseconds(snapshot.started_at),
        "now": _milliseconds(now),
        "requestRate": None if math.isnan(snapshot.request_rate) else snapshot.request_rate,
        "limits": snapshot.limits,
        "refused": snapshot.refused,
        "symbols": [_symbol_model(symbol, snapshot.k_max, ks) for symbol in snapshot.symbols],
    }


def _symbol_model(symbol: SymbolSnapshot, k_max: int, ks: Sequence[int]) -> dict[str, Any]:
    return {
        "name": symbol.symbol,
        "sequence": symbol.sequence,
        "last": symbol.last,
        "windows": [symbol.windows.get(k) for k in range(1, k_max + 1)],
        "history": columns(symbol.history, [k for k in ks if k <= k_max]),
    }


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)
