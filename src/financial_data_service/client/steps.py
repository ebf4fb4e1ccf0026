"""Types for plans: requests, replies and pauses. No input or output here.

A *plan* is a generator. It yields a :class:`Request` and receives its outcome, or yields a
:class:`Pause` and is resumed after it. Its return value is the result of the call. Plans contain
all logic. The two clients only execute the steps: one with blocking calls, the other with awaited
calls.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar
from urllib.parse import quote, urlencode

__all__ = ["Lost", "Outcome", "Pause", "Plan", "Reply", "Request", "ignore", "path_of"]

Result = TypeVar("Result")

FLOAT64 = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the service.

    Attributes
    ----------
    method, target : str
        ``GET`` and ``/stats/AAPL/3``: the path within the service, encoded, with its query.
    content : bytes
        Body, little-endian float64.
    is_repeatable : bool
        Whether the request may be sent again if its outcome is unknown.
    timeout_seconds : float or None
        Longest silence of the service during this request; None for the client's timeout.
    """

    method: str
    target: str
    content: bytes = b""
    is_repeatable: bool = True
    timeout_seconds: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers of this request."""
        return {"content-type": FLOAT64} if self.content else {}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply with any status. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Lost:
    """A request without a reply.

    Attributes
    ----------
    detail : str
        A sentence for the user.
    is_sent : bool
        Whether anything of the request may have reached the service.
    is_final : bool
        Whether a retry is useless, as with an untrusted certificate.
    is_silent : bool
        Whether a connection was made and closed without any HTTP. An http client sees this when it
        connects to an https server, and also when a service is killed.
    """

    detail: str
    is_sent: bool
    is_final: bool = False
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause before a request is sent again.

    Attributes
    ----------
    seconds : float
        Its length.
    reason : str
        Why the request has no reply yet; a sentence without the final period.
    """

    seconds: float
    reason: str = ""


Outcome: TypeAlias = Reply | Lost | None
Plan: TypeAlias = Generator[Request | Pause, Outcome, Result]


def ignore(*_: object) -> None:
    """Ignore an event."""


def path_of(*parts: str | int, **query: str | int | None) -> str:
    """Return a path with each part percent-encoded, and a query without the None values.

    A symbol ``..``, or one with a slash, stays one part of the path.
    """
    path = "".join(f"/{_encoded(str(part))}" for part in parts)
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, quote_via=quote)}" if given else path


def _encoded(part: str) -> str:
    encoded = quote(part, safe="")
    return encoded.replace(".", "%2E") if part in (".", "..") else encoded
