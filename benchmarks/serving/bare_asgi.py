"""An ASGI application that reads a request and sends a fixed reply: what uvicorn costs by itself.

::

    python -m serving.bare_asgi REPLIES.json
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

Message = dict[str, Any]


class Application:
    """Replies by path: status and body."""

    def __init__(self, replies: dict[str, tuple[int, str]]) -> None:
        self._replies = {
            path: (_start(status, body), {"type": "http.response.body", "body": body.encode()})
            for path, (status, body) in replies.items()
        }

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        while (await receive()).get("more_body"):
            pass
        start, body = self._replies[scope["path"]]
        await send(start)
        await send(body)


def _start(status: int, body: str) -> Message:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    return {"type": "http.response.start", "status": status, "headers": headers}


def main() -> None:
    """Serve on a free port until told to stop."""
    replies = json.loads(Path(sys.argv[1]).read_text())
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(f"Serving on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(
            Application(replies),
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
