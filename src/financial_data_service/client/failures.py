"""Replies that say no, as errors: each a ``ServiceError`` and, where there is one, its reason.

The classes here have the names of their second parents: whoever catches
``financial_data_service.SymbolNotFoundError`` need not care who did not find the symbol.
"""

from __future__ import annotations

import string
from http import HTTPStatus
from typing import Any

import msgspec

from financial_data_service import errors
from financial_data_service.client.steps import Lost, Reply
from financial_data_service.errors import (
    ServiceError,
    ServiceUnavailableError,
    UnauthorizedError,
    UnconfirmedError,
)

__all__ = ["complaint", "conflict", "lost", "never_heard", "refusal", "stranger"]


class InvalidBatchError(ServiceError, errors.InvalidBatchError):
    """The service refuses a batch; ``index`` is the position of the first unfit price, if any."""

    index: int | None = None


class InvalidSymbolError(ServiceError, errors.InvalidSymbolError):
    """The service refuses the name of a symbol."""


class WindowSizeError(ServiceError, errors.WindowSizeError):
    """The service does not keep such a window."""


class SymbolNotFoundError(ServiceError, errors.SymbolNotFoundError):
    """The service has no such symbol."""


class SymbolLimitError(ServiceError, errors.SymbolLimitError):
    """The service has as many symbols as it may keep."""


class SequenceConflictError(ServiceError, errors.SequenceConflictError):
    """A batch does not fit what is stored; ``sequence`` is where the next one would start."""

    sequence: int = 0


class InsufficientStorageError(ServiceError, errors.InsufficientStorageError):
    """The service has no room for a symbol's prices."""


# By status, where that alone says it.
_BY_STATUS: dict[int, type[ServiceError]] = {
    HTTPStatus.UNAUTHORIZED: UnauthorizedError,
    HTTPStatus.FORBIDDEN: UnauthorizedError,
    HTTPStatus.NOT_FOUND: SymbolNotFoundError,
    HTTPStatus.CONFLICT: SequenceConflictError,
    HTTPStatus.INSUFFICIENT_STORAGE: InsufficientStorageError,
}
UNAVAILABLE = frozenset((408, 429, 502, 503, 504))
"""Statuses of a service, or of a proxy before it, that may answer a moment later."""

_BY_TYPE = {"invalid_batch": InvalidBatchError, "invalid_symbol": InvalidSymbolError}


class _Refusal(msgspec.Struct):
    detail: str | list[dict[str, Any]]
    sequence: int = 0


def refusal(reply: Reply, url: str) -> ServiceError:
    """Return the error for a reply that is not a good one.

    Parameters
    ----------
    reply : Reply
        Of any status but 2xx.
    url : str
        What was asked, for the message.
    """
    if reply.status in UNAVAILABLE:
        return _unavailable(reply, url)
    try:
        body = msgspec.json.decode(reply.content, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if _BY_STATUS.get(reply.status) is UnauthorizedError:  # A proxy's own, or a handshake.
            return UnauthorizedError("Expected a key that is known there", reply.status, url)
        return stranger(url, reply.status)
    if isinstance(body.detail, list):
        return _invalid(body.detail, reply.status, url)
    if reply.status == HTTPStatus.NOT_FOUND and body.detail == HTTPStatus.NOT_FOUND.phrase:
        return stranger(url, reply.status)  # A framework's word for a route that is unknown.
    error = _kind(reply.status, body.detail)(body.detail, reply.status, url)
    if isinstance(error, SequenceConflictError):
        error.sequence = body.sequence
    return error


def lost(outcome: Lost, url: str, *, is_in_doubt: bool) -> ServiceUnavailableError:
    """Return the error for a request without an answer.

    Parameters
    ----------
    outcome : Lost
        What became of the last try.
    url : str
        What was asked.
    is_in_doubt : bool
        Whether the request may have changed something.
    """
    if is_in_doubt:
        detail = f"{outcome.detail} The request may have been carried out or not."
        return UnconfirmedError(detail, None, url)
    return ServiceUnavailableError(outcome.detail, None, url)


def never_heard(outcome: Lost, url: str) -> str:
    """Return what became of a request of a service that has never answered, and what may be amiss.

    Parameters
    ----------
    outcome : Lost
        What became of the last try.
    url : str
        Of the service.
    """
    if not outcome.is_mute:
        return outcome.detail
    return f"{outcome.detail} Perhaps it is https{url.removeprefix('http')}."


def conflict(detail: str, sequence: int, url: str) -> SequenceConflictError:
    """Return the error for a conflict that the client has noticed itself."""
    error = SequenceConflictError(detail, None, url)
    error.sequence = sequence
    return error


def stranger(url: str, status: int | None = None) -> ServiceError:
    """Return the error for an answer that the service would not give."""
    return ServiceError("The answer is not one of a financial-data-service", status, url)


def _unavailable(reply: Reply, url: str) -> ServiceError:
    detail = f"The service is not available now: {_phrase(reply)}"
    return ServiceUnavailableError(detail, reply.status, url)


def _phrase(reply: Reply) -> str:
    try:
        detail = msgspec.json.decode(reply.content, type=_Refusal).detail
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return HTTPStatus(reply.status).phrase
    return detail if isinstance(detail, str) else HTTPStatus(reply.status).phrase


def _kind(status: int, detail: str) -> type[ServiceError]:
    # Two reasons share 422 and 400 with the plain mistakes of a request.
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and "window" in detail.lower():
        return WindowSizeError
    if status == HTTPStatus.BAD_REQUEST and detail.startswith("Maximum number of symbols"):
        return SymbolLimitError
    return _BY_STATUS.get(status, ServiceError)


def _invalid(items: list[dict[str, Any]], status: int, url: str) -> ServiceError:
    detail = "; ".join(map(complaint, items))
    kind = _BY_TYPE.get(items[0].get("type", ""), ServiceError) if items else ServiceError
    error = kind(detail, status, url)
    location = items[0].get("loc") if items else None
    if isinstance(error, InvalidBatchError) and location and isinstance(location[-1], int):
        error.index = location[-1]
    return error


def complaint(item: dict[str, Any]) -> str:
    """Put one entry of a 422 reply into words: ``values[3]: Input should be a valid number``."""
    location = [part for part in item.get("loc", []) if part not in ("body", "query", "path")]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    place, message = place.lstrip("."), str(item.get("msg")).rstrip(string.whitespace)
    # The service's own messages say where; those of its framework do not.
    return message if not place or f"`{place}" in message else f"{place}: {message}"
