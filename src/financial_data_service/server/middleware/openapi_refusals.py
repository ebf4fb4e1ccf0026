"""The refusals of the middleware, in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from financial_data_service.server.middleware.api_key import (
    EVENTS_PATH,
    EXPECTED_KEY,
    EXPECTED_KEY_OR_QUERY,
    OPEN_PATHS,
)
from financial_data_service.server.middleware.in_flight import ALWAYS_ANSWERED, too_many
from financial_data_service.settings import Settings

__all__ = ["document_refusals"]


def document_refusals(app: FastAPI, settings: Settings) -> None:
    """Add the replies of the middleware to the OpenAPI document of every operation.

    These are 429 and, if there is an API key, 401 and the ways to send the key.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None  # It is generated once.
        document = generate()
        if is_new:
            _add_limit(document, settings.in_flight_max)
            if settings.api_key is not None:
                _add_security(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_limit(document: dict[str, Any], in_flight_max: int) -> None:
    refused = _documented("Too many requests are under way", too_many(in_flight_max))
    refused["headers"] = {
        "Retry-After": {
            "description": "Seconds after which to ask again.",
            "schema": {"type": "integer"},
        }
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path not in ALWAYS_ANSWERED:
                operation["responses"]["429"] = refused


def _add_security(document: dict[str, Any]) -> None:
    document.setdefault("components", {})["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    document["security"] = [{"ApiKey": []}, {"Bearer": []}]
    for path, operations in document["paths"].items():
        expected = EXPECTED_KEY_OR_QUERY if EVENTS_PATH.fullmatch(path.encode()) else EXPECTED_KEY
        refused = _documented("The key is missing or wrong", expected.format("none"))
        for operation in operations.values():
            if path in OPEN_PATHS:
                operation["security"] = []
            else:
                operation["responses"]["401"] = refused


def _documented(description: str, detail: str) -> dict[str, Any]:
    """Return the documentation of a refusal."""
    return {
        "description": description,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ErrorReply"},
                "example": {"detail": detail},
            }
        },
    }
