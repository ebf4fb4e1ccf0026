"""Running the service: a bound socket, uvicorn, and an orderly end.

SIGTERM and Ctrl-C stop accepting connections, let the requests under way finish, and exit with 0.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

from financial_data_service.server.app import create_app
from financial_data_service.server.fast_lane import FastLane, FastLaneProtocol
from financial_data_service.server.guard import GuardedProtocol, sweep
from financial_data_service.settings import Settings

__all__ = ["serve"]

DRAIN_SECONDS = 10
"""How long requests under way may take to finish once the service is told to stop: longer than
any request takes, shorter than the 30 s after which supervisors use force."""

BACKLOG = 2048  # connections the kernel holds while the event loop is busy; uvicorn's default


KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept. Longer than the pools of common clients keep theirs, so that
it is they who close, and no request meets a connection that is just being closed."""


class _Server(uvicorn.Server):
    """uvicorn, which says where it serves once it does, and looks after slow connections."""

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            sweep(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            # What is there by now stays: collections need not look at it again.
            gc.collect()
            gc.freeze()
            url = _url_of(sockets[0])
            print(f"Serving on {url}", flush=True)
            print(f"Try it: {url}/docs", flush=True)


def serve(settings: Settings) -> int:
    """Serve until told to stop, and return the exit code of the process.

    Returns
    -------
    int
        0 after SIGTERM or Ctrl-C, 1 when the address cannot be had; the reason is on stderr.
    """
    try:
        listener = _bind(settings.host, settings.port)
    except OSError as error:
        print(_reason(error, settings), file=sys.stderr)
        return 1
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_protocol_for(app, settings),
        ws="none",
        lifespan="on",
        log_level=settings.log_level,
        access_log=settings.access_log,
        root_path=settings.root_path,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config)
    _stop_on_signals(server)
    try:
        server.run(sockets=[listener])
    except OSError as error:
        print(_reason(error, settings), file=sys.stderr)
        return 1
    finally:
        listener.close()
    return 0 if server.started else 1


def _protocol_for(app: FastAPI, settings: Settings) -> type[asyncio.Protocol]:
    """Return the protocol of connections: both lanes, or the slow one alone."""
    base = GuardedProtocol
    if settings.fast_lane:
        app.state.fast_lane = FastLane(app.state.manager, settings)
        base = FastLaneProtocol
    limits = {
        "arrival_seconds_max": settings.request_seconds,
        "idle_seconds_max": KEEP_ALIVE_SECONDS,
    }
    return type("Protocol", (base,), limits)


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address; listening is left to uvicorn, once it is ready."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _reason(error: OSError, settings: Settings) -> str:
    """Return why the address cannot be had, and what to do about it."""
    where = f"{settings.host}:{settings.port}"
    if isinstance(error, socket.gaierror):
        return f"Cannot serve on {where}: the host name is not known ({error.strerror})."
    if error.errno == errno.EADDRINUSE:
        return (
            f"Cannot serve on {where}: the port is in use. Stop what listens there, or choose "
            "another with --port."
        )
    if error.errno == errno.EACCES:
        return (
            f"Cannot serve on {where}: ports below 1024 need privileges. Choose another with "
            "--port."
        )
    return f"Cannot serve on {where}: {os.strerror(error.errno or 0)}."


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _stop_on_signals(server: uvicorn.Server) -> None:
    """Heed signals where uvicorn does not: just before it runs, and just after.

    Once it has shut down, uvicorn raises the signal that stopped it again, for whoever handled it
    before: without a handler here the process would seem killed.
    """

    def stop(_signal: int, _frame: Any) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
