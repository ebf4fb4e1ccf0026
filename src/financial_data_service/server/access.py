"""Who may ask, and how many at once: API key, origin of WebSockets, requests in flight.

All of it is plain ASGI middleware; :mod:`~financial_data_service.server.observing` says in which
order it stands and why. The fast lane asks the same :class:`ApiKey` when it judges a head.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI
from pydantic import SecretStr
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from financial_data_service.server.metrics import Metrics
from financial_data_service.server.observing import is_event_stream
from financial_data_service.server.paths import raw_route_path
from financial_data_service.server.replies import encode
from financial_data_service.settings import Settings

__all__ = ["ApiKey", "add_access_control", "document_refusals"]

PREFLIGHT_SECONDS = 600  # for which a browser need not ask again

_NOT_ALLOWED = 1008  # the close code, for servers that cannot answer a handshake with a reply
_DENIAL = "websocket.http.response"  # the extension of ASGI by which they can

# What shows nothing of the prices: probes, pages, and what the pages are made of.
_OPEN_PATHS = frozenset(
    (
        *("/", "/livez", "/readyz", "/favicon.ico"),
        *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/asyncapi.yaml"),
    )
)
_OPEN_DIRECTORIES = ("/docs-assets/", "/static/")

_ALWAYS_ANSWERED = frozenset(("/livez", "/readyz", "/metrics"))
"""Else a supervisor would restart a service for being busy, and Prometheus would call it dead."""

_EXPECTED_KEY = "Expected the API key as `X-API-Key: …` or `Authorization: Bearer …`, got {}"
_EXPECTED_KEY_OR_QUERY = (
    "Expected the API key as `X-API-Key: …`, `Authorization: Bearer …` or `?api_key=…`, got {}"
)

_STRANGE_PAGE = (
    "Expected a page of this service or of one of the origins that are allowed (`--cors-origins`)"
)

# A browser can set no header on these two, so that the key may stand in the query. The path is as
# it was sent: an encoded slash belongs to a symbol and parts nothing.
_EVENTS = re.compile(rb"/stats/[^/]+/[^/]+/events")


class ApiKey:
    """The key that requests must carry.

    Parameters
    ----------
    key : SecretStr
        The right one.
    """

    def __init__(self, key: SecretStr) -> None:
        self._key = key.get_secret_value().encode("ascii")

    def is_right(self, key: bytes) -> bool:
        """Tell whether a key is the right one, in a time that does not tell how much of it is."""
        return hmac.compare_digest(key, self._key)

    def admits(self, keys: Iterable[bytes], authorizations: Iterable[bytes]) -> bool:
        """Tell whether one of the values of ``X-API-Key`` or ``Authorization`` is the right key.

        White space around a value is no part of it (RFC 9110, 5.5); the parser leaves it behind.
        """
        tokens = [value[7:] for value in authorizations if value[:7].lower() == b"bearer "]
        given = [value.strip(b" \t") for value in (*keys, *tokens)]
        return any([self.is_right(key) for key in given])  # noqa: C419  # all of them


def document_refusals(app: FastAPI, settings: Settings) -> None:
    """Have the OpenAPI document say what any operation may be answered before its route is asked.

    That is 429, and if there is a key 401, and how the key is sent.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None  # It is generated once.
        document = generate()
        if is_new:
            _add_limit(document, settings.in_flight_max)
            if settings.api_key is not None:
                _add_security(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_limit(document: dict[str, Any], in_flight_max: int) -> None:
    refused = _documented("Too many requests are under way", _too_many(in_flight_max))
    refused["headers"] = {
        "Retry-After": {
            "description": "Seconds after which to ask again.",
            "schema": {"type": "integer"},
        }
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path not in _ALWAYS_ANSWERED:
                operation["responses"]["429"] = refused


def _add_security(document: dict[str, Any]) -> None:
    document.setdefault("components", {})["securitySchemes"] = {
        "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    document["security"] = [{"ApiKey": []}, {"Bearer": []}]
    for path, operations in document["paths"].items():
        expected = _EXPECTED_KEY_OR_QUERY if _EVENTS.fullmatch(path.encode()) else _EXPECTED_KEY
        refused = _documented("The key is missing or wrong", expected.format("none"))
        for operation in operations.values():
            if path in _OPEN_PATHS:
                operation["security"] = []
            else:
                operation["responses"]["401"] = refused


def _documented(description: str, detail: str) -> dict[str, Any]:
    """Return the documentation of a refusal."""
    return {
        "description": description,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ErrorReply"},
                "example": {"detail": detail},
            }
        },
    }


def add_access_control(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Add what these settings ask for; what is added last stands outermost."""
    app.add_middleware(InFlightMiddleware, metrics=metrics, in_flight_max=settings.in_flight_max)
    if settings.api_key is not None:
        app.add_middleware(ApiKeyMiddleware, api_key=ApiKey(settings.api_key))
    document_refusals(app, settings)
    app.add_middleware(WebSocketOriginMiddleware, origins=frozenset(settings.cors_origins))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=(
                *("Authorization", "Content-Type", "Last-Event-ID", "X-API-Key", "X-Request-ID"),
            ),
            expose_headers=("Retry-After", "X-First", "X-Request-ID", "X-Sequence"),
            max_age=PREFLIGHT_SECONDS,
        )


class ApiKeyMiddleware:
    """Lets through who carries the key, and whoever asks for what is open to all."""

    def __init__(self, app: ASGIApp, api_key: ApiKey) -> None:
        self.app = app
        self._api_key = api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or refuse it before anything of it is read."""
        if scope["type"] not in ("http", "websocket") or self._admits(scope):
            await self.app(scope, receive, send)
        else:
            headers = {"www-authenticate": 'Bearer realm="financial-data-service"'}
            await _refuse(_refusal(401, _refused_because(scope), headers), scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        path = get_route_path(scope)
        if scope["type"] == "http" and (path in _OPEN_PATHS or path.startswith(_OPEN_DIRECTORIES)):
            return True
        headers = Headers(scope=scope)
        keys = [value.encode("latin-1") for value in headers.getlist("x-api-key")]
        if _may_carry_key_in_query(scope):
            keys += _keys_in_query(scope["query_string"])
        authorizations = [value.encode("latin-1") for value in headers.getlist("authorization")]
        return self._api_key.admits(keys, authorizations)


class WebSocketOriginMiddleware:
    """Refuses WebSockets that a page of another origin opens, unless that origin is allowed.

    A browser lets any page open a WebSocket to any server, this machine's own among them, and CORS
    does not apply; it does say in ``Origin`` which page it was. Programs send none.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self.app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand all on but WebSockets of strange pages."""
        if scope["type"] == "websocket" and not self._is_allowed(Headers(scope=scope)):
            await _refuse(_refusal(403, _STRANGE_PAGE, {}), scope, receive, send)
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
        # The scheme may be that of a proxy.
        return host == headers.get("host")


class InFlightMiddleware:
    """Answers 429 at once when too many requests are under way.

    WebSockets and streams of events have limits of their own; a stream counts until it begins.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, in_flight_max: int) -> None:
        self.app = app
        self._metrics = metrics
        self._in_flight_max = in_flight_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on if there is room."""
        if scope["type"] != "http" or get_route_path(scope) in _ALWAYS_ANSWERED:
            await self.app(scope, receive, send)
            return
        metrics = self._metrics
        if metrics.in_flight >= self._in_flight_max:
            detail = _too_many(self._in_flight_max)
            await _refusal(429, detail, {"retry-after": "1"})(scope, receive, send)
            return
        counted = 1

        def let_go() -> None:
            nonlocal counted
            metrics.in_flight -= counted
            counted = 0

        async def pass_on(message: Message) -> None:
            if message["type"] == "http.response.start" and is_event_stream(message):
                let_go()
            await send(message)

        metrics.in_flight += 1
        try:
            await self.app(scope, receive, pass_on)
        finally:
            let_go()


def _refusal(status: int, detail: str, headers: dict[str, str]) -> Response:
    return Response(encode({"detail": detail}), status, headers, media_type="application/json")


def _too_many(in_flight_max: int) -> str:
    return f"Expected {in_flight_max} requests under way at most; ask again later"


async def _refuse(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request or a handshake; a server that takes no reply to one makes it a bare 403."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if _DENIAL not in scope.get("extensions", ()):
            await send({"type": "websocket.close", "code": _NOT_ALLOWED})
            return
    await refusal(scope, receive, send)


def _refused_because(scope: Scope) -> str:
    headers = Headers(scope=scope)
    is_given = "x-api-key" in headers or "authorization" in headers
    expected = _EXPECTED_KEY
    if _may_carry_key_in_query(scope):
        is_given = is_given or bool(_keys_in_query(scope["query_string"]))
        expected = _EXPECTED_KEY_OR_QUERY
    return expected.format("another" if is_given else "none")


def _may_carry_key_in_query(scope: Scope) -> bool:
    return scope["type"] == "websocket" or _EVENTS.fullmatch(raw_route_path(scope)) is not None


def _keys_in_query(query: Any) -> list[bytes]:
    values = parse_qs(query.decode("latin-1")).get("api_key", [])
    return [value.encode("utf-8", "replace") for value in values]
