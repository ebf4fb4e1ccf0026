"""What a GET of the fast lane pays for being counted.

::

    python benchmarks decisions/counting.py [--quick | --smoke] [--update FILE]

The protocol is given the bytes of a request, as the event loop would, and its reply goes nowhere:
neither sockets nor the kernel are part of what the count is compared with, so the share that it
takes of a request as it is served is smaller. Beside the protocol as it is stands one that does the
same and counts nothing; they take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from financial_data_service.engine.running_stats import warm_up
from financial_data_service.server.app import create_app
from financial_data_service.server.connection.fast_lane import FastLaneProtocol
from financial_data_service.server.connection.head_cache import CachedReply, FastLane
from financial_data_service.settings import Settings
from harness import command
from harness.table import Table
from harness.timing import Side, alternate

_REQUEST = b"GET /stats/S/1 HTTP/1.1\r\nHost: test\r\nAccept: */*\r\nUser-Agent: benchmark\r\n\r\n"

_ROUNDS = {"full": 20_000, "quick": 4_000, "smoke": 20}
_CALLS = 200  # A tenth of a millisecond: most blocks are spared by whatever else runs.

_FLUSHED_ONE_IN = 50  # blocks: as often as at 100,000 requests a second


class _Uncounted(FastLaneProtocol):
    """The fast lane but for one line: that which counts."""

    def _answer_query(self, known: CachedReply) -> bool:
        reply = known.reply(self._manager, self.lane.headers(self.server_state.default_headers))
        if reply is None:
            return False
        self.transport.write(reply)
        self._was_active = True
        return True


class _Nowhere(asyncio.Transport):
    """Takes replies, and notes the last."""

    said = b""

    def write(self, data: Any) -> None:
        self.said = data


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both and hand out the table."""
    options = command.parse("What counting costs.", arguments)
    header = command.header(options)
    warm_up()
    with asyncio.Runner() as runner:
        sides = {
            name: _connection(protocol, runner.get_loop())
            for name, protocol in (("counted", FastLaneProtocol), ("not counted", _Uncounted))
        }
        found = alternate(
            [
                Side(name, _asking(protocol), _CALLS, prepare=_flushing(protocol))
                for name, protocol in sides.items()
            ],
            _ROUNDS[options.scale],
        )
        replies = {protocol.transport.said for protocol in sides.values()}
    (reply,) = replies
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n"), reply
    assert reply.endswith(b'"values":2,"sequence":2}'), reply
    table = Table("Counting: a GET in the fast lane", ["", "ns, median", "ns, least"])
    for name, timing in found.items():
        table.add(name, f"{timing.median:.0f}", f"{timing.least:.0f}")
    ratio = found["counted"].ratio_to(found["not counted"])
    table.add("counted to not counted", f"{ratio:.3f}", "")
    command.emit("benchmarks/decisions/counting.py", options, header, [table])


def _asking(protocol: Any) -> Callable[[], None]:
    """Return a function that lets the protocol read the request, in bytes that are new each time.

    A dictionary has to look at them as it would at those from a socket.
    """
    buffer = bytearray(_REQUEST)

    def ask() -> None:
        protocol.data_received(bytes(buffer))

    return ask


def _flushing(protocol: Any) -> Callable[[], None]:
    """Return a function that tells the metrics what was counted, once in so many calls.

    The service does so ten times a second.
    """
    lane = protocol.lane
    turns = cycle([lane.flush, *[lambda: None] * (_FLUSHED_ONE_IN - 1)])

    def turn() -> None:
        next(turns)()

    return turn


def _connection(protocol: type[FastLaneProtocol], loop: asyncio.AbstractEventLoop) -> Any:
    """Return a connection to a service of its own, whose symbol has two prices."""
    settings = Settings(largest_window=1000)
    app = create_app(settings)
    service = app.state.service
    service.manager.add_batch("S", [1.0, 2.0])
    lane = FastLane(service.manager, settings, service.metrics.counter)
    shared = {"lane": lane, "metrics": service.metrics}
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None)
    state = ServerState()
    state.default_headers = [(b"date", b"now"), (b"server", b"uvicorn")]
    connection = type("Protocol", (protocol,), shared)(config, state, {}, loop)
    connection.connection_made(_Nowhere())
    return connection


if __name__ == "__main__":
    main()
