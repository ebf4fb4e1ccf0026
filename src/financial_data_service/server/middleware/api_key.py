"""The API key: which requests need it, and the check of it.

The fast lane uses the same :class:`ApiKey` when it classifies a head.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from pydantic import SecretStr
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from financial_data_service.server.middleware.encoded_slash import raw_route_path
from financial_data_service.server.middleware.refusal import refusal, refuse

__all__ = ["ApiKey"]

# Paths that need no key, because their replies contain no prices: probes, pages and the files of
# the pages.
OPEN_PATHS = frozenset(
    (
        *("/", "/livez", "/readyz", "/favicon.ico"),
        *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/asyncapi.yaml"),
    )
)
_OPEN_DIRECTORIES = ("/docs-assets/", "/static/")

EXPECTED_KEY = "Expected the API key as `X-API-Key: …` or `Authorization: Bearer …`, got {}"
EXPECTED_KEY_OR_QUERY = (
    "Expected the API key as `X-API-Key: …`, `Authorization: Bearer …` or `?api_key=…`, got {}"
)

# A browser cannot set a header for these two kinds of request, so the key may be in the query. The
# raw path is matched, because an encoded slash belongs to a symbol.
EVENTS_PATH = re.compile(rb"/stats/[^/]+/[^/]+/events")


class ApiKey:
    """The key that requests must carry.

    Parameters
    ----------
    key : SecretStr
        The key.
    """

    def __init__(self, key: SecretStr) -> None:
        self._key = key.get_secret_value().encode("ascii")

    def is_right(self, key: bytes) -> bool:
        """Whether a key is the right one. The comparison takes constant time."""
        return hmac.compare_digest(key, self._key)

    def admits(self, keys: Iterable[bytes], authorizations: Iterable[bytes]) -> bool:
        """Tell whether one of the values of ``X-API-Key`` or ``Authorization`` is the right key.

        White space around a value is no part of it (RFC 9110, 5.5); the parser leaves it behind.
        """
        tokens = [value[7:] for value in authorizations if value[:7].lower() == b"bearer "]
        given = [value.strip(b" \t") for value in (*keys, *tokens)]
        return any([self.is_right(key) for key in given])  # noqa: C419  # all of them


class ApiKeyMiddleware:
    """Passes requests that carry the key, and requests for open paths."""

    def __init__(self, app: ASGIApp, api_key: ApiKey) -> None:
        self.app = app
        self._api_key = api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or refuse it before anything of it is read."""
        if scope["type"] not in ("http", "websocket") or self._admits(scope):
            await self.app(scope, receive, send)
        else:
            headers = {"www-authenticate": 'Bearer realm="financial-data-service"'}
            await refuse(refusal(401, _refused_because(scope), headers), scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        path = get_route_path(scope)
        if scope["type"] == "http" and (path in OPEN_PATHS or path.startswith(_OPEN_DIRECTORIES)):
            return True
        headers = Headers(scope=scope)
        keys = [value.encode("latin-1") for value in headers.getlist("x-api-key")]
        if _may_carry_key_in_query(scope):
            keys += _keys_in_query(scope["query_string"])
        authorizations = [value.encode("latin-1") for value in headers.getlist("authorization")]
        return self._api_key.admits(keys, authorizations)


def _refused_because(scope: Scope) -> str:
    headers = Headers(scope=scope)
    is_given = "x-api-key" in headers or "authorization" in headers
    expected = EXPECTED_KEY
    if _may_carry_key_in_query(scope):
        is_given = is_given or bool(_keys_in_query(scope["query_string"]))
        expected = EXPECTED_KEY_OR_QUERY
    return expected.format("another" if is_given else "none")


def _may_carry_key_in_query(scope: Scope) -> bool:
    return scope["type"] == "websocket" or EVENTS_PATH.fullmatch(raw_route_path(scope)) is not None


def _keys_in_query(query: Any) -> list[bytes]:
    values = parse_qs(query.decode("latin-1")).get("api_key", [])
    return [value.encode("utf-8", "replace") for value in values]
