"""Batches and values in binary: the routes for float64, Arrow and CSV, and for JSON beside them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from financial_data_service.engine.ring_view import RingView
from financial_data_service.server.api import replies, schemas
from financial_data_service.server.api.bulk_body import Batch, batch_body
from financial_data_service.server.api.bulk_openapi import (
    bulk_batch_body,
    bulk_batch_replies,
    values_replies,
)
from financial_data_service.server.api.price_stream import prices_response
from financial_data_service.server.api.query_keys import only_known_keys
from financial_data_service.server.api.routes import Manager, PathSymbol
from financial_data_service.server.formats.negotiation import best_type
from financial_data_service.server.formats.price_formats import FORMATS, PriceFormat
from financial_data_service.settings import Settings

__all__ = ["router_for"]

FormatName = Literal["json", "csv", "float64", "arrow"]

LAST_DEFAULT = 1000
"""Prices that are returned if not told how many: enough to look at, little enough for a mistake."""

_ADD = """\
Append up to {batch_max:,} prices to the symbol in the path, oldest first; all of them or none.

The body is, as its `Content-Type` says: the prices themselves as little-endian float64
(`application/octet-stream`: `array.tobytes()` in NumPy), an Arrow IPC stream
(`application/vnd.apache.arrow.stream`) whose only column, or the one named `price`, `prices`,
`value` or `values`, holds floats or integers, not compressed; or JSON, an array of numbers or an
object with `values`. Float64 of the other byte order cannot be told from prices.

Replies are those of `POST /add_batch/`; the place of an unfit price is `["body", "values", i]` in
every format.
"""

_VALUES = """\
Return the last prices of a symbol, oldest first, to the bit.

As JSON, CSV (`sequence,price`), float64 (`numpy.frombuffer`) or an Arrow IPC stream (`sequence`,
`price`), whichever `Accept` prefers or `format` says. The `sequence` of a price is how many came
before it: the first ever has 0, and `X-First` may be sent back as `from_sequence`. `X-Sequence`,
the number of prices ever appended, is what the answer is as of.

All prices are of one moment. They are sent as they are taken; where newer ones overwrite them
meanwhile, the connection is broken off before the end that HTTP asks for, so that no part is taken
for the whole. Where it happens before the first byte, the answer is 503.
"""


def router_for(settings: Settings) -> APIRouter:
    """Return the routes, their documentation filled with the limits of these settings."""
    router = APIRouter(dependencies=[Depends(only_known_keys)])
    _add_batch_route(router, settings)
    _add_values_route(router, settings)
    return router


def _add_batch_route(router: APIRouter, settings: Settings) -> None:
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
    async def add_bulk_batch(
        manager: Manager, symbol: PathSymbol, batch: Annotated[Batch, Depends(batch_body)]
    ) -> Response:
        receipt = manager.add_batch(symbol, batch.values, batch.from_sequence)
        status = 201 if receipt.added else 200
        return Response(replies.added(receipt), status, media_type="application/json")


def _add_values_route(router: APIRouter, settings: Settings) -> None:
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
        manager: Manager,
        symbol: PathSymbol,
        kind: Annotated[type[PriceFormat], Depends(_wanted_format)],
        last: Annotated[
            int,
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
