"""The service in a single process.

SIGTERM, Ctrl-C, SIGHUP (a terminal that closes) and SIGQUIT stop accepting connections, let the
requests in flight finish, and exit with 0. Several processes are run by
:mod:`~financial_data_service.server.processes.supervisor`.
"""

from __future__ import annotations

import socket
from contextlib import closing

from financial_data_service.server.app import create_app
from financial_data_service.server.processes.listener import bound_socket
from financial_data_service.server.processes.service_manager import ServiceManager
from financial_data_service.server.processes.startup import (
    has_fit_certificate,
    raise_descriptor_limit,
)
from financial_data_service.server.processes.temporary_directory import remove_stale
from financial_data_service.server.processes.uvicorn_setup import (
    GracefulServer,
    config_of,
    run,
    stop_on_signals,
)
from financial_data_service.settings import Settings

__all__ = ["serve"]


def serve(settings: Settings) -> int:
    """Serve until a signal stops it, and return the exit code of the process.

    Returns
    -------
    int
        0 after a signal to stop. 1 when the address or the data directory cannot be used; stderr
        has the reason.
    """
    if not has_fit_certificate(settings):
        return 1
    listener = bound_socket(settings)
    if listener is None:
        return 1
    with listener:
        app = create_app(settings)
        config = config_of(app)  # It sets up the log.
        with closing(ServiceManager.of_environment()) as manager:
            return _serve(settings, GracefulServer(config, app.state.service, manager), listener)


def _serve(settings: Settings, server: GracefulServer, listener: socket.socket) -> int:
    raise_descriptor_limit(settings)
    stop_on_signals(server)
    remove_stale()
    return run(server, [listener])
