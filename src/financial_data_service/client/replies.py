"""Structs for the service's JSON replies that have no matching result class.

:class:`~financial_data_service.client.results.Stats`, ``Symbol``, ``Check`` and ``Receipt`` are
decoded directly. A field of a reply that the client does not know is ignored.
"""

from __future__ import annotations

import msgspec

from financial_data_service.client.results import RefusedFile, Symbol

__all__ = ["AllStatsReply", "ReadyReply", "SymbolStatsReply", "SymbolsReply", "WindowReply"]


class SymbolsReply(msgspec.Struct):
    """The reply of ``GET /symbols``: the symbols, and the limits of the service."""

    symbols: list[Symbol]
    max_symbols: int
    largest_window: int
    batch_max: int


class WindowReply(msgspec.Struct):
    """One window of a symbol; ``k`` is None if it was asked for by length."""

    k: int | None
    window: int
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int


class SymbolStatsReply(msgspec.Struct):
    """All windows of one symbol, at one sequence."""

    symbol: str
    sequence: int
    stats: list[WindowReply]


class AllStatsReply(msgspec.Struct):
    """All windows of all symbols."""

    symbols: list[SymbolStatsReply]


class ReadyReply(msgspec.Struct):
    """The reply of ``GET /readyz``."""

    status: str
    refused: tuple[RefusedFile, ...] = ()
