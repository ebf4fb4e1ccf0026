"""Exact rolling min, max, last, avg and var over the last 10 to 100,000,000 trading prices.

>>> from financial_data_service import RunningStats
>>> stats = RunningStats()
>>> stats.append([100.0, 101.0, 102.0])
3
>>> stats.stats(1).var
0.6666666666666666

:func:`open` reads the data directory of a service, from any process. :class:`Client` and
:class:`AsyncClient` send requests to a service.
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
    ServiceError,
    ServiceUnavailableError,
    SymbolFileError,
    SymbolLimitError,
    SymbolNotFoundError,
    UnauthorizedError,
    UnconfirmedError,
    WindowSizeError,
)
from financial_data_service.version import __version__

if TYPE_CHECKING:
    from financial_data_service.client import AsyncClient, Client
    from financial_data_service.engine.running_stats import RunningStats
    from financial_data_service.engine.symbol_manager import BatchReceipt, SymbolManager
    from financial_data_service.storage.reader import DataDirectory, SymbolReader
    from financial_data_service.storage.reader import open as open
    from financial_data_service.windows import WindowStats

__all__ = [
    "AsyncClient",
    "BatchReceipt",
    "Client",
    "DataDirectory",
    "DataDirectoryError",
    "FdsError",
    "InsufficientStorageError",
    "InvalidBatchError",
    "InvalidSymbolError",
    "OverwrittenError",
    "RunningStats",
    "SequenceConflictError",
    "ServiceError",
    "ServiceUnavailableError",
    "SymbolFileError",
    "SymbolLimitError",
    "SymbolManager",
    "SymbolNotFoundError",
    "SymbolReader",
    "UnauthorizedError",
    "UnconfirmedError",
    "WindowSizeError",
    "WindowStats",
    "__version__",
]

# ``open`` is public too, as ``financial_data_service.open``. It is not in ``__all__``, so that
# ``from financial_data_service import *`` leaves the builtin alone.

_LAZY_NAMES = {
    "AsyncClient": "client",
    "Client": "client",
    "BatchReceipt": "engine.symbol_manager",
    "DataDirectory": "storage.reader",
    "RunningStats": "engine.running_stats",
    "SymbolManager": "engine.symbol_manager",
    "SymbolReader": "storage.reader",
    "WindowStats": "windows",
    "open": "storage.reader",
}


def __getattr__(name: str) -> Any:
    """Load the engine with Numba, or the client with HTTP, at the first use of one of its names."""
    if name not in _LAZY_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"financial_data_service.{_LAZY_NAMES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    """Return all names, those that are not loaded yet included: tab completion shows them."""
    return sorted(globals().keys() | _LAZY_NAMES.keys())
