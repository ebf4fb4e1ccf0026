"""Statistics pushed as they change, and prices streamed in: WebSocket and server-sent events.

``hub`` holds the subscriptions. ``delivery`` decides what is sent and when. ``session`` and
``lifecycle`` implement the protocol without a socket. The ``*_route`` modules connect it to
WebSockets and HTTP. It may import ``api``, ``formats`` and what lies below them. A new command,
message or stream goes here, and into ``docs/asyncapi.yaml``.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.stream.events_route import add_events_route
from financial_data_service.server.stream.hub import Hub
from financial_data_service.server.stream.ingest_route import add_ingest_route
from financial_data_service.server.stream.subscribe_route import add_stream_route
from financial_data_service.settings import Settings

__all__ = ["router_for"]


def router_for(settings: Settings, manager: SymbolManager, hub: Hub) -> APIRouter:
    """Return the routes, and the AsyncAPI document.

    It describes the routes that OpenAPI cannot describe.
    """
    router = APIRouter()
    add_stream_route(router, settings, manager, hub)
    add_ingest_route(router, settings, manager, hub)
    add_events_route(router, settings, manager, hub)
    document = files(__name__).joinpath("asyncapi.yaml").read_bytes()

    @router.get("/asyncapi.yaml", include_in_schema=False)
    async def asyncapi() -> Response:
        """Return the AsyncAPI document."""
        return Response(document, media_type="application/yaml")

    return router
