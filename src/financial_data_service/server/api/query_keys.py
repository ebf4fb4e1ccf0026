"""Check that a query contains only keys that the route knows, each at most once.

FastAPI ignores unknown keys and takes the last of repeated ones. A misspelt ``from_sequence`` would
store prices a second time without notice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

__all__ = ["errors_of", "only_known_keys"]

_ERRORS_MAX = 8  # reported at most
_KEY_SHOWN_MAX = 64  # characters


async def only_known_keys(request: Request) -> None:
    """Refuse a query with a key that the route does not know, or with one twice (dependency).

    Raises
    ------
    RequestValidationError
        When the query has such a key. The message names the wrong keys and the keys that the route
        knows.
    """
    query = request.scope["query_string"]
    if not query:
        return
    errors = errors_of(query, list(dict.fromkeys(_keys_of(request.scope["route"].dependant))))
    if errors:
        raise RequestValidationError(errors)


def errors_of(query: bytes, known: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is wrong with the keys of a query, as items of a 422, if anything is.

    No value is quoted: it may be an API key.
    """
    # As Starlette reads it.
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    errors = [
        _error(key, times, known)
        for key, times in Counter(key for key, _ in pairs).items()
        if times > 1 or key not in known
    ]
    return errors[:_ERRORS_MAX]


def _keys_of(dependant: Dependant) -> Iterator[str]:
    """Yield the keys that a route or one of its dependencies takes from the query."""
    yield from (field.alias for field in dependant.query_params)
    for dependency in dependant.dependencies:
        yield from _keys_of(dependency)


def _error(key: str, times: int, known: Sequence[str]) -> dict[str, Any]:
    shown = key if len(key) <= _KEY_SHOWN_MAX else key[:_KEY_SHOWN_MAX] + "…"
    if key in known:
        kind, message = "query_key_twice", f"Expected `{key}` once, got it {times} times"
    else:
        names = " or ".join(f"`{name}`" for name in known)
        expected = f"no query key but {names}" if known else "no query"
        kind, message = "query_key_unknown", f"Expected {expected}, got `{shown}`"
    return {"type": kind, "loc": ("query", shown), "msg": message, "input": None}
