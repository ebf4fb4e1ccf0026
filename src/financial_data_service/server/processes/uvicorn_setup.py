"""uvicorn's configuration and server: protocols, signals, once-a-second checks, a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from typing import Any

import uvicorn
from fastapi import FastAPI

from financial_data_service.engine.compile_notice import announce_compilation
from financial_data_service.errors import DataDirectoryError
from financial_data_service.server.app import Service
from financial_data_service.server.connection.acceptor import AcceptedProtocol, Acceptor
from financial_data_service.server.connection.fast_lane import FastLaneProtocol
from financial_data_service.server.connection.head_cache import FastLane
from financial_data_service.server.connection.http_protocol import LimitedHttpProtocol, sweep
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
    print_error,
)
from financial_data_service.server.processes.service_manager import ServiceManager
from financial_data_service.server.processes.startup import (
    DRAIN_SECONDS,
    resume_gc,
)
from financial_data_service.server.stream.ingest_route import PRICE_BYTES
from financial_data_service.server.telemetry import logs
from financial_data_service.settings import Settings, unknown_variables

__all__ = [
    "GracefulServer",
    "config_of",
    "http_protocol_for",
    "run",
    "stop_on_signals",
    "websocket_protocol_for",
]

logger = logging.getLogger("financial_data_service.processes")

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept open.

It is longer than common clients' connection pools keep theirs. So the client closes first, and no
request is sent on a connection that the server is closing.
"""


class GracefulServer(uvicorn.Server):
    """uvicorn's server, which also ends slow connections and runs the housekeeping of the prices.

    Parameters
    ----------
    config : uvicorn.Config
        With the application.
    service : Service
        What it serves from.
    manager : ServiceManager, optional
        Who is told that it serves. Of several workers none tells; their parent does.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, manager: ServiceManager | None = None
    ) -> None:
        super().__init__(config)
        self.service = service
        self._manager = manager or ServiceManager()
        service.metrics.connections = lambda: len(self.server_state.connections)

    async def on_tick(self, counter: int) -> bool:
        """Flush the metrics ten times a second; check connections and prices once a second."""
        self._manager.sign(time.monotonic())
        self.service.metrics.flush()
        if counter % 10 == 0:
            sweep(self.server_state.connections, asyncio.get_running_loop().time())
            self.service.manager.run_housekeeping()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does; then collect garbage again and announce the service."""
        await super().startup(sockets)
        if self.started:
            resume_gc()
            self.on_started(sockets or [])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then shut down as uvicorn does."""
        self._manager.stopping()
        # uvicorn waits for requests under way, and an event stream does not end by itself.
        self.service.hub.stop()
        await super().shutdown(sockets)
        if self.force_exit:
            # After a second Ctrl-C uvicorn skips the application's shutdown. The application would
            # then end with a traceback, so it is shut down here.
            await self.lifespan.shutdown()

    def on_started(self, sockets: list[socket.socket]) -> None:
        """Print the line that says where the service is, and tell the service manager."""
        announce(sockets[0], is_tls=self.config.is_ssl)
        self._manager.ready(time.monotonic())


def run(server: GracefulServer, sockets: list[socket.socket], *, quiet: bool = False) -> int:
    """Open the prices, serve until told to stop, close them, and return the exit code.

    Parameters
    ----------
    server : GracefulServer
        Configured, not yet running.
    sockets : list of socket.socket
        To listen on; none where an acceptor listens.
    quiet : bool
        Log nothing of settings, compilation and rejected files: another process has done so.

    Returns
    -------
    int
        0 after a signal to stop; 1 when the data directory or the address cannot be used.
    """
    if quiet:
        return _open_and_run(server, sockets, quiet=True)
    _warn_of_unknown_variables()
    with announce_compilation(logger.info):
        return _open_and_run(server, sockets, quiet=False)


def _open_and_run(server: GracefulServer, sockets: list[socket.socket], *, quiet: bool) -> int:
    service = server.service
    try:
        service.open(quiet=quiet)
    except DataDirectoryError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        server.run(sockets=sockets)
    except OSError as error:
        print_error(error, service.settings)
        return 1
    finally:
        # After some errors uvicorn does not run the application's shutdown.
        service.close()
    return 0 if server.started else 1


def _warn_of_unknown_variables() -> None:
    """Warn about environment variables that look like settings but are not.

    A misspelt setting has no effect.
    """
    strange = [
        name if similar is None else f"{name} (did you mean {similar}?)"
        for name, similar in unknown_variables().items()
    ]
    if strange:
        logger.warning("No setting has the name of these variables: %s", ", ".join(strange))


def config_of(
    app: FastAPI,
    acceptor: Acceptor | None = None,
    worker: int | None = None,
) -> uvicorn.Config:
    """Return uvicorn's configuration. Creating the configuration also configures logging.

    Parameters
    ----------
    app : FastAPI
        The application, with its service.
    acceptor : Acceptor, optional
        The acceptor of a worker.
    worker : int, optional
        Number of the worker in log lines, from 1.
    """
    service: Service = app.state.service
    settings = service.settings
    password = settings.ssl_keyfile_password
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=http_protocol_for(service, acceptor),
        ws=websocket_protocol_for(settings, acceptor),
        ws_max_size=max(settings.stream_message_bytes_max, 2 * PRICE_BYTES * settings.batch_max),
        ws_ping_interval=PING_INTERVAL_SECONDS,
        ws_ping_timeout=PING_TIMEOUT_SECONDS,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=logs.configuration(
            settings, worker=worker, request_id=observation.request_id.get
        ),
        log_level=settings.log_level,
        access_log=False,  # telemetry/logs.py writes one for both lanes.
        root_path=settings.root_path,
        forwarded_allow_ips=[*settings.forwarded_allow_ips],
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        ssl_keyfile_password=None if password is None else password.get_secret_value(),
    )


def http_protocol_for(
    service: Service, acceptor: Acceptor | None = None
) -> type[LimitedHttpProtocol]:
    """Return the protocol of HTTP connections.

    Parameters
    ----------
    service : Service
        Its settings decide whether the fast lane is used.
    acceptor : Acceptor, optional
        The acceptor of a worker, which counts its connections.
    """
    settings, metrics = service.settings, service.metrics
    base = LimitedHttpProtocol
    members: dict[str, Any] = {
        "arrival_seconds_max": settings.request_seconds,
        "idle_seconds_max": KEEP_ALIVE_SECONDS,
        "metrics": metrics,
    }
    if settings.fast_lane:
        base = FastLaneProtocol
        lane = FastLane(service.manager, settings, metrics.counter)
        metrics.fast_lane = lane.flush
        members |= {"lane": lane, "in_flight_max": settings.in_flight_max}
    if acceptor is None:
        return type("HttpProtocol", (base,), members)
    return type("HttpProtocol", (AcceptedProtocol, base), members | {"acceptor": acceptor})


def websocket_protocol_for(
    settings: Settings, acceptor: Acceptor | None = None
) -> type[WebSocketProtocol]:
    """Return the protocol of WebSocket connections; ``acceptor`` as in `http_protocol_for`."""
    members: dict[str, Any] = {
        "handshake_seconds_max": settings.request_seconds,
        "stalled_seconds_max": min(STALLED_SECONDS_MAX, settings.request_seconds),
    }
    if acceptor is None:
        return type("WebSocket", (WebSocketProtocol,), members)
    return type(
        "WebSocket", (AcceptedProtocol, WebSocketProtocol), members | {"acceptor": acceptor}
    )


def stop_on_signals(server: uvicorn.Server) -> None:
    """Handle signals just before and just after uvicorn runs, when uvicorn does not handle them.

    After its shutdown uvicorn raises the signal that stopped it again, for the handlers from before
    it ran. Without a handler the process would end as if it had been killed.
    """

    def stop(_signal: int, _frame: Any) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # uvicorn does not handle these signals. Unhandled, they would end the process, and its files
    # would not be closed cleanly.
    signal.signal(signal.SIGQUIT, stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup, or one of several workers
        signal.signal(signal.SIGHUP, stop)
