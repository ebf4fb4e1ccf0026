"""The bulk routes: they read batches and return prices as float64, Arrow, CSV or JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from financial_data_service.engine.ring_view import RingView
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.api import replies, schemas
from financial_data_service.server.api.bulk_body import BulkBatch, batch_body
from financial_data_service.server.api.bulk_openapi import (
    bulk_batch_body,
    bulk_batch_replies,
    values_replies,
)
from financial_data_service.server.api.parameters import Integer, PathSymbol
from financial_data_service.server.api.price_stream import prices_response
from financial_data_service.server.api.query_keys import only_known_keys
from financial_data_service.server.formats.negotiation import best_type
from financial_data_service.server.formats.price_formats import FORMATS, PriceFormat
from financial_data_service.settings import Settings

__all__ = ["router_for"]

FormatName = Literal["json", "csv", "float64", "arrow"]

LAST_DEFAULT = 1000
"""Default number of prices returned.

It is enough for a look, and small enough that a request without `last` is cheap.
"""

_ADD = """\
Append up to {batch_max:,} prices to the symbol in the path, oldest first; all of them or none.

`Content-Type` names the format of the body:

- `application/octet-stream`: the prices as little-endian float64 (`array.tobytes()` in NumPy).
  Big-endian prices cannot be detected.
- `application/vnd.apache.arrow.stream`: an Arrow IPC stream without compression. Its only column,
  or the one named `price`, `prices`, `value` or `values`, holds floats or integers.
- `application/json`: an array of numbers, or an object with `values`.

A retry is safe if `from_sequence` is given. Replies are those of `POST /add_batch/`. The place of
an invalid price is `["body", "values", i]` in every format.
"""

_VALUES = """\
Return the last prices of a symbol, oldest first, bit for bit.

`format`, or else `Accept`, chooses JSON, CSV (`sequence,price`), float64 (`numpy.frombuffer`) or an
Arrow IPC stream (`sequence`, `price`). The `sequence` of a price is the number of prices before it;
that of the first is 0. `X-First` is the sequence of the first returned price, and can be sent back
as `from_sequence`. `X-Sequence` is the number of prices ever appended.

All prices belong to one window. They are sent as the client reads them. If newer prices overwrite
the rest meanwhile, the connection is closed before the end that HTTP requires, so that no client
takes a part for the whole. If that happens before the first byte, the reply is 503.
"""


def router_for(settings: Settings, manager: SymbolManager) -> APIRouter:
    """Return the routes, their documentation filled with the limits of these settings."""
    router = APIRouter(dependencies=[Depends(only_known_keys)])
    _add_batch_route(router, settings, manager)
    _add_values_route(router, settings, manager)
    return router


def _add_batch_route(router: APIRouter, settings: Settings, manager: SymbolManager) -> None:
    read_batch = Depends(batch_body(settings.body_max_bytes))

    @router.post(
        "/add_batch/{symbol}",
        tags=["prices"],
        summary="Add a batch in binary",
        description=_ADD.format(batch_max=settings.batch_max),
        status_code=201,
        response_model=schemas.AddBatchReply,
        responses=bulk_batch_replies(settings),
        openapi_extra={"requestBody": bulk_batch_body(settings)},
    )
    async def add_bulk_batch(symbol: PathSymbol, batch: BulkBatch = read_batch) -> Response:
        receipt = manager.add_batch(symbol, batch.values, batch.from_sequence)
        status = 201 if receipt.added else 200
        return Response(replies.added(receipt), status, media_type="application/json")


def _add_values_route(router: APIRouter, settings: Settings, manager: SymbolManager) -> None:
    default = min(LAST_DEFAULT, settings.largest_window)

    @router.get(
        "/values/{symbol}",
        tags=["prices"],
        summary="The last prices",
        description=_VALUES,
        response_model=schemas.ValuesReply,
        responses=values_replies(settings),
    )
    async def values(
        symbol: PathSymbol,
        kind: Annotated[type[PriceFormat], Depends(_wanted_format)],
        last: Annotated[
            Integer,
            Query(
                description="How many prices; all there are while they are fewer.", examples=[1000]
            ),
        ] = default,
    ) -> Response:
        return prices_response(RingView(symbol, manager[symbol].ring), last, kind)


async def _wanted_format(
    request: Request,
    name: Annotated[
        FormatName | None,
        Query(
            alias="format",
            description="Format of the reply, whatever `Accept` says.",
            examples=["csv"],
        ),
    ] = None,
) -> type[PriceFormat]:
    """Return the format that a request asks for (dependency).

    Raises
    ------
    HTTPException
        406 when there is none that it would accept.
    """
    if name is not None:
        return FORMATS[name]
    accept = ", ".join(request.headers.getlist("accept"))
    kinds = {kind.media_type: kind for kind in FORMATS.values()}
    media_type = best_type(accept, list(kinds))
    if media_type is None:
        raise HTTPException(
            406,
            f"Expected `Accept` of one of {', '.join(kinds)}, got `{accept[:64]}`",
            {"Vary": "Accept"},
        )
    return kinds[media_type]
