"""Clients of a service over HTTP and WebSocket: ``Client`` blocks, ``AsyncClient`` awaits.

>>> from financial_data_service import Client
>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     client.add_batch("AAPL", [189.5, 189.7, 189.6])
...     client.stats("AAPL", 3).avg
Receipt(symbol='AAPL', added=3, sequence=3)
189.6

Loads neither the engine nor Numba; pandas, polars and pyarrow only where their objects are asked
for.
"""

from __future__ import annotations

from financial_data_service.client.async_client import AsyncClient
from financial_data_service.client.results import (
    Check,
    Limits,
    Numbers,
    Prices,
    Readiness,
    Receipt,
    RefusedFile,
    Stats,
    Symbol,
    Table,
    Update,
)
from financial_data_service.client.retries import Retries
from financial_data_service.client.stream import stream_name
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
