"""The path prefix of a proxy, whether the proxy keeps it in requests or removes it.

With ``--root-path /fds``, ``GET /fds/stats/AAPL/3`` (kept) and ``GET /stats/AAPL/3`` (removed) are
the same request. ASGI servers assume that the proxy removed the prefix, and add it to every path
again.
"""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ROUTE_NAMES", "ProxyPrefix", "ProxyPrefixMiddleware"]

ROUTE_NAMES = frozenset(
    (
        *("add_batch", "ingest", "livez", "metrics", "readyz", "static", "stats", "stream"),
        *("symbols", "values", "verify"),
        *("asyncapi.yaml", "docs", "docs-assets", "favicon.ico", "openapi.json", "redoc"),
    )
)
"""The first path segments of all routes.

If the prefix begins with one of them, a path with the prefix looks like a route. In that case the
proxy must remove the prefix.
"""


class ProxyPrefix:
    """Removes the prefix from a path that has it.

    Parameters
    ----------
    root_path : str
        The prefix, decoded, such as ``/fds``; empty for none.
    """

    def __init__(self, root_path: str) -> None:
        self._root_path = root_path
        self._depth = root_path.count("/")
        first = root_path.split("/")[1] if root_path else ""
        self._can_be_kept = bool(root_path) and first not in ROUTE_NAMES

    def remove(self, path: bytes) -> bytes:
        """Return a path as a proxy that removes the prefix would send it.

        Parameters
        ----------
        path : bytes
            As in the request line, percent-encoded, without a query.
        """
        if not self._can_be_kept:
            return path
        # Compared decoded: proxies encode a path in different ways.
        *prefix, rest = path.split(b"/", self._depth + 1)
        if len(prefix) == self._depth:  # There is nothing behind the prefix.
            prefix, rest = [*prefix, rest], b""
        is_kept = len(prefix) == self._depth + 1 and all(
            unquote(each.decode("ascii", "replace")) == name
            for each, name in zip(prefix, self._root_path.split("/"), strict=True)
        )
        return b"/" + rest if is_kept else path


class ProxyPrefixMiddleware:
    """Pure ASGI middleware after which every request looks as if the prefix was removed."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self._root_path = root_path
        self._prefix = ProxyPrefix(root_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Its path contains the prefix exactly once."""
        if scope["type"] in ("http", "websocket") and scope.get("root_path") == self._root_path:
            root_path = self._root_path.encode()
            sent = (scope.get("raw_path") or b"").removeprefix(root_path)
            path = self._prefix.remove(sent)
            if path != sent:
                scope["raw_path"] = root_path + path
                scope["path"] = self._root_path + unquote(path.decode("ascii"))
        await self.app(scope, receive, send)
