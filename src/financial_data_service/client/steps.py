"""What goes over the wire and what comes of it, without any input or output.

A *plan* is a generator: it yields a :class:`Request` and is sent its outcome, or yields a
:class:`Pause` and is resumed after it; what it returns is the result of a call. Plans decide
everything; the two clients only carry requests, one blocking, one awaiting.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar
from urllib.parse import quote, urlencode

__all__ = ["Lost", "Outcome", "Pause", "Plan", "Reply", "Request", "path_of"]

Result = TypeVar("Result")

FLOAT64 = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the service.

    Attributes
    ----------
    method, target : str
        ``GET`` and ``/stats/AAPL/3``: the path within the service, encoded, with its query.
    content : bytes
        Body, little-endian float64.
    is_repeatable : bool
        Whether the request may be sent again when nobody knows what became of it.
    timeout_seconds : float or None
        How long the service may be silent over this; None for what the client allows.
    """

    method: str
    target: str
    content: bytes = b""
    is_repeatable: bool = True
    timeout_seconds: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers which belong to this request."""
        return {"content-type": FLOAT64} if self.content else {}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status; names of headers in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer.

    Attributes
    ----------
    detail : str
        A sentence for the user.
    is_sent : bool
        Whether anything of the request may have reached the service.
    is_final : bool
        Whether trying again is of no use, as with a certificate nobody vouches for.
    is_mute : bool
        Whether a connection was made and broken off, by all that is known without a word of HTTP.
        To who speaks http, a server of https looks like that; so does a service that is killed.
    """

    detail: str
    is_sent: bool
    is_final: bool = False
    is_mute: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is to happen for some seconds."""

    seconds: float


Outcome: TypeAlias = Reply | Lost | None
Plan: TypeAlias = Generator[Request | Pause, Outcome, Result]


def path_of(*parts: str | int, **query: str | int | None) -> str:
    """Return a path, each part percent-encoded, with what is not None of a query.

    A symbol may be called ``..`` or hold a slash; neither is part of the way then.
    """
    path = "".join(f"/{_encoded(str(part))}" for part in parts)
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, quote_via=quote)}" if given else path


def _encoded(part: str) -> str:
    encoded = quote(part, safe="")
    return encoded.replace(".", "%2E") if part in (".", "..") else encoded
