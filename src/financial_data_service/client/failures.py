"""Converts error replies to exceptions.

Each is a ``ServiceError`` and, if there is one, also the specific error class.

Each class here has the same name as its second base class. ``except
financial_data_service.SymbolNotFoundError`` catches both the local error and that of a service.
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

__all__ = ["complaint", "conflict", "first_contact_failed", "lost", "not_our_service", "refusal"]


class InvalidBatchError(ServiceError, errors.InvalidBatchError):
    """The service refuses a batch; ``index`` is the position of the first invalid price, if any."""

    index: int | None = None


class InvalidSymbolError(ServiceError, errors.InvalidSymbolError):
    """The service refuses the name of a symbol."""


class WindowSizeError(ServiceError, errors.WindowSizeError):
    """The service has no such window."""


class SymbolNotFoundError(ServiceError, errors.SymbolNotFoundError):
    """The service has no such symbol."""


class SymbolLimitError(ServiceError, errors.SymbolLimitError):
    """The service has its maximum number of symbols."""


class SequenceConflictError(ServiceError, errors.SequenceConflictError):
    """A batch contradicts the stored prices.

    ``sequence`` is the number of prices ever appended to the symbol.
    """

    sequence: int = 0


class InsufficientStorageError(ServiceError, errors.InsufficientStorageError):
    """The service has no memory or disk space for the prices."""


# By status, where the status is enough.
_BY_STATUS: dict[int, type[ServiceError]] = {
    HTTPStatus.UNAUTHORIZED: UnauthorizedError,
    HTTPStatus.FORBIDDEN: UnauthorizedError,
    HTTPStatus.NOT_FOUND: SymbolNotFoundError,
    HTTPStatus.CONFLICT: SequenceConflictError,
    HTTPStatus.INSUFFICIENT_STORAGE: InsufficientStorageError,
}
UNAVAILABLE = frozenset((408, 429, 502, 503, 504))
"""Statuses, from the service or a proxy, that mean a retry may succeed."""

_BY_TYPE = {"invalid_batch": InvalidBatchError, "invalid_symbol": InvalidSymbolError}


class _Refusal(msgspec.Struct):
    detail: str | list[dict[str, Any]]
    sequence: int = 0


def refusal(reply: Reply, url: str) -> ServiceError:
    """Return the error for an error reply.

    Parameters
    ----------
    reply : Reply
        A reply whose status is not 2xx.
    url : str
        The request, for the message.
    """
    if reply.status in UNAVAILABLE:
        return _unavailable(reply, url)
    try:
        body = msgspec.json.decode(reply.content, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        if _BY_STATUS.get(reply.status) is UnauthorizedError:  # From a proxy, or a handshake.
            return UnauthorizedError("Expected a key that is known there", reply.status, url)
        return not_our_service(url, reply.status)
    if isinstance(body.detail, list):
        return _invalid(body.detail, reply.status, url)
    if reply.status == HTTPStatus.NOT_FOUND and body.detail == HTTPStatus.NOT_FOUND.phrase:
        return not_our_service(url, reply.status)  # The framework's message for an unknown route.
    error = _kind(reply.status, body.detail)(body.detail, reply.status, url)
    if isinstance(error, SequenceConflictError):
        error.sequence = body.sequence
    return error


def lost(outcome: Lost, url: str, *, is_in_doubt: bool) -> ServiceUnavailableError:
    """Return the error for a request without a reply.

    Parameters
    ----------
    outcome : Lost
        The outcome of the last attempt.
    url : str
        The request.
    is_in_doubt : bool
        Whether the request may have changed something.
    """
    if is_in_doubt:
        detail = f"{outcome.detail} The request may have been carried out or not."
        return UnconfirmedError(detail, None, url)
    return ServiceUnavailableError(outcome.detail, None, url)


def first_contact_failed(outcome: Lost, url: str) -> str:
    """Return what happened to a request, with a hint, if the service has never answered.

    Parameters
    ----------
    outcome : Lost
        The outcome of the last attempt.
    url : str
        URL of the service.
    """
    if not outcome.is_silent:
        return outcome.detail
    return f"{outcome.detail} Perhaps it is https{url.removeprefix('http')}."


def conflict(detail: str, sequence: int, url: str) -> SequenceConflictError:
    """Return the error for a conflict that the client detected itself."""
    error = SequenceConflictError(detail, None, url)
    error.sequence = sequence
    return error


def not_our_service(url: str, status: int | None = None) -> ServiceError:
    """Return the error for a reply that does not come from this service."""
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
    # Statuses 422 and 400 are also used for ordinary mistakes in a request. So these two errors are
    # recognised by their message.
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
    """Describe one entry of a 422 reply: ``values[3]: Input should be a valid number``."""
    location = [part for part in item.get("loc", []) if part not in ("body", "query", "path")]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    place, message = place.lstrip("."), str(item.get("msg")).rstrip(string.whitespace)
    # Messages of the service name the place; those of its framework do not.
    return message if not place or f"`{place}" in message else f"{place}: {message}"
