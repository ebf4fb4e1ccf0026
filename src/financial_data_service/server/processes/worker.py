"""One worker of several: its link to the supervisor and its server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn

from financial_data_service.server.app import Service, create_app, store_for
from financial_data_service.server.connection.acceptor import Acceptor, WorkerLoad
from financial_data_service.server.processes.listener import BACKLOG
from financial_data_service.server.processes.uvicorn_setup import (
    GracefulServer,
    config_of,
    run,
    stop_on_signals,
)
from financial_data_service.server.telemetry.counters import Counters
from financial_data_service.settings import Settings

__all__ = ["WorkerLink", "serve_as_worker"]


@dataclass(frozen=True, slots=True)
class WorkerLink:
    """What a worker shares with its parent and with the other workers.

    Attributes
    ----------
    index : int
        Which of the workers it is, from 0.
    is_first : bool
        Whether no worker has served before it.
    listener : socket.socket
        Bound, not blocking, shared by all.
    counts : WorkerLoad
        Of all workers.
    counters : Counters
        Counters of all workers, for the metrics.
    parent : int
        File descriptor that becomes readable when the parent has ended.
    serving : int
        File descriptor to write a byte to once the worker serves.
    temporary : bool
        Whether the last worker removes the data directory.
    """

    index: int
    is_first: bool
    listener: socket.socket
    counts: WorkerLoad
    counters: Counters
    parent: int
    serving: int
    temporary: bool


class _WorkerServer(GracefulServer):
    """A server that shares its socket with other workers, and ends when its parent ends."""

    def __init__(
        self, config: uvicorn.Config, service: Service, link: WorkerLink, acceptor: Acceptor
    ) -> None:
        super().__init__(config, service)
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
        # A terminal sends Ctrl-C to the parent and to all workers. The workers ignore it. The
        # parent counts it and signals the workers.
        if sig != signal.SIGINT:
            super().handle_exit(sig, frame)

    def quit(self) -> None:
        """End without waiting for the requests in flight."""
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


def serve_as_worker(settings: Settings, link: WorkerLink) -> int:
    """Serve as one of several processes. Called with SIGTERM blocked; unblocks it.

    Returns
    -------
    int
        0 after a signal to stop or when the parent has ended, 1 when the data directory cannot be
        used.
    """
    app = create_app(
        settings,
        store=store_for(settings, temporary=link.temporary),
        counters=link.counters,
        worker=link.index,
    )
    acceptor = Acceptor(link.listener, link.counts, link.index)
    config = config_of(app, acceptor, link.index + 1)
    server = _WorkerServer(config, app.state.service, link, acceptor)
    stop_on_signals(server)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, lambda _signal, _frame: server.quit())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # Only the first worker logs compilation and rejected files, because they are the same for all
    # workers.
    return run(server, [], quiet=not link.is_first)
