"""The bodies of replies as bytes, for every route and both lanes.

Numbers are written in the shortest form that reads back to the same double.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.engine.symbol_manager import BatchReceipt, SymbolManager
from financial_data_service.errors import SymbolNotFoundError
from financial_data_service.server.formats.json_encoder import encode
from financial_data_service.verify.windows import WindowCheck
from financial_data_service.windows import WindowStats

__all__ = [
    "added",
    "all_stats",
    "deleted",
    "healthy",
    "ready",
    "stats",
    "symbol_stats",
    "symbols",
    "verified",
]


class _Added(msgspec.Struct):
    status: str
    message: str
    symbol: str
    added: int
    sequence: int


def added(receipt: BatchReceipt) -> bytes:
    """Return the reply to a batch that was added, or was stored already."""
    symbol, count, sequence = receipt
    said = "Added batch" if count else "Batch already stored"
    return encode(_Added("success", f"{said} for symbol: {symbol}", symbol, count, sequence))


class _StatsBody(msgspec.Struct):
    symbol: str
    k: int | None
    # The fields of WindowStats, in their order.
    window: int
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int
    sequence: int


def stats(symbol: str, k: int | None, answer: WindowStats) -> bytes:
    """Return the reply for one window of one symbol."""
    return encode(_StatsBody(symbol, k, *answer))


def symbol_stats(symbol: str, running_stats: RunningStats) -> bytes:
    """Return the reply for every window of one symbol."""
    return encode(_symbol_stats(symbol, running_stats, _all_k(running_stats)))


def all_stats(manager: SymbolManager, k: int | None) -> bytes:
    """Return the reply for every symbol: one window of each, or all."""
    entries = []
    for symbol in manager.symbols():
        with suppress(SymbolNotFoundError):  # Another process has just deleted it.
            running_stats = manager[symbol]
            ks = (k,) if k else _all_k(running_stats)
            entries.append(_symbol_stats(symbol, running_stats, ks))
    return encode({"symbols": entries})


def symbols(manager: SymbolManager) -> bytes:
    """Return the reply that lists the symbols and the limits."""
    sequences = {}
    for symbol in manager.symbols():
        with suppress(SymbolNotFoundError):  # Another process has just deleted it.
            sequences[symbol] = manager[symbol].sequence
    return encode(
        {
            "symbols": [
                {
                    "symbol": symbol,
                    "sequence": sequence,
                    "values": min(sequence, manager.largest_window),
                }
                for symbol, sequence in sequences.items()
                if sequence >= 0
            ],
            "max_symbols": manager.max_symbols,
            "largest_window": manager.largest_window,
            "batch_max": manager.batch_max,
        }
    )


def deleted(symbol: str) -> bytes:
    """Return the reply to the deletion of a symbol."""
    return encode({"status": "success", "message": f"Deleted symbol: {symbol}"})


def healthy() -> bytes:
    """Return the reply of a service that is alive."""
    return b'{"status":"ok"}'


def ready(manager: SymbolManager) -> bytes:
    """Return the reply of a service that is ready, with the files that it rejects."""
    if not manager.refused:
        return healthy()
    refused = [{"file": file, "reason": reason} for file, reason in manager.refused.items()]
    return encode({"status": "degraded", "refused": refused})


def verified(symbol: str, k: int, check: WindowCheck) -> bytes:
    """Return the reply for a recomputed window."""
    return encode(
        {
            "symbol": symbol,
            "k": k,
            "window": check.length,
            "values": check.served.values,
            "sequence": check.served.sequence,
            "equal": not check.differing,
            "served": _numbers(check.served),
            "recomputed": _numbers(check.recomputed),
        }
    )


def _all_k(running_stats: RunningStats) -> range:
    return range(1, running_stats.k_max + 1)


def _numbers(answer: WindowStats) -> dict[str, float]:
    return {
        "min": answer.min,
        "max": answer.max,
        "last": answer.last,
        "avg": answer.avg,
        "var": answer.var,
    }


def _window(answer: WindowStats) -> dict[str, Any]:
    return {"k": answer.k, "window": answer.window, **_numbers(answer), "values": answer.values}


def _symbol_stats(symbol: str, running_stats: RunningStats, ks: Iterable[int]) -> dict[str, Any]:
    answers = running_stats.windows_as_of(10**k for k in ks)
    sequence = answers[0].sequence
    if sequence < 0:
        raise SymbolNotFoundError(symbol)
    return {
        "symbol": symbol,
        "sequence": sequence,
        "stats": [_window(answer) for answer in answers],
    }
