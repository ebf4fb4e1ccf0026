"""Refusals that a middleware sends by itself, as an HTTP reply or as a denied handshake."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from financial_data_service.server.formats.json_encoder import encode

__all__ = ["refusal", "refuse"]

_NOT_ALLOWED = 1008  # close code for servers that cannot answer a handshake with a reply
_DENIAL = "websocket.http.response"  # the ASGI extension with which they can


def refusal(status: int, detail: str, headers: dict[str, str]) -> Response:
    """Return an error reply in the shape of all others."""
    return Response(encode({"detail": detail}), status, headers, media_type="application/json")


async def refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a refusal of a request or a handshake.

    A server that cannot answer a handshake with a reply sends a bare 403.
    """
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if _DENIAL not in scope.get("extensions", ()):
            await send({"type": "websocket.close", "code": _NOT_ALLOWED})
            return
    await response(scope, receive, send)
