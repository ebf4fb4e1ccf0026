"""Exact rolling min, max, last, avg and var over the last 10 to 100,000,000 trading prices.

>>> from financial_data_service import RunningStats
>>> stats = RunningStats()
>>> stats.append([100.0, 101.0, 102.0])
3
>>> stats.stats(1).var
0.6666666666666666
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from financial_data_service.errors import (
    DataDirectoryError,
    FdsError,
    InsufficientStorageError,
    InvalidBatchError,
    InvalidSymbolError,
    OverwrittenError,
    SequenceConflictError,
    SymbolFileError,
    SymbolLimitError,
    SymbolNotFoundError,
    WindowSizeError,
)

if TYPE_CHECKING:
    from financial_data_service.engine.running_stats import RunningStats, WindowStats
    from financial_data_service.engine.symbol_manager import BatchReceipt, SymbolManager

__version__ = "0.1.0"

__all__ = [
    "BatchReceipt",
    "DataDirectoryError",
    "FdsError",
    "InsufficientStorageError",
    "InvalidBatchError",
    "InvalidSymbolError",
    "OverwrittenError",
    "RunningStats",
    "SequenceConflictError",
    "SymbolFileError",
    "SymbolLimitError",
    "SymbolManager",
    "SymbolNotFoundError",
    "WindowSizeError",
    "WindowStats",
    "__version__",
]

_ENGINE = {
    "BatchReceipt": "symbol_manager",
    "RunningStats": "running_stats",
    "SymbolManager": "symbol_manager",
    "WindowStats": "running_stats",
}


def __getattr__(name: str) -> Any:
    """Load the engine, and with it Numba, when it is first asked for: the client needs neither."""
    if name not in _ENGINE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"financial_data_service.engine.{_ENGINE[name]}")
    return getattr(module, name)
