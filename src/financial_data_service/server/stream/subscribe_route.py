"""``WS /stream``: subscriptions and their updates."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, WebSocket

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.stream.channel import deny, run_connection
from financial_data_service.server.stream.feeds import Subscriber
from financial_data_service.server.stream.handshake import API_KEY, invalid_query
from financial_data_service.server.stream.hub import Hub
from financial_data_service.server.stream.outbox import Outbox
from financial_data_service.server.stream.session import (
    Action,
    SessionReply,
    StreamSession,
    update_message,
)
from financial_data_service.settings import Settings

__all__ = ["RETRY_AFTER", "add_stream_route", "full"]

RETRY_AFTER = "5"  # seconds


def full(settings: Settings) -> str:
    """Return the refusal for a client beyond the maximum number."""
    return (
        f"Expected {settings.stream_connections_max} streams at most in this process; "
        "try again later"
    )


def add_stream_route(
    router: APIRouter, settings: Settings, manager: SymbolManager, hub: Hub
) -> None:
    """Add ``/stream``, which needs a WebSocket."""

    @router.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        """Send a client its subscriptions until either side closes."""
        if (invalid := invalid_query(websocket, API_KEY)) is not None:
            await deny(websocket, 422, [invalid])
            return
        if hub.is_full:
            await deny(websocket, 503, full(settings), retry_after=RETRY_AFTER)
            return
        session = StreamSession(
            manager.largest_window,
            settings.stream_subscriptions_max,
            settings.stream_message_bytes_max,
        )
        outbox = Outbox()
        subscriber = hub.join(outbox, update_message)

        def handle(message: str | bytes) -> None:
            answer = session.receive(message)
            outbox.put(answer.text)
            _follow(hub, subscriber, answer)

        try:
            await run_connection(websocket, outbox, handle)
        finally:
            hub.leave(subscriber)

    @router.get("/stream", include_in_schema=False)
    async def stream_without_websocket() -> None:
        """Answer a request without a WebSocket with what is missing."""
        raise HTTPException(
            426,
            "Expected a WebSocket handshake; server-sent events are at /stats/{symbol}/{k}/events",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )


def _follow(hub: Hub, subscriber: Subscriber, answer: SessionReply) -> None:
    """Do what follows from a reply."""
    for action, subscription in answer.changes:
        if action is Action.SUBSCRIBE:
            hub.subscribe(subscriber, subscription)
        elif action is Action.CHANGE_INTERVAL:
            hub.change_interval(subscriber, subscription)
        else:
            hub.unsubscribe(subscriber, subscription)
    if answer.close_code is not None:
        subscriber.outbox.close(answer.close_code, "see the error")
