"""A content security policy for pages: they load nothing from other servers.

ReDoc shows a logo from a server of its maker, which would then know who reads the page. The policy
allows the browser to fetch from this server only.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ContentSecurityMiddleware"]

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src blob:; font-src 'self' data:; frame-ancestors 'none'"
)


class ContentSecurityMiddleware:
    """Pure ASGI middleware that adds a content security policy to HTML pages."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Add the policy to the reply if it is an HTML page."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["content-security-policy"] = _POLICY
            await send(message)

        await self.app(scope, receive, send_with_policy)
