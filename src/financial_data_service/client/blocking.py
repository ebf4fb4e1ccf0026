"""``PlanRunner`` executes plans in blocking calls. It uses one pool of HTTP connections.

It is the part of :class:`~financial_data_service.client.sync_client.Client` that needs no NumPy.
``fds stats`` uses it directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self, TypeVar

import httpx

from financial_data_service.client.connection import TIMEOUT_SECONDS, Connection, Timeout, Verify
from financial_data_service.client.exchange import ClientSession
from financial_data_service.client.retries import DEFAULT, Retries
from financial_data_service.client.steps import Outcome, Pause, Plan, Request, ignore
from financial_data_service.wire import DEFAULT_URL

__all__ = ["PlanRunner"]

Result = TypeVar("Result")


class PlanRunner:
    """Carries out plans, blocking. Threads may share it; processes may not.

    Parameters and errors are those of :class:`~financial_data_service.client.sync_client.Client`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: Timeout = TIMEOUT_SECONDS,
        retries: Retries | int = DEFAULT,
        verify: Verify = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(url, api_key, timeout, verify)
        self.session = ClientSession(self._connection.url, Retries.of(retries))
        """What the client knows about the service. It is passed to every plan."""
        self.on_pause: Callable[[Pause], object] = ignore
        """Called before each pause between two attempts at a request."""
        self._http = httpx.Client(transport=transport, **self._connection.http_options())

    @property
    def url(self) -> str:
        """URL of the service, without credentials and without a slash at the end."""
        return self._connection.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._http.close()

    def run(self, plan: Plan[Result]) -> Result:
        """Carry out a plan, and return its result.

        Raises
        ------
        ValueError
            When it is closed.
        ServiceError
            The matching subclass for the error.
        """
        outcome: Outcome = None
        while True:
            try:
                step = plan.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            outcome = self._do(step)

    def _do(self, step: Request | Pause) -> Outcome:
        if isinstance(step, Pause):
            self.on_pause(step)
            time.sleep(step.seconds)
            return None
        self._must_be_open()
        try:
            response = self._http.request(**self._connection.request_options(step))
        except httpx.HTTPError as error:
            return self._connection.lost(error)
        return self._connection.reply(response)

    def _must_be_open(self) -> None:
        if self._http.is_closed:
            raise ValueError(f"{self!r} is closed: it cannot send requests")
