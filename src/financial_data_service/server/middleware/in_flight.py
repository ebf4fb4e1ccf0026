"""The limit of requests in flight: 429 beyond it."""

from __future__ import annotations

from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from financial_data_service.server.middleware.observation import is_event_stream
from financial_data_service.server.middleware.refusal import refusal
from financial_data_service.server.telemetry.metrics import Metrics

__all__ = []

ALWAYS_ANSWERED = frozenset(("/livez", "/readyz", "/metrics"))
"""Paths without the limit.

Otherwise a process manager would restart a busy service, and Prometheus would report it as down.
"""


class InFlightMiddleware:
    """Answers 429 at once if too many requests are in progress.

    WebSockets and event streams have separate limits. A request for an event stream counts as in
    progress until the stream begins.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, in_flight_max: int) -> None:
        self.app = app
        self._metrics = metrics
        self._in_flight_max = in_flight_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on if there is room."""
        if scope["type"] != "http" or get_route_path(scope) in ALWAYS_ANSWERED:
            await self.app(scope, receive, send)
            return
        metrics = self._metrics
        if metrics.in_flight >= self._in_flight_max:
            detail = too_many(self._in_flight_max)
            await refusal(429, detail, {"retry-after": "1"})(scope, receive, send)
            return
        counted = 1

        def release() -> None:
            nonlocal counted
            metrics.in_flight -= counted
            counted = 0

        async def pass_on(message: Message) -> None:
            if message["type"] == "http.response.start" and is_event_stream(message):
                release()
            await send(message)

        metrics.in_flight += 1
        try:
            await self.app(scope, receive, pass_on)
        finally:
            release()


def too_many(in_flight_max: int) -> str:
    return f"Expected {in_flight_max} requests under way at most; ask again later"
