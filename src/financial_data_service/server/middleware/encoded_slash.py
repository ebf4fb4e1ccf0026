"""An encoded slash in a path stays part of its segment.

ASGI servers decode a path before it is routed, so an encoded slash looks like a separator. This
middleware decodes each segment by itself, and replaces an encoded slash by a character that no
symbol may contain. :mod:`~financial_data_service.server.api.symbol_path` puts the slash back.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["EncodedSlashMiddleware", "raw_route_path"]

SLASH_STAND_IN = "\x00"
_OTHER_CONTROL = "\x01"  # also invalid in a symbol
ENCODED_SLASH_FLAG = "financial_data_service.encoded_slash"


class EncodedSlashMiddleware:
    """Pure ASGI middleware that keeps ``%2F`` in a path from separating segments."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, its path decoded segment by segment where that matters."""
        raw_path = scope.get("raw_path") or b""
        if scope["type"] in ("http", "websocket") and (b"%2F" in raw_path or b"%2f" in raw_path):
            # No route of a symbol ends with a slash, and a redirect would name the stand-in.
            segments = raw_path.decode("ascii").rstrip("/").split("/")
            # Not a copy: the middleware outside reads the route that the router stores in the
            # scope.
            scope["path"] = "/".join(map(_decoded, segments))
            scope[ENCODED_SLASH_FLAG] = True
        await self.app(scope, receive, send)


def raw_route_path(scope: Scope) -> bytes:
    """Return the path of a request below the root path, as it was sent and not decoded."""
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    return raw_path.removeprefix(scope.get("root_path", "").encode())


def _decoded(segment: str) -> str:
    return unquote(segment).replace(SLASH_STAND_IN, _OTHER_CONTROL).replace("/", SLASH_STAND_IN)
