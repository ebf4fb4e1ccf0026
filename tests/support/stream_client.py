"""Clients of streams: a synchronous one for a test at a time, and one that does not read."""

from __future__ import annotations

import json
import secrets
import socket
import time
from base64 import b64encode
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from support.raw_http import TIMEOUT_SECONDS
from support.service_process import Service


def url_of(service: Service, path: str) -> str:
    """Return the WebSocket URL of a path."""
    return service.url.replace("http://", "ws://") + path


class Stream(AbstractContextManager["Stream"]):
    """A connection to a WebSocket of the service."""

    connection: ClientConnection

    def __init__(self, service: Service, path: str = "/stream", **options: Any) -> None:
        self._opening = connect(
            url_of(service, path), max_size=None, open_timeout=TIMEOUT_SECONDS, **options
        )

    def __enter__(self) -> Self:
        self.connection = self._opening.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._opening.__exit__(*error)

    def send(self, message: object) -> None:
        """Send text or bytes as they are, anything else as JSON."""
        is_raw = isinstance(message, (str, bytes))
        self.connection.send(message if is_raw else json.dumps(message))  # type: ignore[arg-type]

    def send_to_the_end(self, message: object) -> None:
        """Send to a service that may have ended the connection by now."""
        with suppress(ConnectionClosed):
            self.send(message)

    def receive(self) -> Any:
        """Return the next message."""
        return json.loads(self.receive_text())

    def receive_text(self) -> str:
        """Return the next message as it came."""
        message = self.connection.recv(TIMEOUT_SECONDS)
        assert isinstance(message, str)
        return message

    def ask(self, message: object) -> Any:
        """Send a message, and return the answer to it; updates that come before are dropped."""
        self.send(message)
        while True:
            answer = self.receive()
            if "event" not in answer:
                return answer

    def subscribe(self, *params: str) -> None:
        """Subscribe, which must succeed."""
        said = self.ask({"method": "SUBSCRIBE", "params": params, "id": 1})
        assert said == {"result": None, "id": 1}

    def closed(self) -> tuple[int, list[Any]]:
        """Wait for the end; return the close code and what came before."""
        told: list[Any] = []
        with pytest.raises(ConnectionClosed) as end:  # noqa: PT012
            while True:
                told.append(self.receive())
        assert end.value.rcvd is not None, "cut off without a word"
        return end.value.rcvd.code, told


class RawStream:
    """A connection by the byte: it reads when the test says so, or never."""

    def __init__(self, service: Service, path: str = "/stream", receive_bytes: int = 4096) -> None:
        parts = urlsplit(service.url)
        assert parts.hostname is not None
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(TIMEOUT_SECONDS)
        self.socket.connect((parts.hostname, parts.port))
        self.socket.sendall(handshake(path))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, head
            head += byte
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, message: object) -> None:
        """Send JSON."""
        self.socket.sendall(frame(Opcode.TEXT, json.dumps(message).encode()))

    def receive(self, bytes_max: int = 2048, pause_seconds: float = 0.04) -> Any:
        """Return the next message, taking a few bytes at a time and a rest before each few."""
        while (text := self._next_text()) is None:
            time.sleep(pause_seconds)
            part = self.socket.recv(bytes_max)
            assert part
            self._received += part
        return json.loads(text)

    def _next_text(self) -> bytes | None:
        received = self._received
        if len(received) < 4:
            return None
        assert received[0] == 0x81
        begin, size = 2, received[1]
        if size == 126:
            begin, size = 4, int.from_bytes(received[2:4], "big")
        if len(received) < begin + size:
            return None
        self._received = received[begin + size :]
        return received[begin : begin + size]


def handshake(path: str, *headers: str) -> bytes:
    """Return a request for a WebSocket."""
    key = b64encode(secrets.token_bytes(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def frame(opcode: Opcode, data: bytes) -> bytes:
    """Return a frame as a client sends it."""
    return Frame(opcode, data).serialize(mask=True)
