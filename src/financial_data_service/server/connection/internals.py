"""The internals of uvicorn and websockets that this package overrides, reads or sets.

None of them is public, so any release may change them. ``pyproject.toml`` therefore allows the two
libraries up to their next minor version only. Importing this module checks that every name exists:
if one is missing, the service stops at start with an error message. Without the check, a connection
would later fail with a traceback. Other modules import these classes from here.

When uvicorn or websockets releases a minor version:

1. Raise its upper bound in ``pyproject.toml`` and run ``make lock args=--upgrade``. 2. Run ``fds
serve``. It names what is missing. 3. Read what the release changed in the classes below. If a
release changed a method that is overridden here, review the override. The docstring of the
overriding module says which behaviour it changes, and why. 4. Run ``tests/conformance``,
``tests/server`` and ``.ci/run newest``. The first checks that both lanes behave the same, byte by
byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import requires, version
from types import FunctionType
from typing import NamedTuple

from uvicorn import Config, Server


def _unsupported(reason: str) -> ImportError:
    """Return an error that says what is missing, what is installed, and what is known to work."""
    names = ("uvicorn", "websockets")
    installed = " and ".join(f"{name} {version(name)}" for name in names)
    known = [text for text in requires("financial-data-service") or () if text.startswith(names)]
    return ImportError(
        f"Expected {' and '.join(sorted(known))}, got {installed}, without what the server "
        f"overrides or reads: {reason}."
    )


try:
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
    from uvicorn.protocols.utils import ClientDisconnected
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
    from uvicorn.server import ServerState
    from websockets.protocol import State
    from websockets.server import ServerProtocol
except ImportError as error:
    raise _unsupported(str(error)) from error

__all__ = [
    "INTERNALS",
    "ClientDisconnected",
    "FlowControl",
    "HttpToolsProtocol",
    "Internals",
    "RequestResponseCycle",
    "State",
    "WebSocketsSansIOProtocol",
    "check",
]


class Internals(NamedTuple):
    """The names of a class that this package uses."""

    overridden: tuple[str, ...] = ()  # methods
    called: tuple[str, ...] = ()  # methods and properties
    attributes: tuple[str, ...] = ()  # of its instances, read or set


INTERNALS: Mapping[type, Internals] = {
    # processes/uvicorn_setup.py, processes/worker.py
    Server: Internals(
        overridden=("startup", "on_tick", "shutdown", "handle_exit"),
        attributes=(
            *("config", "force_exit", "lifespan", "server_state", "should_exit", "started"),
        ),
    ),
    ServerState: Internals(attributes=("connections", "default_headers")),
    Config: Internals(called=("is_ssl",), attributes=("http_protocol_class", "ssl")),
    # http_protocol.py, fast_lane.py (upgrade.py and arrival.py know no uvicorn)
    HttpToolsProtocol: Internals(
        overridden=(
            *("connection_made", "connection_lost", "data_received", "eof_received", "shutdown"),
            *("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body"),
            *("on_message_complete", "on_response_complete"),
            *("_should_upgrade", "send_400_response"),
        ),
        called=("_unset_keepalive_if_required", "handle_websocket_upgrade"),
        attributes=(
            *("client", "config", "cycle", "flow", "headers", "logger", "loop", "parser"),
            *("pipeline", "root_path", "scope", "server_state", "transport", "url"),
        ),
    ),
    RequestResponseCycle: Internals(
        overridden=("send",),
        attributes=(
            *("chunked_encoding", "expected_content_length", "keep_alive", "message_event"),
            *("more_body", "response_complete", "response_started", "scope"),
        ),
    ),
    FlowControl: Internals(overridden=("resume_reading",), attributes=("write_paused",)),
    # websocket_protocol.py
    WebSocketsSansIOProtocol: Internals(
        overridden=(
            *("connection_made", "connection_lost", "data_received", "resume_writing", "shutdown"),
            *("handle_parser_exception", "handle_ping", "send", "send_receive_event_to_app"),
        ),
        called=("stop_keepalive",),
        attributes=(
            *("close_sent", "close_timer", "conn", "curr_msg_data_type", "frames"),
            *("handshake_complete", "handshake_initiated", "logger", "loop", "queue"),
            *("read_paused", "transport", "writable"),
        ),
    ),
    ServerProtocol: Internals(
        overridden=("fail",),
        called=("data_to_send", "send_close", "state"),
        attributes=("close_sent", "handshake_exc", "logger"),
    ),
}


def check(internals: Mapping[type, Internals] = INTERNALS) -> None:
    """Check that all internals are there: some 0.2 ms.

    Raises
    ------
    ImportError
        When one is missing. The message says which, and which versions are known to work.
    """
    if missing := list(_missing(internals)):
        raise _unsupported(", ".join(missing))


def _missing(internals: Mapping[type, Internals]) -> Iterator[str]:
    for owner, (overridden, called, attributes) in internals.items():
        methods = set(dir(owner))
        # A class does not list the attributes of its instances. So this looks for their names in
        # the code of its methods.
        named = {
            name
            for kind in owner.__mro__
            for member in vars(kind).values()
            if isinstance(member, FunctionType)
            for name in member.__code__.co_names
        }
        for name in (*overridden, *called):
            if name not in methods:
                yield f"{owner.__name__}.{name}"
        for name in attributes:
            if name not in named:
                yield f"{owner.__name__}.{name}"


check()
