"""Clients of a service over HTTP and WebSocket.

The calls of ``Client`` block; those of ``AsyncClient`` are awaited.

>>> from financial_data_service import Client
>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     client.add_batch("AAPL", [189.5, 189.7, 189.6])
...     client.stats("AAPL", 3).avg
Receipt(symbol='AAPL', added=3, sequence=3)
189.6

Plans decide (``exchange``, ``asking``, ``reading``, ``adding``, ``retries``, ``stream_state``: no
input or output). ``blocking`` and ``sync_client``, ``async_client``, ``subscription`` and
``ingest`` carry them out. ``asking`` and ``blocking`` do without NumPy. The commands and the
monitor use this package too. It does not load the engine or Numba. It loads pandas, polars and
pyarrow only when one of their objects is used; it may import ``errors``, ``prices``, ``symbols``,
``windows`` and ``wire``. Add new service calls here. Add new reply fields to ``results`` or
``replies``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from financial_data_service.client.async_client import AsyncClient
    from financial_data_service.client.price_array import Prices
    from financial_data_service.client.results import (
        Check,
        Limits,
        Numbers,
        Readiness,
        Receipt,
        RefusedFile,
        Stats,
        Symbol,
        Table,
        Update,
    )
    from financial_data_service.client.retries import Retries
    from financial_data_service.client.stream_state import stream_name
    from financial_data_service.client.sync_client import Client

__all__ = [
    "AsyncClient",
    "Check",
    "Client",
    "Limits",
    "Numbers",
    "Prices",
    "Readiness",
    "Receipt",
    "RefusedFile",
    "Retries",
    "Stats",
    "Symbol",
    "Table",
    "Update",
    "stream_name",
]

_MODULES = {
    "AsyncClient": "async_client",
    "Client": "sync_client",
    "Retries": "retries",
    "Prices": "price_array",
    "stream_name": "stream_state",
}


def __getattr__(name: str) -> Any:
    """Load a module when it is first asked for: the commands need neither results nor NumPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'results')}"), name)


def __dir__() -> list[str]:
    """Return all names, including those not loaded yet, so that tab completion shows them."""
    return sorted(globals().keys() | set(__all__))
