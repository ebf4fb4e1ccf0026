"""The monitor's subscription: every window of every symbol, once for all sessions of the page.

Three threads. One follows the stream. One samples the histories. One asks ``/metrics`` and
``/readyz``; it also notices a service that hangs.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Self

from financial_data_service.client import Client, Retries, stream_name
from financial_data_service.client.exchange import exchange
from financial_data_service.client.retries import NEVER
from financial_data_service.client.steps import Request
from financial_data_service.errors import (
    ServiceError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from financial_data_service.monitor.board import Board
from financial_data_service.monitor.history import SAMPLE_SECONDS

if TYPE_CHECKING:
    from financial_data_service.client.subscription import Subscription

__all__ = ["Feed"]

INTERVAL_MS = 250
"""Interval between updates. A viewer cannot read faster changes."""

POLL_SECONDS = 2.0
ANSWER_SECONDS_MAX = 5.0
NO_FIGURES = (404, 429, 503)
"""Statuses with which a live service refuses ``/metrics``, as it is disabled or overloaded."""

RETRIES = Retries(count=0, pause_seconds=0.25, pause_seconds_max=2.0)
CLOCK_SECONDS_MAX = 2.0
"""A larger difference between the two clocks is corrected.

A smaller one is ignored, because the ``Date`` header has a resolution of one second.
"""


class Feed:
    """Follows the service until closed, and keeps its board.

    Parameters
    ----------
    url : str
        URL of the service.
    api_key : str, optional
        The key, if the service requires one.

    Attributes
    ----------
    board : Board
        What is known.

    Raises
    ------
    ValueError
        When the URL or the key is invalid.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.board = Board()
        self._client = Client(url, api_key=api_key, timeout=ANSWER_SECONDS_MAX, retries=RETRIES)
        self._has_key = api_key is not None
        self._subscription: Subscription | None = None
        self._failures = 0  # since the last connection
        self._is_closed = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"feed-{target.__name__}", daemon=True)
            for target in (self._follow, self._sample, self._measure)
        ]

    @property
    def url(self) -> str:
        """URL of the service."""
        return self._client.url

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
        """Stop following, and wait for the threads to end."""
        self._is_closed.set()
        self._hang_up()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _hang_up(self) -> None:
        subscription = self._subscription
        if subscription is not None:
            subscription.close()

    # --- The stream

    def _follow(self) -> None:
        while not self._is_closed.is_set():
            try:
                self._receive()
            except ServiceError as error:
                self._lose(error)
            self._is_closed.wait(RETRIES.pause(self._failures))
            self._failures += 1

    def _receive(self) -> None:
        """Take in updates until the connection ends.

        Each connection subscribes again and first receives the state of every window. This is
        necessary because a restarted service may have other prices at the same sequence.
        """
        k_max = len(str(self._client.limits().largest_window)) - 1
        with self._client.subscribe(
            [stream_name(None, k, INTERVAL_MS) for k in range(1, k_max + 1)],
            on_open=self._begin,
            on_lost=self._on_lost,
            on_deleted=self.board.forget,
        ) as updates:
            self._subscription = updates
            if self._is_closed.is_set():  # Before there was anything to hang up.
                return
            for update in updates:
                self.board.take(update, time.time())

    def _begin(self) -> None:
        limits = self._client.limits()
        self.board.begin(self._client.symbols(), limits)
        self._failures = 0

    def _on_lost(self, _: str) -> None:
        self.board.lose(f"The connection to {self.url} is lost", time.time())
        self._hang_up()

    def _lose(self, error: ServiceError) -> None:
        wants_key = isinstance(error, UnauthorizedError)
        self.board.lose(self._problem(error), time.time(), wants_key=wants_key)

    def _problem(self, error: ServiceError) -> str:
        if isinstance(error, UnauthorizedError):
            got = "another" if self._has_key else "none"
            return (
                f"{self.url} requires its API key in FDS_API_KEY, got {got}: "
                "set it, and start the monitor again"
            )
        if isinstance(error, ServiceUnavailableError) and error.status is None:
            return f"The service at {self.url} does not answer"
        return f"{self.url}: {error.detail}"

    # --- The clock and the metrics

    def _sample(self) -> None:
        while not self._is_closed.wait(SAMPLE_SECONDS):
            self.board.sample(time.time())

    def _measure(self) -> None:
        while not self._is_closed.wait(POLL_SECONDS):
            if self.board.is_online:
                try:
                    self._read_metrics()
                    self._read_refused()
                except ServiceError as error:
                    self._lose(error)
                    self._hang_up()

    def _read_metrics(self) -> None:
        try:
            plan = exchange(self._client.session, Request("GET", "/metrics"), NEVER)
            reply = self._client.run(plan).reply
        except ServiceError as error:
            if error.status not in NO_FIGURES:
                raise
            self.board.unmeasured()
            return
        now, text = time.time(), reply.content.decode()
        starts = _values(text, "process_start_time_seconds")
        # The service's clock may be that of another machine.
        ahead = 0.0
        with suppress(KeyError, ValueError):
            ahead = parsedate_to_datetime(reply.headers["date"]).timestamp() - now
        ahead = ahead if abs(ahead) > CLOCK_SECONDS_MAX else 0.0
        requests = sum(_values(text, "fds_requests_total"))
        self.board.measured(requests, min(starts) - ahead if starts else None, now)

    def _read_refused(self) -> None:
        """Read which files are rejected. No stream contains the symbols of these files."""
        readiness = self._client.ready()
        if readiness:  # Otherwise what was known holds.
            self.board.refuses(readiness.refused)


def _values(exposition: str, name: str) -> list[float]:
    """Return the values of one metric; prometheus_client's parser takes 100 times as long."""
    return [float(value) for value in re.findall(rf"(?m)^{name}(?:{{.*}})? (\S+)", exposition)]
