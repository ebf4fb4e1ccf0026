"""What tests of the middleware share: keys, a wire with one price, handshakes without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import Message

from support.wire import Wire

KEY = "a-key-of-24-characters-x"
ORIGIN = "https://desk.example.com"

RIGHT = (
    *(f"X-API-Key: {KEY}", f"Authorization: Bearer {KEY}", f"authorization: bearer  {KEY}"),
    *(f"X-API-Key: \t {KEY} \t", f"Authorization: Bearer {KEY} \t"),
)
WRONG = (
    *(f"X-API-Key: {KEY}x", f"X-API-Key: {KEY[:-1]}", "X-API-Key:", "X-API-Key: \xff\xfe"),
    *(f"Authorization: Basic {KEY}", f"Authorization: {KEY}", "Authorization: Bearer"),
    f"Cookie: api_key={KEY}",
)


@contextmanager
def wire_of(*, fast_lane: bool = True, **settings: Any) -> Iterator[Wire]:
    with Wire(fast_lane=fast_lane, **settings) as wire:
        wire.manager.add_batch("S", [1.0])
        yield wire


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def headers_of(reply: bytes) -> dict[str, str]:
    lines = reply.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def handshake(
    app: FastAPI,
    path: str,
    *headers: tuple[str, str],
    query: str = "",
    extensions: tuple[str, ...] = ("websocket.http.response",),
) -> list[Any]:
    """Return the messages that the application sends to a WebSocket that is closed at once."""
    said: list[Any] = []

    async def run() -> None:
        heard: Iterator[Message] = iter(
            [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
        )

        async def receive() -> Message:
            return next(heard)

        async def send(message: Message) -> None:
            said.append(message)

        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (b"host", b"prices.example.com:8000"),
                *((name.encode(), value.encode()) for name, value in headers),
            ],
            "client": ("192.0.2.1", 1),
            "server": ("192.0.2.2", 2),
            "subprotocols": [],
            "extensions": {name: {} for name in extensions},
            "state": {},
        }
        await app(scope, receive, send)

    asyncio.run(run())
    return said


def refusal(said: list[Any]) -> tuple[int, dict[bytes, bytes], str]:
    """Return status, headers and reason of a refused handshake."""
    head, body = said
    assert head["type"] == "websocket.http.response.start"
    assert body["type"] == "websocket.http.response.body"
    return head["status"], dict(head["headers"]), json.loads(body["body"])["detail"]
