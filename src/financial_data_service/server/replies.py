"""The bodies of replies, as bytes: one encoder for every route and both lanes.

Numbers are written in the shortest form that reads back to the same double.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from financial_data_service.engine.running_stats import RunningStats, WindowStats
from financial_data_service.engine.symbol_manager import BatchReceipt, SymbolManager

__all__ = [
    "added",
    "all_stats",
    "deleted",
    "encode",
    "healthy",
    "stats",
    "symbol_stats",
    "symbols",
]

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


class _Added(msgspec.Struct):
    status: str
    message: str
    symbol: str
    added: int
    sequence: int


def added(receipt: BatchReceipt) -> bytes:
    """Return the reply to a batch that was added, or was there already."""
    symbol, count, sequence = receipt
    said = "Added batch" if count else "Batch already stored"
    return encode(_Added("success", f"{said} for symbol: {symbol}", symbol, count, sequence))


class _Stats(msgspec.Struct):
    symbol: str
    k: int | None
    window: int
    # From here on the fields of WindowStats, in their order.
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int
    sequence: int


def stats(symbol: str, k: int | None, window: int, answer: WindowStats) -> bytes:
    """Return the reply for one window of one symbol."""
    return encode(_Stats(symbol, k, window, *answer))


def symbol_stats(symbol: str, running_stats: RunningStats) -> bytes:
    """Return the reply for every window of one symbol."""
    return encode(_symbol_stats(symbol, running_stats, _all_k(running_stats)))


def all_stats(manager: SymbolManager, k: int | None) -> bytes:
    """Return the reply for every symbol: one window of each, or all."""
    return encode(
        {
            "symbols": [
                _symbol_stats(symbol, manager[symbol], (k,) if k else _all_k(manager[symbol]))
                for symbol in manager.symbols()
            ]
        }
    )


def symbols(manager: SymbolManager) -> bytes:
    """Return the reply that lists the symbols and the limits."""
    return encode(
        {
            "symbols": [
                {
                    "symbol": symbol,
                    "sequence": manager[symbol].sequence,
                    "values": manager[symbol].values,
                }
                for symbol in manager.symbols()
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
    """Return the reply of a service that is there."""
    return b'{"status":"ok"}'


def _all_k(running_stats: RunningStats) -> range:
    return range(1, running_stats.k_max + 1)


def _window(k: int | None, window: int, answer: WindowStats) -> dict[str, Any]:
    return {
        "k": k,
        "window": window,
        "min": answer.min,
        "max": answer.max,
        "last": answer.last,
        "avg": answer.avg,
        "var": answer.var,
        "values": answer.values,
    }


def _symbol_stats(symbol: str, running_stats: RunningStats, ks: Iterable[int]) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "sequence": running_stats.sequence,
        "stats": [_window(k, 10**k, running_stats.stats(k)) for k in ks],
    }
