"""The service as the commands use it: HTTP, with a sentence for every failure.

Batches carry ``from_sequence``, so a retry is safe. A batch whose reply was lost is sent again, a
few times, before the command fails.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Self, TypeVar

import httpx
import msgspec

from financial_data_service.cli.console import CliError
from financial_data_service.client.connection import Connection
from financial_data_service.client.failures import UNAVAILABLE, complaint, first_contact_failed

__all__ = [
    "BatchReply",
    "ConflictError",
    "RefusedError",
    "Service",
    "SymbolState",
    "SymbolStats",
    "UnavailableError",
    "WindowReply",
]

Reply = TypeVar("Reply")

# A restart behind a proxy takes about a second; the pauses are 0.25, 0.5, 1 and 2 s.
RETRIES = 4
RETRY_WAIT_SECONDS = 0.25


class UnavailableError(CliError):
    """The service cannot be reached, or is not available now."""


class RefusedError(CliError):
    """The service refused a request. The message is its reason."""


class ConflictError(RefusedError):
    """A batch contradicts the stored prices.

    Parameters
    ----------
    reason : str
        The service's reason.
    sequence : int
        Number of prices ever appended to the symbol.
    """

    def __init__(self, reason: str, sequence: int) -> None:
        super().__init__(reason)
        self.sequence = sequence


class SymbolState(msgspec.Struct, frozen=True):
    """One line of ``GET /symbols``."""

    symbol: str
    sequence: int
    values: int


class WindowReply(msgspec.Struct, frozen=True):
    """Statistics of one window."""

    window: int
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int


class SymbolStats(msgspec.Struct, frozen=True):
    """Statistics of one symbol."""

    symbol: str
    sequence: int
    stats: list[WindowReply]


class _AllStatsReply(msgspec.Struct):
    symbols: list[SymbolStats]


class BatchReply(msgspec.Struct, frozen=True):
    """The reply to a batch."""

    added: int
    sequence: int


class SymbolsReply(msgspec.Struct):
    """The symbols, and the maximum batch of the service."""

    symbols: list[SymbolState]
    batch_max: int


class _ConflictReply(msgspec.Struct):
    detail: str
    sequence: int


class Service:
    """A connection to the service, kept alive over many requests; one thread at a time.

    Parameters
    ----------
    url : str
        Such as ``http://127.0.0.1:8000``; a path in it is the prefix of a proxy. The API key is
        taken from ``FDS_API_KEY``; none if that is empty.
    """

    def __init__(self, url: str) -> None:
        try:
            self._connection = Connection(url, os.environ.get("FDS_API_KEY") or None)
        except ValueError as error:
            raise CliError(f"{error}.") from None
        self.url = self._connection.url
        self._http = httpx.Client(base_url=self.url, **self._connection.http_options())
        self._has_answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def symbols(self) -> SymbolsReply:
        """Return the symbols the service holds, and its limits."""
        return self._decode(self._get("/symbols"), SymbolsReply)

    def stats(self, symbol: str, last: int | None = None) -> bytes:
        """Return the statistics of one symbol, as the service wrote them."""
        return self._get("/stats/", symbol=symbol, **({} if last is None else {"last": last}))

    def all_stats(self) -> bytes:
        """Return the statistics of all symbols, in one reply of the service."""
        return self._get("/stats/")

    def decode_all_stats(self, body: bytes) -> list[SymbolStats]:
        """Read a reply of :meth:`all_stats`."""
        return self._decode(body, _AllStatsReply).symbols

    def decode_stats(self, body: bytes) -> SymbolStats:
        """Read a reply of :meth:`stats`: of all windows, or of the one asked for."""
        members = self._decode(body, dict[str, msgspec.Raw])
        if "stats" in members:
            return self._decode(body, SymbolStats)
        state, window = self._decode(body, SymbolState), self._decode(body, WindowReply)
        return SymbolStats(state.symbol, state.sequence, [window])

    def add_batch(self, symbol: str, values: Sequence[float], from_sequence: int) -> BatchReply:
        """Store ``values`` as prices ``from_sequence``, … of ``symbol``; safe to repeat.

        Raises
        ------
        ConflictError
            When other prices are stored there, or fewer than ``from_sequence``.
        RefusedError
            When the service refuses the batch.
        UnavailableError
            When the service cannot be reached, after some retries.
        """
        content = msgspec.json.encode(
            {"symbol": symbol, "values": values, "from_sequence": from_sequence}
        )
        for attempt in range(RETRIES):
            try:
                return self._post_batch(content)
            except UnavailableError:
                time.sleep(RETRY_WAIT_SECONDS * 2**attempt)
        return self._post_batch(content)

    def _post_batch(self, content: bytes) -> BatchReply:
        headers = {"content-type": "application/json"}
        response = self._send("POST", "/add_batch/", content=content, headers=headers)
        if response.status_code == HTTPStatus.CONFLICT:
            reply = self._decode(response.content, _ConflictReply)
            raise ConflictError(reply.detail, reply.sequence)
        return self._decode(self._accepted(response), BatchReply)

    def _get(self, path: str, **parameters: str | int) -> bytes:
        return self._accepted(self._send("GET", path, params=parameters))

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            lost = self._connection.lost(error)
            detail = lost.detail if self._has_answered else first_contact_failed(lost, self.url)
            raise UnavailableError(detail) from error
        self._has_answered = True
        return response

    def _accepted(self, response: httpx.Response) -> bytes:
        """Return the body of a successful reply; raise the reason of any other."""
        if response.is_success:
            return response.content
        if response.status_code in UNAVAILABLE:
            raise UnavailableError(
                f"{self.url} is not available now "
                f"({response.status_code} {response.reason_phrase})."
            )
        raise RefusedError(self._reason(response))

    def _reason(self, response: httpx.Response) -> str:
        try:
            detail = msgspec.json.decode(response.content, type=dict[str, Any])["detail"]
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            raise self._not_our_service() from None
        if isinstance(detail, list):
            return "; ".join(complaint(item) for item in detail)
        if detail == response.reason_phrase:  # The framework's "Not Found": the route is unknown.
            raise self._not_our_service()
        return str(detail)

    def _decode(self, body: bytes, reply: type[Reply]) -> Reply:
        try:
            return msgspec.json.decode(body, type=reply)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._not_our_service() from None

    def _not_our_service(self) -> CliError:
        return CliError(f"{self.url} answers, but is not a financial-data-service.")
