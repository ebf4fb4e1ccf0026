"""Calls of both clients against the model of the service, and data that their tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from financial_data_service import AsyncClient, Client
from financial_data_service.client import Retries
from support.client_model import ModelService

QUICK = Retries(count=6, seconds=20, pause_seconds=0.0005)

Call = Callable[..., Any]


def sync_call(model: ModelService, name: str, *arguments: Any, **options: Any) -> Any:
    with Client("http://model", retries=QUICK, transport=model.transport) as client:
        client.symbols()  # It has answered once.
        return getattr(client, name)(*arguments, **options)


def async_call(model: ModelService, name: str, *arguments: Any, **options: Any) -> Any:
    async def call() -> Any:
        async with AsyncClient("http://model", retries=QUICK, transport=model.transport) as client:
            await client.symbols()
            return await getattr(client, name)(*arguments, **options)

    return asyncio.run(call())


def series(count: int) -> list[float]:
    return [100 + index / 7 for index in range(count)]


SYMBOLS = {"symbols": [], "max_symbols": 1, "largest_window": 10, "batch_max": 1}
