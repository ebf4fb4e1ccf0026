"""Gives every request an id, logs it in the access log, and counts and times it.

The order of the middleware, from the outside in, and the reasons:

1. **Observation** sees every reply, those of the other middleware included, and gives the request
   its id.
2. **CORS**, if enabled. It is outside the API key check for two reasons. A page must be able to
read a refusal, and a preflight request carries no key. 3. **Origin of WebSockets**. This check
alone prevents a page of another site from opening a WebSocket. 4. **API key**, if set. It is
outside the limit, so requests without the key do not count as in progress. 5. **Requests in
progress**. 6. **Content security policy** and **encoded slashes** concern only pages and routes.

All of it is pure ASGI, so no reply is buffered before it is passed on. (Starlette's
``BaseHTTPMiddleware`` runs the application in a separate task behind a queue.) An event stream is
counted and logged when it begins, because it may last for days.
"""

from __future__ import annotations

import os
import re
import time
from contextvars import ContextVar
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from financial_data_service.server.telemetry.logs import AccessLog
from financial_data_service.server.telemetry.metrics import Metrics

__all__ = ["ObservationMiddleware", "is_event_stream", "request_id"]

CLIENT_HAS_GONE = 499  # nginx's code for a client that closed the connection before the reply

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""The characters allowed in a request id; UUIDs, trace ids and base64 fit.

The id is written to the log, so spaces, quotes and line ends are not allowed.
"""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being handled. The log adds it to each line."""


class ObservationMiddleware:
    """Pure ASGI middleware that counts, times and logs requests, and gives them ids.

    Parameters
    ----------
    app : ASGIApp
        The application inside.
    metrics : Metrics
        Receives counts and times.
    access_log : AccessLog, optional
        Receives a line per request.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, access_log: AccessLog | None) -> None:
        self.app = app
        self._metrics = metrics
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and note what becomes of it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        await _Observation(self._metrics, self._access_log, scope, send).follow(self.app, receive)


class _Observation:
    """One request.

    It lasts until the reply ends. For an endless reply, it lasts until the reply begins.
    """

    def __init__(
        self, metrics: Metrics, access_log: AccessLog | None, scope: Scope, send: Send
    ) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._scope = scope
        self._send = send
        self._target = _target(scope)  # Before other middleware changes the path.
        self._status = 0
        self._is_noted = False
        self._began = time.perf_counter_ns()
        self._id = _id_of(scope, made=access_log is not None)
        request_id.set(self._id)

    async def follow(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self._scope, receive, self._pass_on)
        except BaseException:
            self._status = self._status or 500
            raise
        finally:
            self._record(self._status or CLIENT_HAS_GONE)

    async def _pass_on(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self._status = message["status"]
            self._give_id_back(message)
        elif kind == "websocket.accept":
            self._give_id_back(message)
            self._record(101)
        elif kind == "websocket.close":
            self._record(403)  # Unless it was accepted before.
        await self._send(message)
        if kind == "http.response.start" and is_event_stream(message):
            self._record(self._status)

    def _give_id_back(self, message: Message) -> None:
        if self._id is not None:
            message.setdefault("headers", [])
            MutableHeaders(scope=message)["x-request-id"] = self._id

    def _record(self, status: int) -> None:
        if self._is_noted:
            return
        self._is_noted = True
        nanoseconds = time.perf_counter_ns() - self._began
        scope = self._scope
        method = scope.get("method", "WEBSOCKET")
        path = getattr(scope.get("route"), "path", None)
        self._metrics.count(method, path, status, nanoseconds)
        if self._access_log is not None:
            client = scope.get("client")
            self._access_log.note(
                f"{client[0]}:{client[1]}" if client else "",
                method,
                self._target,
                scope.get("http_version", "1.1"),
                status,
                nanoseconds,
                self._id,
            )


def is_event_stream(message: Message) -> bool:
    """Tell whether the head of a reply begins server-sent events."""
    content_type = Headers(raw=message.get("headers", [])).get("content-type", "")
    return content_type.startswith("text/event-stream")


def _id_of(scope: Scope, *, made: bool) -> str | None:
    """Return the request's own id if it is safe to log. Otherwise return a new id, or None."""
    carried = Headers(scope=scope).get("x-request-id")
    if carried is not None:
        carried = carried.strip(" \t")  # The parser leaves white space behind a value.
        if _REQUEST_ID.fullmatch(carried):
            return carried
    return os.urandom(16).hex() if made or carried is not None else None


def _target(scope: Scope) -> str:
    """Return path and query as they are logged: whatever is not plain is percent-encoded."""
    query = scope.get("query_string", b"").decode("ascii", "replace")
    return quote(scope["path"]) + ("?" + query if query else "")
