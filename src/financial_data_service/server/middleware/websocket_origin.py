"""WebSockets are accepted from pages of allowed origins only."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from financial_data_service.server.middleware.refusal import refusal, refuse

__all__ = []

_STRANGE_PAGE = (
    "Expected a page of this service or of one of the origins that are allowed (`--cors-origins`)"
)


class WebSocketOriginMiddleware:
    """Refuses WebSockets that a page of another origin opens, unless it is allowed.

    A browser lets any page open a WebSocket to any server, this machine included, and CORS does not
    apply. The browser names the page in ``Origin``. Programs send no ``Origin``.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self.app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on except WebSockets from pages of other origins."""
        if scope["type"] == "websocket" and not self._is_allowed(Headers(scope=scope)):
            await refuse(refusal(403, _STRANGE_PAGE, {}), scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_allowed(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or "*" in self._origins or origin in self._origins:
            return True
        try:
            host = urlsplit(origin).netloc
        except ValueError:
            return False
        # Compare only the host, because a proxy may change the scheme.
        return host == headers.get("host")
