"""What a single process and a family of them share: the socket, what is said of it, how it ends.

Invariant: nothing here loads the engine or uvloop, so that the parent of several is small.
"""

from __future__ import annotations

import errno
import os
import socket
import sys

from financial_data_service.settings import Settings

__all__ = ["BACKLOG", "DRAIN_SECONDS", "announce", "bound_socket", "complain"]

DRAIN_SECONDS = 10
"""How long requests under way may take to finish once the service is told to stop: longer than
any request takes, shorter than the 30 s after which supervisors use force."""

BACKLOG = 2048  # connections the kernel holds while the event loop is busy; uvicorn's default


def bound_socket(settings: Settings) -> socket.socket | None:
    """Return a socket bound to the address, or None when it cannot be had; stderr says why.

    Listening is left to whoever accepts, once it is ready.
    """
    try:
        return _bind(settings.host, settings.port)
    except OSError as error:
        complain(error, settings)
        return None


def complain(error: OSError, settings: Settings) -> None:
    """Say on stderr why the address cannot be had."""
    print(_reason(error, settings), file=sys.stderr)


def announce(listener: socket.socket) -> None:
    """Say on stdout where the service is."""
    url = _url_of(listener)
    print(f"Serving on {url}\nTry it: {url}/docs", flush=True)


def _bind(host: str, port: int) -> socket.socket:
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
