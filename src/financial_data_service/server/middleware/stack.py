"""Which middleware there is, in which order, and why."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from financial_data_service.server.middleware.api_key import ApiKey, ApiKeyMiddleware
from financial_data_service.server.middleware.in_flight import InFlightMiddleware
from financial_data_service.server.middleware.openapi_refusals import document_refusals
from financial_data_service.server.middleware.websocket_origin import WebSocketOriginMiddleware
from financial_data_service.server.telemetry.metrics import Metrics
from financial_data_service.settings import Settings

__all__ = ["add_access_control"]

PREFLIGHT_SECONDS = 600  # for which a browser may cache a preflight reply


def add_access_control(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Add the middleware that the settings ask for. What is added last is outermost."""
    app.add_middleware(InFlightMiddleware, metrics=metrics, in_flight_max=settings.in_flight_max)
    if settings.api_key is not None:
        app.add_middleware(ApiKeyMiddleware, api_key=ApiKey(settings.api_key))
    document_refusals(app, settings)
    app.add_middleware(WebSocketOriginMiddleware, origins=frozenset(settings.cors_origins))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=(
                *("Authorization", "Content-Type", "Last-Event-ID", "X-API-Key", "X-Request-ID"),
            ),
            expose_headers=("Retry-After", "X-First", "X-Request-ID", "X-Sequence"),
            max_age=PREFLIGHT_SECONDS,
        )
