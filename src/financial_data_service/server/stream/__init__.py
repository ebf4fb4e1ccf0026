"""Statistics pushed as they change, and prices streamed in: WebSocket and server-sent events."""

from __future__ import annotations

from fastapi import APIRouter

from financial_data_service.settings import Settings

__all__ = ["router_for"]


def router_for(settings: Settings) -> APIRouter:
    """Return the routes."""
    return APIRouter()
