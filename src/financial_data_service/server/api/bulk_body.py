"""The body of a batch whose symbol is in the path.

`Content-Type` says whether it is float64, Arrow or JSON.

Whatever the format, the place of an invalid price is ``["body", "values", i]``, counted from 0.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import numpy.typing as npt
from fastapi import HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, FailFast, TypeAdapter, ValidationError

from financial_data_service.server.api.body import is_json, read_body
from financial_data_service.server.api.schemas import ValuesBatch
from financial_data_service.server.formats.arrow_batch import (
    ArrowCompressionError,
    ArrowStreamError,
    arrow_prices,
)
from financial_data_service.server.formats.float64_batch import FLOAT64_BYTES, float64_prices
from financial_data_service.wire import ARROW_TYPE, FLOAT64_TYPE, JSON_TYPE

__all__ = ["BulkBatch", "batch_body"]

_ARRAY: TypeAdapter[list[float]] = TypeAdapter(
    Annotated[list[float], FailFast()], config=ConfigDict(strict=True)
)


class BulkBatch(NamedTuple):
    """The prices as received. The engine validates them."""

    values: npt.ArrayLike
    from_sequence: int | None


def batch_body(bytes_max: int) -> Callable[..., Awaitable[BulkBatch]]:
    """Return a dependency that reads a batch from the body and the query of a request.

    Raises
    ------
    HTTPException
        415 when its type is none of the three, or it is compressed; 413 when it is larger than
        ``bytes_max``.
    RequestValidationError
        When the body is not valid for its `Content-Type`.
    """

    async def read_batch(
        request: Request,
        from_sequence: Annotated[
            int | None,
            Query(
                ge=0,
                description="Number of prices appended to the symbol before this batch. It makes a "
                "retry safe: prices that are stored already are compared and not added again.",
                examples=[0],
            ),
        ] = None,
    ) -> BulkBatch:
        """Read a batch: its prices as float64 of shape (n,), and where they belong.

        Raises
        ------
        HTTPException, RequestValidationError
            As :func:`batch_body` says. Also when query and body name different ``from_sequence``.
        """
        read = _reader(request.headers.get("content-type", ""))
        batch = read(await read_body(request, bytes_max))
        if batch.from_sequence is None:
            return BulkBatch(batch.values, from_sequence)
        if from_sequence not in (None, batch.from_sequence):
            raise _refused(
                "from_sequence_twice",
                ("query", "from_sequence"),
                f"Expected from_sequence of {batch.from_sequence} as in the body, got "
                f"{from_sequence}",
            )
        return batch

    return read_batch


def _reader(content_type: str) -> Callable[[bytes], BulkBatch]:
    if is_json(content_type):
        return _read_json
    reader = _READERS.get(content_type.partition(";")[0].strip().lower())
    if reader is None:
        raise HTTPException(
            415,
            f"Expected `Content-Type: {FLOAT64_TYPE}`, `{ARROW_TYPE}` or `{JSON_TYPE}`, got "
            + (f"`{content_type[:64]}`" if content_type else "none"),
        )
    return reader


def _read_float64(body: bytes) -> BulkBatch:
    prices = float64_prices(body)
    if prices is None:
        raise _refused(
            "float64_length",
            ("body",),
            f"Expected a body of float64, {FLOAT64_BYTES} bytes each, got {len(body)} bytes "
            "- at `body`",
        )
    return BulkBatch(prices, None)


def _read_arrow(body: bytes) -> BulkBatch:
    try:
        return BulkBatch(arrow_prices(body), None)
    except ArrowCompressionError as error:
        raise HTTPException(415, str(error)) from None
    except ArrowStreamError as error:
        raise _refused("arrow_invalid", ("body",), str(error)) from None


def _read_json(body: bytes) -> BulkBatch:
    try:
        if body.lstrip(b" \t\r\n").startswith(b"["):
            return BulkBatch(_ARRAY.validate_json(body), None)
        batch = ValuesBatch.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([_located(entry) for entry in error.errors()]) from None
    return BulkBatch(batch.values, batch.from_sequence)


_READERS: dict[str, Callable[[bytes], BulkBatch]] = {
    FLOAT64_TYPE: _read_float64,
    ARROW_TYPE: _read_arrow,
}


def _located(entry: Any) -> dict[str, Any]:
    """Return an error with its location in the body.

    For a bare array, the location is `values[i]`, as if the array were in the field `values`.
    """
    place = entry["loc"]
    named = ("values", *place) if place and isinstance(place[0], int) else place
    return {**entry, "loc": ("body", *named)}


def _refused(kind: str, place: tuple[str, ...], message: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": place, "msg": message, "input": None}])
