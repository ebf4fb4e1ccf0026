"""The ledger: what the service says it holds, held against what was sent to it."""

from __future__ import annotations

import http.client
import json
from itertools import cycle
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from harness.exact import Verdict, avg_error_ulps, exact_of, var_error
from serving.load import Report
from serving.server import Server
from serving.work import FILLING_BATCH, Request, Row, filling

__all__ = ["Ledger", "WrongResultError"]

_REPLY_SECONDS_MAX = 30.0
_SETTLED_SECONDS = 0.05
_SETTLE_SECONDS_MAX = 15.0


class WrongResultError(AssertionError):
    """What was measured was not what was asked for: its numbers would mean nothing."""


class Ledger:
    """Asks a service over a connection of its own, and checks what it says.

    Attributes
    ----------
    verdict : Verdict
        Largest errors of the answers that were checked.
    prices : int
        Prices posted, each of them counted by the service.
    """

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        assert address.hostname is not None
        self._connection = http.client.HTTPConnection(
            address.hostname, address.port, timeout=_REPLY_SECONDS_MAX
        )
        self._name = server.name
        self._sequences: dict[str, int] = {}
        self.verdict = Verdict(0, 0.0, 0.0)
        self.prices = 0

    def ask(self, request: Request) -> tuple[int, str]:
        """Return status and body of the reply to a request."""
        headers = {"Content-Type": request.content_type} if request.body else {}
        self._connection.request(request.method, request.path, request.body or None, headers)
        reply = self._connection.getresponse()
        return reply.status, reply.read().decode()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def fill(self, symbol: str, prices: int) -> None:
        """Append so many prices to a symbol, in batches of 10,000."""
        requests = cycle(filling(symbol))
        for _ in range(prices // FILLING_BATCH):
            status, body = self.ask(next(requests))
            if status != 201:
                raise WrongResultError(f"{self._name}: status {status} while filling; {body}")

    def open(self, symbol: str) -> None:
        """Note what is held of a symbol; what comes from now on is accounted for."""
        self._sequences[symbol] = self._settled(symbol)

    def check(self, row: Row, report: Report, connections: int) -> None:
        """Check that what was sent was stored, all of it and once, and can be asked for.

        Raises
        ------
        WrongResultError
            When it was not.
        """
        before, now = self._sequences[row.symbol], self._settled(row.symbol)
        self._sequences[row.symbol] = now
        appended = now - before
        if row.batch:
            # Which of the requests under way at the end arrived is not known; all others did.
            least = report.completed - (report.sent - report.posts)
            stored, rest = divmod(appended, row.batch)
            self._assert(report.sent - report.completed <= connections, row, "sent", report)
            self._assert(rest == 0, row, f"{appended} prices, no whole batches", report)
            self._assert(least <= stored <= report.posts, row, f"{stored} batches", report)
            self.prices += appended
        else:
            self._assert(appended == 0, row, f"{appended} prices from nowhere", report)
        self._check_windows(row)

    def _settled(self, symbol: str) -> int:
        """Return how many prices were ever appended to a symbol, once that stands still.

        Requests that arrived just before the clock stopped may still be in the server's hands.
        """
        limit = monotonic() + _SETTLE_SECONDS_MAX
        before, now = -1, self._sequence(symbol)
        while now != before and monotonic() < limit:
            sleep(_SETTLED_SECONDS)
            before, now = now, self._sequence(symbol)
        return now

    def _check_windows(self, row: Row) -> None:
        """Compare the windows that lie within the last batch with each batch it may have been."""
        length = len(row.batches[0])
        if length < 10:
            answer = self._window(row, 1)
            known = {price for batch in row.batches for price in batch}
            extremes = {answer["min"], answer["max"], answer["last"]}
            self._assert(extremes <= known, row, "unknown prices", answer)
        k = 1
        while 10**k <= length:
            self._check_window(row, k)
            k += 1

    def _check_window(self, row: Row, k: int) -> None:
        answer = self._window(row, k)
        batches = [batch for batch in row.batches if batch[-1] == answer["last"]]
        self._assert(len(batches) == 1, row, "an unknown last price", answer)
        exact = exact_of(batches[0][-(10**k) :])
        self._assert(exact.min == answer["min"], row, f"not min {exact.min!r}", answer)
        self._assert(exact.max == answer["max"], row, f"not max {exact.max!r}", answer)
        errors = avg_error_ulps(answer["avg"], exact.avg), var_error(answer["var"], exact.var)
        self._assert(errors[0] <= 1 and errors[1] <= 1e-14, row, f"errors {errors}", answer)
        self.verdict = self.verdict.worse(Verdict(1, *errors))

    def _window(self, row: Row, k: int) -> dict[str, Any]:
        status, body = self.ask(Request("GET", f"/stats/{row.symbol}/{k}"))
        self._assert(status == 200, row, f"status {status}", body)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _sequence(self, symbol: str) -> int:
        _, body = self.ask(Request("GET", "/symbols"))
        entries = json.loads(body)["symbols"]
        return next((int(each["sequence"]) for each in entries if each["symbol"] == symbol), 0)

    def _assert(self, holds: bool, row: Row, what: str, evidence: object) -> None:
        if not holds:
            raise WrongResultError(f"{self._name}, {row.name}: {what}; {evidence}")
