"""Servers of streams that do what the test says: tell, break off, close, refuse a handshake."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from financial_data_service.client import Retries, stream_name

QUICK = Retries(count=50, seconds=20, pause_seconds=0.001, pause_seconds_max=0.05)

SECONDS_MAX = 30.0

Handler = Callable[[ServerConnection], Awaitable[None]]


def told(sequence: int, event: str = "update", symbol: str = "A", k: int = 3) -> str:
    numbers = dict.fromkeys(("min", "max", "last", "avg"), 1.5)
    message = {"stream": stream_name(symbol, k), "symbol": symbol, "k": k, "window": 10**k}
    rest = {"var": 0.0, "values": sequence, "sequence": sequence, "event": event}
    return json.dumps(message | numbers | rest)


def gone(symbol: str = "A", k: int = 3) -> str:
    return json.dumps({"stream": stream_name(symbol, k), "symbol": symbol, "event": "deleted"})


@asynccontextmanager
async def scripted(
    *handlers: Handler | int, retry_after: str | None = None
) -> AsyncIterator[tuple[str, list[ServerConnection]]]:
    """Serve each connection by the next handler, the last one from then on.

    A number is the status by which a handshake is refused, with `retry_after` if it is given.
    """
    connections: list[ServerConnection] = []
    rest = list(handlers)

    def following() -> Handler | int:
        return rest.pop(0) if len(rest) > 1 else rest[0]

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        handler = following()
        if isinstance(handler, int):
            body = json.dumps({"detail": "Expected an API key"})
            response = connection.respond(HTTPStatus(handler), body)
            if retry_after is not None:
                response.headers["Retry-After"] = retry_after
            return response
        connection.handler_of_test = handler  # type: ignore[attr-defined]
        return None

    async def handle(connection: ServerConnection) -> None:
        connections.append(connection)
        await connection.handler_of_test(connection)  # type: ignore[attr-defined]

    async with serve(handle, "127.0.0.1", 0, process_request=answer, close_timeout=1) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", connections


def telling(*messages: str, then: int | str = "wait") -> Handler:
    """Return a handler that waits for a command, tells, and closes, breaks off or waits."""

    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        for message in messages:
            await connection.send(message)
        if then == "break off":
            connection.transport.abort()
        elif isinstance(then, int):
            await connection.close(then, "why")
        else:
            await connection.wait_closed()

    return handle


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), SECONDS_MAX)

    asyncio.run(bounded())
