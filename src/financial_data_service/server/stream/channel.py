"""Runs one WebSocket connection: handles its messages and sends the texts in its outbox.

There are two tasks: the handler receives, another one sends. So a client that is slow to read a
reply does not delay the frames behind it until
:data:`~financial_data_service.server.stream.outbox.TEXTS_MAX` replies wait. Then nothing more is
read from that client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from fastapi import Response, WebSocket
from starlette.websockets import WebSocketDisconnect

from financial_data_service.server.formats.json_encoder import encode
from financial_data_service.server.stream.lifecycle import Event, Lifecycle, LifecycleState
from financial_data_service.server.stream.outbox import Close, Outbox

__all__ = ["deny", "run_connection"]

MESSAGES_IN_A_TURN = 32
"""Maximum number of messages of one client that are handled before other clients.

One read may contain thousands of small messages.
"""


async def deny(
    websocket: WebSocket, status: int, detail: str | Sequence[dict[str, Any]], **headers: str
) -> None:
    """Refuse a handshake with a status and a reason, as for an HTTP request."""
    lifecycle = Lifecycle()
    lifecycle.on(Event.REFUSE)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    body = encode({"detail": detail})
    await websocket.send_denial_response(
        Response(body, status, names, media_type="application/json")
    )


async def run_connection(
    websocket: WebSocket, outbox: Outbox, handle: Callable[[str | bytes], None]
) -> None:
    """Accept, handle messages and send the outbox until either side closes.

    Parameters
    ----------
    websocket : WebSocket
        Not yet accepted.
    outbox : Outbox
        Its texts are sent; closing it closes the connection.
    handle : callable
        Called with each message. It must not wait.
    """
    lifecycle = Lifecycle()
    await websocket.accept()
    lifecycle.on(Event.ACCEPT)
    sender = asyncio.create_task(_send_all(websocket, outbox, lifecycle))
    try:
        await _receive_all(websocket, outbox, lifecycle, handle)
    finally:
        sender.cancel()
        with suppress(asyncio.CancelledError):
            await sender


async def _receive_all(
    websocket: WebSocket,
    outbox: Outbox,
    lifecycle: Lifecycle,
    handle: Callable[[str | bytes], None],
) -> None:
    handled = 0
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            lifecycle.on(Event.DISCONNECT)
            return
        lifecycle.on(Event.RECEIVE)
        if lifecycle.state is LifecycleState.OPEN and not outbox.is_closing:
            text = message.get("text")
            handle(message["bytes"] if text is None else text)
        handled += 1
        if handled % MESSAGES_IN_A_TURN == 0:
            await asyncio.sleep(0)
        await outbox.room()


async def _send_all(websocket: WebSocket, outbox: Outbox, lifecycle: Lifecycle) -> None:
    try:
        while True:
            item = await outbox.take()
            if isinstance(item, Close):
                lifecycle.on(Event.CLOSE)
                await websocket.close(item.code, item.reason)
                return
            lifecycle.on(Event.SEND)
            await websocket.send_text(item)
    except WebSocketDisconnect:
        pass  # The other task notices it too.
    finally:
        outbox.abandon()
