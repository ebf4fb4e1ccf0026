"""Errors as HTTP replies: the one place that maps errors to status codes.

Every reply is ``{"detail": …}``. Input is quoted only in part, so an error is short enough to read,
and holds no number that JSON cannot express.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

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
from financial_data_service.server.formats.json_encoder import encode
from financial_data_service.server.middleware.encoded_slash import raw_route_path

__all__ = ["add_error_handlers", "error_item", "status_of"]

_INPUT_SHOWN_MAX = 64  # quoted characters of an input

# More segments than any route that names a symbol has: somebody may have written BTC/USDT as it is.
_SLASHES_BELOW_A_ROUTE = re.compile(
    rb"/(?:stats/[^/]+/[^/]+|verify/[^/]+/[^/]+|(?:symbols|values|add_batch|ingest)/[^/]+)/[^/]"
)
_SLASH_HINT = (
    ": in a path, write a slash of a symbol as %2F, such as /stats/BTC%2FUSDT/3, "
    "or ask by query: /stats/?symbol=BTC/USDT&k=3"
)

_STATUS: dict[type[FdsError], int] = {
    DataDirectoryError: 503,
    InsufficientStorageError: 507,
    InvalidBatchError: 422,
    InvalidSymbolError: 422,
    OverwrittenError: 503,
    SequenceConflictError: 409,
    SymbolFileError: 503,
    SymbolLimitError: 400,
    SymbolNotFoundError: 404,
    WindowSizeError: 422,
}


def add_error_handlers(app: FastAPI) -> None:
    """Make the app answer every error with its status and reason."""
    app.add_exception_handler(FdsError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(HTTPException, _answer_http_error)


def status_of(error: FdsError) -> int:
    """Return the status code of an error.

    WebSocket routes need it, because they have no HTTP reply.
    """
    return _STATUS[type(error)]


def error_item(
    kind: str, loc: Sequence[str | int], message: str, value: object = None
) -> dict[str, Any]:
    """Return one entry of a list of errors, in FastAPI's shape."""
    return {"type": kind, "loc": list(loc), "msg": message, "input": _shown(value)}


def _reply(status: int, content: dict[str, Any], headers: Any = None) -> Response:
    return Response(encode(content), status, headers, media_type="application/json")


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FdsError)
    status = _STATUS[type(error)]
    if isinstance(error, InvalidBatchError):
        loc = ("body", "values") if error.index is None else ("body", "values", error.index)
        return _reply(status, {"detail": [error_item("invalid_batch", loc, str(error))]})
    if isinstance(error, InvalidSymbolError):
        place = _place_of_symbol(request)
        return _reply(
            status, {"detail": [error_item("invalid_symbol", (place, "symbol"), str(error))]}
        )
    if isinstance(error, SequenceConflictError):
        return _reply(status, {"detail": str(error), "sequence": error.sequence})
    return _reply(status, {"detail": str(error)})


def _place_of_symbol(request: Request) -> str:
    if "symbol" in request.path_params:
        return "path"
    return "body" if request.method == "POST" else "query"


async def _answer_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    items = [
        error_item(entry["type"], entry["loc"], entry["msg"], entry.get("input"))
        for entry in error.errors()
    ]
    return _reply(422, {"detail": items})


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404 and _SLASHES_BELOW_A_ROUTE.match(raw_route_path(request.scope)):
        detail += _SLASH_HINT
    return _reply(error.status_code, {"detail": detail}, error.headers)


def _shown(value: object) -> Any:
    """Return a part of an input that is safe to quote.

    It is short, and contains only numbers that JSON can express.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, int):
        return value if value.bit_length() <= 63 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else value.decode("utf-8", "replace")
        # A lone surrogate has no UTF-8 form.
        text = text[: _INPUT_SHOWN_MAX + 1].encode("utf-8", "replace").decode()
        return text if len(text) <= _INPUT_SHOWN_MAX else text[:_INPUT_SHOWN_MAX] + "…"
    if isinstance(value, (list, tuple)):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    return f"a {type(value).__name__}"
