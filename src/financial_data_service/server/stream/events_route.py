"""Server-sent events: the statistics of a window as they change, for browsers and curl.

The id of an event is its sequence. A browser that reconnects sends the id of the last event that it
received. It gets no event that it already has. An equal sequence counts as the same state, although
the symbol may have been deleted and created again meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.api import replies
from financial_data_service.server.api.openapi import events_replies
from financial_data_service.server.api.parameters import Integer, PathK, PathSymbol
from financial_data_service.server.formats.json_encoder import encode
from financial_data_service.server.middleware.head import HEAD_FLAG
from financial_data_service.server.stream.handshake import API_KEY, invalid_query
from financial_data_service.server.stream.hub import Hub
from financial_data_service.server.stream.outbox import Close, Outbox
from financial_data_service.server.stream.session import Kind
from financial_data_service.server.stream.subscribe_route import RETRY_AFTER, full
from financial_data_service.settings import Settings
from financial_data_service.windows import WindowStats
from financial_data_service.wire import (
    DEFAULT_INTERVAL_MS,
    INTERVAL_MS_MAX,
    Stream,
    SubscribedStream,
)

__all__ = ["KEEP_ALIVE_SECONDS", "add_events_route", "event_text"]

KEEP_ALIVE_SECONDS = 15.0
"""Maximum time without an event, in seconds.

After it, a comment is sent. Proxies close connections that are idle for 30 or 60 s.
"""

_DELETED = "deleted"
_DELETED_BEGIN = f"event: {_DELETED}\n"

_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would collect events until its buffer is full
}

_EVENTS = """\
Push the statistics of one window as they change: first what they are, then each change, at most one
an interval. The connection stays open; `curl -N` and a browser's `EventSource` read it.

An event `stats` contains the reply of `GET /stats/{symbol}/{k}`; its id is the sequence. A client
that reconnects with `Last-Event-ID` gets nothing until the sequence changes. A sequence does not
show whether the symbol was deleted and created again meanwhile. If that may happen, reconnect
without `Last-Event-ID`: the stream then begins with the current statistics. When the symbol is
deleted, an event `deleted` is sent and the stream ends.
"""


def event_text(symbol: str, k: int, kind: Kind, answer: WindowStats | None) -> str:
    """Return the event for a window; the statistics are None for a deleted symbol."""
    if answer is None:
        data = encode({"symbol": symbol, "k": k}).decode()
        return format_sse_event(data_str=data, event=_DELETED).decode()
    data = replies.stats(symbol, k, answer).decode()
    return format_sse_event(data_str=data, event="stats", id=str(answer.sequence)).decode()


def add_events_route(
    router: APIRouter, settings: Settings, manager: SymbolManager, hub: Hub
) -> None:
    """Add ``/stats/{symbol}/{k}/events``."""

    @router.get(
        "/stats/{symbol}/{k}/events",
        tags=["streams"],
        summary="Statistics of one window, pushed as they change",
        description=_EVENTS,
        response_class=StreamingResponse,
        responses=events_replies(settings, full(settings)),
    )
    async def window_events(
        request: Request,
        symbol: PathSymbol,
        k: PathK,
        interval: Annotated[
            Integer,
            Query(
                ge=0,
                le=INTERVAL_MS_MAX,
                description="Milliseconds between events at least; 0 is every batch.",
                examples=[250],
            ),
        ] = DEFAULT_INTERVAL_MS,
        last_event_id: Annotated[
            str | None,
            Header(description="The id of the last event that was seen.", examples=["3"]),
        ] = None,
    ) -> Response:
        """Answer with a stream of events that ends with the symbol, the client or the server.

        Raises
        ------
        RequestValidationError, SymbolNotFoundError, WindowSizeError, HTTPException
            When the query is invalid, there is no such window, or the hub is full (503).
        """
        if (invalid := invalid_query(request, "interval", API_KEY)) is not None:
            raise RequestValidationError([invalid])
        manager.stats(symbol, k)  # It says what is wrong with either.
        if HEAD_FLAG in request.scope:
            return Response(headers=_HEADERS)
        if hub.is_full:
            raise HTTPException(503, full(settings), {"Retry-After": RETRY_AFTER})
        subscription = SubscribedStream(Stream(symbol, k), interval)
        events = _events(hub, subscription, _seen(last_event_id))
        return StreamingResponse(events, headers=_HEADERS)


async def _events(hub: Hub, subscription: SubscribedStream, seen: int | None) -> AsyncIterator[str]:
    """Yield events until the symbol is deleted, the server stops or the client leaves."""
    outbox = Outbox()
    subscriber = hub.join(outbox, event_text)
    try:
        hub.subscribe(subscriber, subscription, seen)
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    item = await outbox.take()
            except TimeoutError:
                yield KEEPALIVE_COMMENT.decode()
                continue
            if isinstance(item, Close):
                return
            yield item
            if item.startswith(_DELETED_BEGIN):
                return
    finally:
        hub.leave(subscriber)


def _seen(last_event_id: str | None) -> int | None:
    """Return the sequence that a client has seen; an invalid id counts as none."""
    if last_event_id is None or not last_event_id.isascii() or not last_event_id.isdigit():
        return None
    return int(last_event_id[:19])
