"""uvicorn, configured: protocols, signals, an orderly end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

from financial_data_service.engine.compile_notice import announce_compilation
from financial_data_service.errors import DataDirectoryError
from financial_data_service.server.app import open_prices
from financial_data_service.server.connection.acceptor import Acceptor
from financial_data_service.server.connection.fast_lane import FastLaneProtocol
from financial_data_service.server.connection.head_cache import FastLane
from financial_data_service.server.connection.http_protocol import GuardedProtocol, sweep
from financial_data_service.server.connection.websocket_protocol import (
    PING_INTERVAL_SECONDS,
    PING_TIMEOUT_SECONDS,
    STALLED_SECONDS_MAX,
    WebSocketProtocol,
)
from financial_data_service.server.middleware import observation
from financial_data_service.server.processes.listener import (
    BACKLOG,
    announce,
    complain,
)
from financial_data_service.server.processes.startup import (
    DRAIN_SECONDS,
    resume_collections,
)
from financial_data_service.server.stream.ingest_route import PRICE_BYTES
from financial_data_service.server.telemetry import logs
from financial_data_service.server.telemetry.metrics import Metrics
from financial_data_service.settings import Settings, unknown_variables

__all__ = []

logger = logging.getLogger("uvicorn.error")

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept. Longer than the pools of common clients keep theirs, so that
it is they who close, and no request meets a connection that is just being closed."""


class GracefulServer(uvicorn.Server):
    """uvicorn, which looks after slow connections and after the prices, and tells once it serves.

    Parameters
    ----------
    config : uvicorn.Config
        With the application.
    app : FastAPI
        The application, whose symbols are tended.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._manager = app.state.manager
        self._metrics = app.state.metrics
        self._metrics.connections = lambda: len(self.server_state.connections)
        self._hub = app.state.hub

    async def on_tick(self, counter: int) -> bool:
        self._metrics.fold()
        if counter % 10 == 0:  # once a second
            sweep(self.server_state.connections, asyncio.get_running_loop().time())
            self._manager.run_housekeeping()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            resume_collections()
            self.on_started(sockets or [])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Requests under way are waited for, and an event stream is one that would not end.
        self._hub.stop()
        await super().shutdown(sockets)
        if self.force_exit:
            # After a second Ctrl-C uvicorn leaves the application where it was: it would say so
            # with a traceback.
            await self.lifespan.shutdown()

    def on_started(self, sockets: list[socket.socket]) -> None:
        announce(sockets[0], is_tls=self.config.is_ssl)


class _Counted(asyncio.Protocol):
    """Part of a protocol: the acceptor hears of the end of each connection."""

    acceptor: Acceptor

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.acceptor.forget()


class _Noted(asyncio.Protocol):
    """Part of a protocol: what is refused before it is a request is counted, too."""

    metrics: Metrics
    _refusal: tuple[str, str] | None

    def refuse(self, status: str, detail: str) -> None:
        was_refused = self._refusal is not None
        super().refuse(status, detail)  # type: ignore[misc]
        if self._refusal is not None and not was_refused:
            self.metrics.count_refused(int(status[:3]))


def run(
    server: GracefulServer, app: FastAPI, sockets: list[socket.socket], *, quiet: bool = False
) -> int:
    if quiet:
        return _open_and_run(server, app, sockets, quiet=True)
    _warn_of_unknown_variables()
    with announce_compilation(logger.info):
        return _open_and_run(server, app, sockets, quiet=False)


def _open_and_run(
    server: GracefulServer, app: FastAPI, sockets: list[socket.socket], *, quiet: bool
) -> int:
    try:
        open_prices(app, quiet=quiet)
    except DataDirectoryError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        server.run(sockets=sockets)
    except OSError as error:
        complain(error, app.state.settings)
        return 1
    finally:
        # Also when the application was never told of its end.
        app.state.manager.close()
    return 0 if server.started else 1


def _warn_of_unknown_variables() -> None:
    """Say which variables look like settings and are none: a misspelt limit limits nothing."""
    strange = [
        name if similar is None else f"{name} (did you mean {similar}?)"
        for name, similar in unknown_variables().items()
    ]
    if strange:
        logger.warning("No setting has the name of these variables: %s", ", ".join(strange))


def config_of(
    app: FastAPI,
    settings: Settings,
    acceptor: Acceptor | None = None,
    worker: int | None = None,
) -> uvicorn.Config:
    """Return uvicorn's configuration, which has set up its log."""
    password = settings.ssl_keyfile_password
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=_protocol_for(app, settings, acceptor),
        ws=_websocket_protocol_for(settings, acceptor),
        ws_max_size=max(settings.stream_message_bytes_max, 2 * PRICE_BYTES * settings.batch_max),
        ws_ping_interval=PING_INTERVAL_SECONDS,
        ws_ping_timeout=PING_TIMEOUT_SECONDS,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=logs.configuration(
            settings, worker=worker, request_id=observation.request_id.get
        ),
        log_level=settings.log_level,
        access_log=False,  # There is one of ours, for both lanes.
        root_path=settings.root_path,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        ssl_keyfile_password=None if password is None else password.get_secret_value(),
    )


def _protocol_for(
    app: FastAPI, settings: Settings, acceptor: Acceptor | None = None
) -> type[asyncio.Protocol]:
    """Return the protocol of connections: both lanes or the slow one alone, counted or not."""
    base: type[asyncio.Protocol] = GuardedProtocol
    if settings.fast_lane:
        app.state.fast_lane = FastLane(app.state.manager, settings, app.state.metrics.tally)
        app.state.metrics.fast_lane = app.state.fast_lane.fold
        base = FastLaneProtocol
    members: dict[str, Any] = {
        "arrival_seconds_max": settings.request_seconds,
        "idle_seconds_max": KEEP_ALIVE_SECONDS,
        "metrics": app.state.metrics,
    }
    if acceptor is None:
        return type("Protocol", (_Noted, base), members)
    return type("Protocol", (_Counted, _Noted, base), members | {"acceptor": acceptor})


def _websocket_protocol_for(
    settings: Settings, acceptor: Acceptor | None = None
) -> type[asyncio.Protocol]:
    """Return the protocol of WebSockets, counted or not."""
    members: dict[str, Any] = {
        "handshake_seconds_max": settings.request_seconds,
        "stalled_seconds_max": min(STALLED_SECONDS_MAX, settings.request_seconds),
    }
    if acceptor is None:
        return type("WebSocket", (WebSocketProtocol,), members)
    return type("WebSocket", (_Counted, WebSocketProtocol), members | {"acceptor": acceptor})


def stop_on_signals(server: uvicorn.Server) -> None:
    """Heed signals where uvicorn does not: just before it runs, and just after.

    Once it has shut down, uvicorn raises the signal that stopped it again, for whoever handled it
    before: without a handler here the process would seem killed.
    """

    def stop(_signal: int, _frame: Any) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # Of these uvicorn knows nothing: they would end the process with its files as after a crash.
    signal.signal(signal.SIGQUIT, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup, or one of several workers
        signal.signal(signal.SIGHUP, stop)
