"""The listening socket, and the line that announces it."""

from __future__ import annotations

import errno
import os
import socket
import sys

from financial_data_service.settings import Settings

__all__ = ["BACKLOG", "address_fault", "announce", "bound_socket", "print_error"]

BACKLOG = 2048  # connections the kernel holds while the event loop is busy; uvicorn's default


def bound_socket(settings: Settings) -> socket.socket | None:
    """Return a socket bound to the address, or None when it cannot be used; stderr has the reason.

    It does not listen yet. The code that accepts starts listening when it is ready.
    """
    try:
        return _bind(settings.host, settings.port)
    except OSError as error:
        print_error(error, settings)
        return None


def address_fault(settings: Settings) -> str | None:
    """Return why the address cannot be used; None if it can. The socket is closed again."""
    try:
        _bind(settings.host, settings.port).close()
    except OSError as error:
        return _reason(error, settings)
    return None


def print_error(error: OSError, settings: Settings) -> None:
    """Print on stderr why the address cannot be used."""
    print(_reason(error, settings), file=sys.stderr)


def announce(listener: socket.socket, *, is_tls: bool = False) -> None:
    """Print on stdout where the service is."""
    url = _url_of(listener, "https" if is_tls else "http")
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
    """Return why the address cannot be used, and what to do about it."""
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


def _url_of(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
