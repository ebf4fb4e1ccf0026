"""The routes of the service, each a thin call of the engine.

Handlers are coroutines that never wait: the event loop runs one at a time, so a symbol has a single
writer. They may, because an append takes microseconds. The exception is verification, which reads
millions of prices in a thread.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from financial_data_service.engine.ring_view import RingView
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import SymbolNotFoundError, WindowSizeError
from financial_data_service.server.api import replies, schemas
from financial_data_service.server.api.body import json_body, request_body_schema, whole_request
from financial_data_service.server.api.openapi import (
    batch_replies,
    delete_replies,
    ready_replies,
    stats_replies,
    symbols_replies,
    verify_replies,
)
from financial_data_service.server.api.parameters import PathK, PathSymbol, QueryK, QueryLast
from financial_data_service.server.api.query_keys import only_known_keys
from financial_data_service.settings import Settings
from financial_data_service.symbols import check_symbol
from financial_data_service.verify.windows import check_window
from financial_data_service.windows import WindowStats

__all__ = ["health_router_for", "router_for"]


def router_for(settings: Settings, manager: SymbolManager) -> APIRouter:
    """Return the routes, their documentation filled with the limits of these settings."""
    router = APIRouter(dependencies=[Depends(only_known_keys)])
    _add_batch_routes(router, settings, manager)
    _add_stats_routes(router, settings, manager)
    _add_verify_route(router, settings, manager)
    _add_symbol_routes(router, manager)
    return router


def health_router_for(manager: SymbolManager) -> APIRouter:
    """Return the routes of probes. They accept any query."""
    router = APIRouter()
    _add_health_routes(router, manager)
    return router


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


_ADD_BATCH = """\
Append up to {batch_max:,} prices to a symbol, oldest first. The batch is stored as a whole or not
at all; the first batch creates the symbol.

A retry is safe if the batch carries `from_sequence`, the number of prices before it: prices that
are stored already are compared, and only the rest is added. Without it, a batch that is sent twice
is stored twice. This route takes no query parameters.
"""


def _add_batch_routes(router: APIRouter, settings: Settings, manager: SymbolManager) -> None:
    body = request_body_schema(schemas.AddBatchRequest)
    values = body["content"]["application/json"]["schema"]["properties"]["values"]
    values |= {"minItems": 1, "maxItems": settings.batch_max}
    read_batch = Depends(json_body(schemas.AddBatchRequest, settings.body_max_bytes))

    @router.post(
        "/add_batch/",
        tags=["prices"],
        summary="Add a batch of prices",
        description=_ADD_BATCH.format(batch_max=settings.batch_max),
        status_code=201,
        response_model=schemas.AddBatchReply,
        responses=batch_replies(settings),
        openapi_extra={"requestBody": body},
    )
    @router.post("/add_batch", include_in_schema=False)
    async def add_batch(
        batch: schemas.AddBatchRequest = read_batch,
    ) -> Response:
        receipt = manager.add_batch(batch.symbol, batch.values, batch.from_sequence)
        return _json(replies.added(receipt), 201 if receipt.added else 200)


def _add_stats_routes(router: APIRouter, settings: Settings, manager: SymbolManager) -> None:
    errors = stats_replies(settings)

    @router.get(
        "/stats/{symbol}/{k}",
        tags=["statistics"],
        summary="Statistics of one window",
        response_model=schemas.StatsReply,
        responses=errors,
    )
    async def window_stats(symbol: PathSymbol, k: PathK) -> Response:
        """Return min, max, last, avg and var over the last 10^k prices of a symbol."""
        return _answer(manager, symbol, k, None)

    @router.get(
        "/stats/{symbol}",
        tags=["statistics"],
        summary="Statistics of all windows, or of the last N prices",
        response_model=schemas.SymbolStatsReply | schemas.StatsReply,
        responses=errors,
    )
    async def symbol_stats(
        symbol: PathSymbol, k: QueryK = None, last: QueryLast = None
    ) -> Response:
        """Return the statistics of a symbol: of every window, or of one with `last` or `k`."""
        return _answer(manager, symbol, k, last)

    @router.get(
        "/stats/",
        tags=["statistics"],
        summary="Statistics of one symbol or of all",
        response_model=schemas.StatsReply | schemas.SymbolStatsReply | schemas.AllStatsReply,
        responses=errors,
    )
    @router.get("/stats", include_in_schema=False)
    async def query_stats(
        symbol: Annotated[
            str | None, Query(description="Name of the symbol; all if absent.", examples=["AAPL"])
        ] = None,
        k: QueryK = None,
        last: QueryLast = None,
    ) -> Response:
        """Return statistics by query: `?symbol=AAPL&k=3`, `?symbol=AAPL&last=2500`, or all."""
        if symbol is not None:
            check_symbol(symbol)
        return _answer(manager, symbol, k, last)


def _answer(
    manager: SymbolManager, symbol: str | None, k: int | None, last: int | None
) -> Response:
    """Answer for one symbol or for all, and for one window or for all."""
    if k is not None and last is not None:
        raise WindowSizeError(f"Expected either k or last, got both (k={k}, last={last})")
    if symbol is None:
        if last is not None:
            raise WindowSizeError(f"Expected a symbol together with last={last}, got none")
        if k is not None:
            manager.check_exponent(k)
        return _json(replies.all_stats(manager, k))
    if k is not None:
        answer = manager.stats(symbol, k)  # First, so that no huge power of ten is computed.
        return _one_window(symbol, k, answer)
    if last is not None:
        return _one_window(symbol, None, manager.window(symbol, last))
    return _json(replies.symbol_stats(symbol, manager[symbol]))


def _one_window(symbol: str, k: int | None, answer: WindowStats) -> Response:
    if answer.sequence < 0:  # Another process has just deleted it.
        raise SymbolNotFoundError(symbol)
    return _json(replies.stats(symbol, k, answer))


_VERIFY = """\
Recompute one window from its prices, one by one, and compare it with what is served.

The recomputation does not share arithmetic with the served statistics. It adds the prices in order,
with three doubles per sum, and combines the sums as exact fractions. `equal` is true if min, max
and last are the same, avg is within 1 unit in the last place of the exact mean, and var is within
1e-14. Both answers have the same `sequence`.

It takes about 5 ns per price, or half a second for 10^8 prices. It runs in a separate thread, so
other requests are served meanwhile. One window is recomputed at a time.
"""


def _add_verify_route(router: APIRouter, settings: Settings, manager: SymbolManager) -> None:
    # One at a time, so that a core is left for the service.
    one_at_a_time = asyncio.Lock()

    @router.get(
        "/verify/{symbol}/{k}",
        tags=["statistics"],
        summary="Recompute one window and compare",
        description=_VERIFY,
        response_model=schemas.VerifyReply,
        responses=verify_replies(settings),
    )
    async def verify_window(symbol: PathSymbol, k: PathK) -> Response:
        manager.check_exponent(k)
        view = RingView(symbol, manager[symbol].ring)
        async with one_at_a_time:
            check = await asyncio.to_thread(check_window, view, 10**k)
        return _json(replies.verified(symbol, k, check))


def _add_symbol_routes(router: APIRouter, manager: SymbolManager) -> None:
    @router.get(
        "/symbols",
        tags=["symbols"],
        summary="All symbols",
        response_model=schemas.SymbolsReply,
        responses=symbols_replies(),
    )
    async def symbols() -> Response:
        """Return all symbols, the number of prices held of each, and the limits of the service."""
        return _json(replies.symbols(manager))

    @router.delete(
        "/symbols/{symbol}",
        tags=["symbols"],
        summary="Delete a symbol",
        response_model=schemas.DeleteReply,
        responses=delete_replies(),
        dependencies=[Depends(whole_request)],
    )
    async def delete_symbol(symbol: PathSymbol) -> Response:
        """Delete a symbol and all its prices, permanently."""
        manager.delete(symbol)
        return _json(replies.deleted(symbol))


def _add_health_routes(router: APIRouter, manager: SymbolManager) -> None:
    @router.get(
        "/livez", tags=["health"], summary="Is it alive?", response_model=schemas.HealthReply
    )
    async def livez() -> Response:
        """Answer as long as the process can answer any request."""
        return _json(replies.healthy())

    @router.get(
        "/readyz",
        tags=["health"],
        summary="Is it ready?",
        response_model=schemas.HealthReply | schemas.DegradedReply,
        responses=ready_replies(),
    )
    async def readyz() -> Response:
        """Answer when the kernels are compiled and requests are served at full speed.

        Files of the data directory that cannot be served are listed; all other symbols are served.
        """
        return _json(replies.ready(manager))
