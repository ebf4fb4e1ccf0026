"""Running the service: the data directory, a bound socket, uvicorn, and an orderly end.

SIGTERM, Ctrl-C, SIGHUP (a terminal that closes) and SIGQUIT stop accepting connections, let the
requests under way finish, and exit with 0.
The same process serves alone (:func:`serve`) or as one of several (:func:`serve_as_worker`), which
:mod:`~financial_data_service.server.workers` starts and ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from financial_data_service.engine.compiling import compilation_told
from financial_data_service.errors import DataDirectoryError
from financial_data_service.server import logs, observing
from financial_data_service.server.accepting import Acceptor, ConnectionCounts
from financial_data_service.server.app import create_app, open_prices, store_for
from financial_data_service.server.counters import Counters
from financial_data_service.server.fast_lane import FastLaneProtocol
from financial_data_service.server.guard import GuardedProtocol, sweep
from financial_data_service.server.known_requests import FastLane
from financial_data_service.server.metrics import Metrics
from financial_data_service.server.process import (
    BACKLOG,
    DRAIN_SECONDS,
    announce,
    bound_socket,
    complain,
    has_fit_certificate,
    raise_descriptor_limit,
    resume_collections,
)
from financial_data_service.server.stream.ingest import PRICE_BYTES
from financial_data_service.server.stream.protocol import (
    PING_INTERVAL_SECONDS,
    PING_TIMEOUT_SECONDS,
    STALLED_SECONDS_MAX,
    WebSocketProtocol,
)
from financial_data_service.server.temporary import remove_stale
from financial_data_service.settings import Settings, unknown_variables

__all__ = ["WorkerLink", "serve", "serve_as_worker"]

logger = logging.getLogger("uvicorn.error")

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept. Longer than the pools of common clients keep theirs, so that
it is they who close, and no request meets a connection that is just being closed."""


class _Server(uvicorn.Server):
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
            self._manager.tend()
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


@dataclass(frozen=True, slots=True)
class WorkerLink:
    """What ties a worker to the process that started it, and to its fellows.

    Attributes
    ----------
    index : int
        Which of the workers it is, from 0.
    is_first : bool
        Whether no other has served before.
    listener : socket.socket
        Bound, not blocking, shared by all.
    counts : ConnectionCounts
        Of all workers.
    counters : Counters
        Of all workers: what metrics are made of.
    parent : int
        File descriptor that can be read once the parent has gone.
    serving : int
        File descriptor to write a byte to once the worker serves.
    temporary : bool
        Whether the data directory goes with the last of the workers.
    """

    index: int
    is_first: bool
    listener: socket.socket
    counts: ConnectionCounts
    counters: Counters
    parent: int
    serving: int
    temporary: bool


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


class _WorkerServer(_Server):
    """A server that shares its socket with others, and ends with its parent."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, link: WorkerLink, acceptor: Acceptor
    ) -> None:
        super().__init__(config, app)
        self._link = link
        self._acceptor = acceptor

    def on_started(self, sockets: list[socket.socket]) -> None:
        asyncio.get_running_loop().add_reader(self._link.parent, self._on_orphaned)
        self._acceptor.start(self._connection, BACKLOG, self.config.ssl)
        with suppress(BrokenPipeError):  # The parent has gone meanwhile.
            os.write(self._link.serving, b"1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().remove_reader(self._link.parent)
        await self._acceptor.stop()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        # A terminal sends Ctrl-C to the parent as well, which knows whether it is the first.
        if sig != signal.SIGINT:
            super().handle_exit(sig, frame)

    def quit(self) -> None:
        """End without waiting for the requests under way."""
        self.should_exit = self.force_exit = True

    def _connection(self) -> asyncio.Protocol:
        protocol: type[Any] = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    def _on_orphaned(self) -> None:
        asyncio.get_running_loop().remove_reader(self._link.parent)
        self.should_exit = True


def serve(settings: Settings) -> int:
    """Serve until told to stop, and return the exit code of the process.

    Returns
    -------
    int
        0 after a signal to stop; 1 when the address or the data directory cannot be had, the
        reason is on stderr.
    """
    if not has_fit_certificate(settings):
        return 1
    listener = bound_socket(settings)
    if listener is None:
        return 1
    with listener:
        app = create_app(settings)
        server = _Server(_config_of(app, settings), app)
        raise_descriptor_limit(settings)
        _stop_on_signals(server)
        remove_stale()
        return _run(server, app, [listener])


def serve_as_worker(settings: Settings, link: WorkerLink) -> int:
    """Serve as one of several processes; to be called with SIGTERM blocked, which is undone.

    Returns
    -------
    int
        0 when told to stop or when the parent has gone, 1 when the data directory cannot be had.
    """
    app = create_app(
        settings,
        store=store_for(settings, temporary=link.temporary),
        counters=link.counters,
        worker=link.index,
    )
    acceptor = Acceptor(link.listener, link.counts, link.index)
    config = _config_of(app, settings, acceptor, link.index + 1)
    server = _WorkerServer(config, app, link, acceptor)
    _stop_on_signals(server)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, lambda _signal, _frame: server.quit())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # All have the same files, and the first compiles for all: one of them telling is enough.
    return _run(server, app, [], quiet=not link.is_first)


def _run(
    server: _Server, app: FastAPI, sockets: list[socket.socket], *, quiet: bool = False
) -> int:
    if quiet:
        return _open_and_run(server, app, sockets, quiet=True)
    _warn_of_unknown_variables()
    with compilation_told(logger.info):
        return _open_and_run(server, app, sockets, quiet=False)


def _open_and_run(
    server: _Server, app: FastAPI, sockets: list[socket.socket], *, quiet: bool
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


def _config_of(
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
        log_config=logs.configuration(settings, worker=worker, request_id=observing.request_id.get),
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


def _stop_on_signals(server: uvicorn.Server) -> None:
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
