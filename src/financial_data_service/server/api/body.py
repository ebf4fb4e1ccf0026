"""Read a JSON body into a model.

An invalid value is rejected with an error that names its location.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

__all__ = ["is_json", "json_body", "read_body", "request_body_schema", "whole_request"]

Model = TypeVar("Model", bound=BaseModel)


def json_body(model: type[Model], bytes_max: int) -> Callable[[Request], Awaitable[Model]]:
    """Return a dependency that reads the body as JSON straight into a model.

    FastAPI would first parse the body into Python objects, and would accept ``NaN``.

    Raises
    ------
    HTTPException
        415 when the body is compressed, or its Content-Type is not JSON. The check protects against
        other web sites: a browser lets a page of another origin post text to this service without
        asking, but not JSON. 413 when it is larger than ``bytes_max``, before it is read where its
        length is declared.
    RequestValidationError
        When it is not JSON, or not what the model says.
    """

    async def read(request: Request) -> Model:
        """Return the parsed body. An invalid one is answered with 413, 415 or 422."""
        content_type = request.headers.get("content-type", "")
        if not is_json(content_type):
            raise HTTPException(
                415,
                "Expected `Content-Type: application/json`, got "
                + (f"`{content_type[:64]}`" if content_type else "none"),
            )
        body = await read_body(request, bytes_max)
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise RequestValidationError([_located(entry) for entry in error.errors()]) from None

    return read


def request_body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that :func:`json_body` reads."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"content": {"application/json": {"schema": schema}}, "required": True}


async def whole_request(request: Request) -> None:
    """Wait until the request has arrived as a whole (dependency).

    A handler starts at the end of the request's head. The bytes after the head may turn out to be
    invalid HTTP. In that case the request must have had no effect.
    """
    try:
        async for _ in request.stream():
            pass
    except ClientDisconnect:
        raise _cut_off() from None


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Return the body of a request.

    Raises
    ------
    HTTPException
        415 when it is compressed; 413 when it is larger than ``bytes_max``, before it is read
        where its length is declared.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "Expected a body without Content-Encoding")
    declared = request.headers.get("content-length", "0")
    # The server has checked that it is a number.
    if int(declared) > bytes_max:
        raise _too_large(bytes_max)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                raise _too_large(bytes_max)
    except ClientDisconnect:
        raise _cut_off() from None
    return bytes(body)


def _cut_off() -> HTTPException:
    # The client has disconnected and does not read this reply. Without it, the log would show a
    # server error.
    return HTTPException(400, "Expected the whole body, got a part of it")


def _too_large(bytes_max: int) -> HTTPException:
    return HTTPException(
        413, f"Expected a body of {bytes_max} bytes at most; send fewer values in a batch"
    )


def is_json(content_type: str) -> bool:
    """Tell whether a ``Content-Type`` declares JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def _located(entry: Any) -> dict[str, Any]:
    return {**entry, "loc": ("body", *entry["loc"])}
