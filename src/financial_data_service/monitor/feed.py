"""The subscription: every window of every symbol, over one WebSocket, whoever looks at the page.

Three threads: one follows ``WS /stream`` and comes back to it when it is lost, one looks at the
clock for the histories, one asks ``/metrics`` and ``/readyz``, by which a service that hangs is
found out as well.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Container
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from financial_data_service.monitor.board import Board
from financial_data_service.monitor.history import SAMPLE_SECONDS

__all__ = ["Feed", "UnreachableError", "WrongKeyError"]

INTERVAL_MS = 250
"""Of updates: the page is not read faster."""

POLL_SECONDS = 2.0
ANSWER_SECONDS_MAX = 5.0
NO_FIGURES = (404, 429, 503)
"""Answers of ``/metrics`` by which the service is there: switched off, or it has too much to do."""

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0)


class UnreachableError(Exception):
    """The service did not answer, or what answered is not this service; the message says which."""


class WrongKeyError(UnreachableError):
    """The service is there, and wants another API key."""


class Feed:
    """Follows the service until closed, and keeps its board.

    Parameters
    ----------
    url : str
        Of the service.
    api_key : str, optional
        The key, if it wants one.

    Attributes
    ----------
    board : Board
        What is known.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.board = Board()
        self._headers = {"X-API-Key": api_key} if api_key else {}
        # Both ways trust the same: the system's authorities, or those that SSL_CERT_FILE names.
        self._trust = ssl.create_default_context() if self.url.startswith("https:") else None
        # No proxy of the environment stands between this page and a server beside it.
        self._client = httpx.Client(
            headers=self._headers,
            timeout=ANSWER_SECONDS_MAX,
            trust_env=False,
            verify=self._trust or False,
        )
        self._is_closed = threading.Event()
        self._connection: ClientConnection | None = None
        self._failures = 0
        self._threads = [
            threading.Thread(target=target, name=f"feed-{target.__name__}", daemon=True)
            for target in (self._follow, self._sample, self._measure)
        ]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Begin to follow."""
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Stop following, and wait until nothing is left of it."""
        self._is_closed.set()
        self._hang_up()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _hang_up(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.close()

    # The stream

    def _follow(self) -> None:
        while not self._is_closed.is_set():
            try:
                self._receive()
            except UnreachableError as error:
                self._lose(error)
            self._is_closed.wait(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)])
            self._failures += 1

    def _receive(self) -> None:
        """Connect, and take in messages until the connection ends; always raises."""
        reply = self._ask("/symbols")
        try:
            limits = reply.json()
            k_max = len(str(int(limits["largest_window"]))) - 1
            with self._connected() as connection:
                self._connection = connection
                streams = [f"stats.*.{k}@{INTERVAL_MS}ms" for k in range(1, k_max + 1)]
                question = {"method": "SUBSCRIBE", "params": streams, "id": 1}
                connection.send(json.dumps(question))
                self.board.begin(limits)
                self._failures = 0
                while True:
                    self._take(json.loads(connection.recv()))
        except ConnectionClosed as error:
            raise UnreachableError(f"The connection to {self.url} is lost") from error
        except (KeyError, TypeError, ValueError) as error:
            raise UnreachableError(f"What answers at {self.url} is not this service") from error
        finally:
            self._connection = None

    def _connected(self) -> ClientConnection:
        url = "ws" + self.url.removeprefix("http") + "/stream"
        try:
            return connect(
                url,
                additional_headers=self._headers,
                ssl=self._trust,
                open_timeout=ANSWER_SECONDS_MAX,
                close_timeout=1.0,
                proxy=None,
            )
        except (OSError, WebSocketException) as error:
            raise UnreachableError(f"The stream at {url} cannot be had: {error}") from error

    def _take(self, message: Any) -> None:
        if "event" in message:
            self.board.take(message, time.time())
        elif "error" in message:
            raise UnreachableError(f"{self.url} refuses: {message['error']['msg']}")

    def _lose(self, error: UnreachableError) -> None:
        self.board.lose(str(error), time.time(), wants_key=isinstance(error, WrongKeyError))

    # The clock and the metrics

    def _sample(self) -> None:
        while not self._is_closed.wait(SAMPLE_SECONDS):
            self.board.sample(time.time())

    def _measure(self) -> None:
        while not self._is_closed.wait(POLL_SECONDS):
            if self._connection is not None:
                try:
                    self._read_metrics()
                    self._read_refused()
                except UnreachableError as error:
                    self._lose(error)
                    self._hang_up()

    def _read_metrics(self) -> None:
        reply = self._ask("/metrics", excused=NO_FIGURES)
        if reply.status_code in NO_FIGURES:
            self.board.unmeasured()
            return
        now = time.time()
        requests = sum(_values(reply.text, "fds_requests_total"))
        starts = _values(reply.text, "process_start_time_seconds")
        # The service's clock may be another machine's.
        told = parsedate_to_datetime(reply.headers["date"]).timestamp()
        ahead = told - now if abs(told - now) > 2 else 0.0
        self.board.measured(requests, min(starts) - ahead if starts else None, now)

    def _read_refused(self) -> None:
        """Ask which files are refused: their symbols are in no stream."""
        # What was known holds until an answer says otherwise.
        with suppress(AttributeError, KeyError, TypeError, ValueError, UnreachableError):
            self.board.refuses(self._ask("/readyz").json())

    def _ask(self, path: str, *, excused: Container[int] = ()) -> httpx.Response:
        try:
            reply = self._client.get(self.url + path)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"The server at {self.url} does not answer") from error
        if reply.status_code == 401:
            got = "another" if self._headers else "none"
            raise WrongKeyError(f"{self.url} wants its API key in FDS_API_KEY, got {got}")
        if not reply.is_success and reply.status_code not in excused:
            raise UnreachableError(f"{self.url} answers {reply.status_code}")
        return reply


def _values(exposition: str, name: str) -> list[float]:
    """Return the values of one metric; prometheus_client's parser takes 100 times as long."""
    return [float(value) for value in re.findall(rf"(?m)^{name}(?:{{.*}})? (\S+)", exposition)]
