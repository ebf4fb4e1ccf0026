"""Refusals that a middleware sends by itself, as an HTTP reply or as a denied handshake."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from financial_data_service.server.formats.json_encoder import encode

__all__ = []

_NOT_ALLOWED = 1008  # the close code, for servers that cannot answer a handshake with a reply
_DENIAL = "websocket.http.response"  # the extension of ASGI by which they can


def _refusal(status: int, detail: str, headers: dict[str, str]) -> Response:
    return Response(encode({"detail": detail}), status, headers, media_type="application/json")


async def _refuse(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request or a handshake; a server that takes no reply to one makes it a bare 403."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if _DENIAL not in scope.get("extensions", ()):
            await send({"type": "websocket.close", "code": _NOT_ALLOWED})
            return
    await refusal(scope, receive, send)
