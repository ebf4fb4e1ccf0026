"""Iterators over the updates of ``WS /stream``, for ``for`` and ``async for``.

They reconnect when necessary.

Each subscription has at most one connection, made when the loop begins and closed when it ends.
:class:`~financial_data_service.client.stream_state.StreamState` decides what is new.

`_hang_up` closes the current connection. `close` ends the subscription: its loop ends, even in
another thread or task, and does not reconnect.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import ExitStack, suppress
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection as BlockingConnection
from websockets.sync.client import connect as connect_blocking

from financial_data_service.client.connection import Connection, trust_advice
from financial_data_service.client.results import Update
from financial_data_service.client.retries import Retries, retry_after
from financial_data_service.client.stream_state import (
    Reactions,
    StreamState,
    closing_error,
    handshake_error,
    names_of,
)
from financial_data_service.errors import ServiceError, ServiceUnavailableError

__all__ = [
    "FAILURES",
    "AsyncSubscription",
    "Reactions",
    "Subscription",
    "asked_pause",
    "final_error",
]

FAILURES = (OSError, WebSocketException)

# Upper limit for a ``Retry-After``.
ASKED_SECONDS_MAX = 86_400.0


class _SubscriptionBase:
    """The state that both subscriptions share. It neither waits nor sends."""

    def __init__(
        self,
        connection: Connection,
        streams: Iterable[str | Iterable[str]],
        reactions: Reactions,
        pauses: Retries,
    ) -> None:
        names = names_of(streams)
        if not names:
            raise ValueError("Expected a stream or more, such as stats.AAPL.3, got none")
        self._connection = connection
        self._address = connection.websocket_url("/stream")
        self._reactions = reactions
        self._pauses = pauses
        self._state = StreamState(names, f"{connection.url}/stream")
        self._failures = 0
        self._is_open = False
        self._is_lost = False
        self._is_entered = False

    @property
    def streams(self) -> list[str]:
        """Names of the subscribed streams."""
        return self._state.streams

    def _news(self, message: str | bytes) -> Update | None:
        self._failures = 0  # Not earlier: a service may accept connections and close them at once.
        if self._is_lost:
            self._is_lost = False
            self._reactions.on_restored()
        news = self._state.receive(message)
        if not self._is_open:
            self._is_open = True
            self._reactions.on_open()
        if news.deleted is not None:
            self._reactions.on_deleted(news.deleted)
        return news.update

    def _pause_after(self, failure: Exception) -> float:
        """Return the seconds until the next attempt, or raise the error that ends the loop."""
        self._is_open = False
        final = final_error(failure, self._state.url)
        if final is not None:
            raise final from failure
        if not self._is_lost:
            self._is_lost = True
            self._reactions.on_lost(f"{self._state.url}: {failure}")
        self._failures += 1
        return max(self._pauses.pause(self._failures - 1), asked_pause(failure))


class AsyncSubscription(_SubscriptionBase):
    """Updates for ``async for``; made by :meth:`AsyncClient.subscribe`.

    Inside ``async with``, the connection stays open between loops. The subscription is closed at
    the end of the block. Without ``async with``, leaving the loop closes the connection.
    """

    _socket: ClientConnection | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._is_entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncGenerator[Update, None]:
        return self._updates()

    async def aclose(self) -> None:
        """End the loop in any task, and close the connection permanently. Idempotent."""
        self._closed.set()
        await self._hang_up()

    async def subscribe(self, *streams: str | Iterable[str]) -> None:
        """Add streams or change their intervals, at once or with the next connection."""
        await self._say(self._state.subscribe(names_of(streams)))

    async def unsubscribe(self, *streams: str | Iterable[str]) -> None:
        """Remove streams, with or without their intervals, at once or with the next connection."""
        await self._say(self._state.unsubscribe(names_of(streams)))

    async def _updates(self) -> AsyncGenerator[Update, None]:
        try:
            while not self._closed.is_set():
                try:
                    message = await (self._socket or await self._connected()).recv()
                except FAILURES as failure:
                    await self._hang_up()
                    if not self._closed.is_set():
                        await self._pause(self._pause_after(failure))
                    continue
                update = self._news(message)
                if update is not None:
                    yield update
        finally:
            if not self._is_entered:
                await self._hang_up()

    async def _hang_up(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    async def _connected(self) -> ClientConnection:
        socket = await connect(self._address, **self._connection.websocket_options())
        self._socket = socket
        if self._closed.is_set():  # While the connection was being made.
            await self._hang_up()
        for command in self._state.opening():
            await socket.send(command)
        return socket

    async def _say(self, commands: list[str]) -> None:
        try:
            for command in commands:
                if self._socket is not None:
                    await self._socket.send(command)
        except ConnectionClosed:
            """Let the loop connect again and send all commands."""


class Subscription(_SubscriptionBase):
    """Updates for ``for``; created by :meth:`Client.subscribe`.

    Only one thread may iterate. Any thread may close it.

    ``with`` keeps the connection between loops and closes the subscription at its end; a loop
    without it closes the connection when it is left.
    """

    _socket: BlockingConnection | None = None
    _to_close: ExitStack | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._is_entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Generator[Update, None, None]:
        try:
            while not self._closed.is_set():
                try:
                    message = (self._socket or self._connected()).recv()
                except FAILURES as failure:
                    self._hang_up()
                    if not self._closed.is_set():
                        self._closed.wait(self._pause_after(failure))
                    continue
                update = self._news(message)
                if update is not None:
                    yield update
        finally:
            if not self._is_entered:
                self._hang_up()

    def close(self) -> None:
        """End the loop in any thread, and close the connection permanently. Idempotent.

        If the loop is connecting, it ends when the attempt has succeeded or failed, at most 5
        seconds later.
        """
        self._closed.set()
        self._hang_up()

    def _hang_up(self) -> None:
        to_close, self._to_close, self._socket = self._to_close, None, None
        if to_close is not None:
            to_close.close()

    def _connected(self) -> BlockingConnection:
        opening = connect_blocking(self._address, **self._connection.websocket_options())
        to_close = ExitStack()
        socket: BlockingConnection = to_close.enter_context(opening)
        self._to_close, self._socket = to_close, socket
        if self._closed.is_set():  # By a thread that may have been too early to hang up.
            self._hang_up()
        for command in self._state.opening():
            socket.send(command)
        return socket


def asked_pause(failure: Exception) -> float:
    """Return the seconds that a refused handshake asks to wait; 0 by default."""
    if not isinstance(failure, InvalidStatus):
        return 0.0
    headers = {name.lower(): value for name, value in failure.response.headers.raw_items()}
    return min(retry_after(headers), ASKED_SECONDS_MAX)


def final_error(failure: Exception, url: str) -> ServiceError | None:
    """Return the error that ends the loop, or None if another attempt may succeed."""
    if isinstance(failure, InvalidStatus):
        response = failure.response
        return handshake_error(response.status_code, bytes(response.body or b""), url)
    if isinstance(failure, ConnectionClosed) and failure.rcvd is not None:
        return closing_error(failure.rcvd.code, failure.rcvd.reason, url)
    if isinstance(failure, ssl.SSLError):
        sentence = f"Cannot reach {url} ({failure}).{trust_advice(failure)}"
        return ServiceUnavailableError(sentence, None, url)
    return None
