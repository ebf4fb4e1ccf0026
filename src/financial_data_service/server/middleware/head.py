"""``HEAD`` wherever there is ``GET``: the same head of the reply, without its body.

The router sees a ``GET``, so no route has to name both methods. The log, the counters and uvicorn
see a ``HEAD``. uvicorn sends no body for it.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEAD_FLAG", "HeadMiddleware"]

HEAD_FLAG = "financial_data_service.head"
"""Scope key that marks a ``HEAD`` request.

An endless reply checks it, because it must end after its head.
"""


class HeadMiddleware:
    """Pure ASGI middleware that answers ``HEAD`` as ``GET``, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, a ``HEAD`` as a ``GET``."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            scope["method"] = "HEAD"  # uvicorn decides by it whether a body follows.
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # Not a copy: the middleware outside reads the route that the router stores in the scope.
        scope["method"] = "GET"
        scope[HEAD_FLAG] = True
        try:
            await self.app(scope, receive, send_head)
        finally:
            scope["method"] = "HEAD"
