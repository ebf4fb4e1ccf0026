"""Client side of the ``WS /stream`` protocol, without input or output.

It decides which commands to send and which messages are new.

Invariant: for each window, the sequence of successive updates strictly increases until the symbol
is deleted, even after a reconnect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from financial_data_service.client.failures import not_our_service, refusal
from financial_data_service.client.results import Update
from financial_data_service.client.steps import Reply, ignore
from financial_data_service.errors import ServiceError
from financial_data_service.symbols import check_symbol

__all__ = [
    "News",
    "Reactions",
    "StreamState",
    "closing_error",
    "handshake_error",
    "names_of",
    "stream_name",
]

# With this number a command stays far below the 64 KiB that a service accepts. A symbol of 128
# characters has at most 1536 bytes when percent-encoded.
STREAMS_PER_MESSAGE = 20

_ENCODED = str.maketrans({character: f"%{ord(character):02X}" for character in ".@*%"})

# Close codes of RFC 6455 for which a retry is useless. Codes of 4000 plus an HTTP status are
# defined by the service.
_FINAL_CLOSE_CODES = frozenset((1003, 1007, 1008, 1009, 1010))
_PASSING_STATUSES = frozenset((408, 429, 500, 502, 503, 504))


def stream_name(symbol: str | None, k: int, interval_ms: int | None = None) -> str:
    """Return the name of a stream, with the symbol encoded for the service.

    Parameters
    ----------
    symbol : str or None
        The symbol; None for all symbols, future ones included.
    k : int
        Exponent of the window.
    interval_ms : int, optional
        Shortest interval between updates, in ms; 0 for every batch. 100 by default.

    Examples
    --------
    >>> stream_name("BRK.A", 3, interval_ms=0)
    'stats.BRK%2EA.3@0ms'
    """
    if symbol is not None:
        check_symbol(symbol)
    name = f"stats.{'*' if symbol is None else symbol.translate(_ENCODED)}.{k}"
    return name if interval_ms is None else f"{name}@{interval_ms}ms"


def names_of(streams: Iterable[str | Iterable[str]]) -> list[str]:
    """Return the names of streams, given separately or in iterables.

    Raises
    ------
    TypeError
        When an item is neither a string nor an iterable of strings.
    """
    names: list[str] = []
    for each in streams:
        several = [each] if isinstance(each, str) or not isinstance(each, Iterable) else list(each)
        for name in several:
            if not isinstance(name, str):
                raise TypeError(
                    f"Expected the name of a stream as `str`, got `{type(name).__name__}`"
                )
        names += several
    return names


class Reactions(NamedTuple):
    """Callbacks for events other than updates."""

    on_open: Callable[[], object] = ignore
    on_lost: Callable[[str], object] = ignore
    on_restored: Callable[[], object] = ignore
    on_deleted: Callable[[str], object] = ignore


class News(NamedTuple):
    """The content of a message.

    Attributes
    ----------
    update : Update or None
        The update to pass on.
    deleted : str or None
        A symbol that was deleted. It may have been created again since. If a symbol is deleted
        while there is no connection, the client cannot detect it until the symbol exists again.
    """

    update: Update | None = None
    deleted: str | None = None


class _Error(msgspec.Struct):
    code: int
    msg: str


class _StreamMessage(msgspec.Struct):
    """A message of the service, of any kind."""

    error: _Error | None = None
    event: str = ""
    stream: str = ""
    symbol: str = ""
    k: int = 0
    window: int = 0
    min: float = 0.0
    max: float = 0.0
    last: float = 0.0
    avg: float = 0.0
    var: float = 0.0
    values: int = 0
    sequence: int = 0


_decoder = msgspec.json.Decoder(_StreamMessage)


class StreamState:
    """The subscribed streams, and the newest sequence of each window of each symbol.

    Parameters
    ----------
    streams : iterable of str
        Names of streams.
    url : str
        For messages of errors.
    """

    def __init__(self, streams: Iterable[str], url: str) -> None:
        self.url = url
        # The service identifies a stream by symbol and window; the interval does not matter.
        self._streams = {_bare(stream): stream for stream in streams}
        self._known: dict[tuple[str, int], int] = {}
        self._id = 0

    @property
    def streams(self) -> list[str]:
        """Names of the subscribed streams."""
        return list(self._streams.values())

    def opening(self) -> list[str]:
        """Return the commands for a new connection."""
        return self._commands("SUBSCRIBE", self.streams)

    def subscribe(self, streams: Iterable[str]) -> list[str]:
        """Add streams or change intervals; return the commands for an open connection."""
        wanted = {_bare(stream): stream for stream in streams}
        changed = {bare: each for bare, each in wanted.items() if self._streams.get(bare) != each}
        self._streams |= changed
        return self._commands("SUBSCRIBE", list(changed.values()))

    def unsubscribe(self, streams: Iterable[str]) -> list[str]:
        """Remove streams of any interval; return the commands for an open connection."""
        bare = dict.fromkeys(_bare(stream) for stream in streams)
        dropped = {each: self._streams.pop(each) for each in bare if each in self._streams}
        # A new subscription to the same stream starts with a snapshot, so forget its sequence.
        for symbol, k in list(self._known):
            if {stream_name(symbol, k), stream_name(None, k)} & dropped.keys():
                del self._known[symbol, k]
        return self._commands("UNSUBSCRIBE", list(dropped.values()))

    def receive(self, message: str | bytes) -> News:
        """Return the new content of a message.

        Raises
        ------
        ServiceError
            When the message is an error, or does not come from this service.
        """
        try:
            told = _decoder.decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise not_our_service(self.url) from None
        if told.error is not None:
            raise ServiceError(told.error.msg, told.error.code, self.url)
        if told.event == "deleted":
            return self._deleted(told.symbol)
        if told.event in ("snapshot", "update"):
            return self._updated(told)
        return News()

    def _deleted(self, symbol: str) -> News:
        # The service reports the deletion once per stream. Only the first report is passed on.
        gone = [key for key in self._known if key[0] == symbol]
        for key in gone:
            del self._known[key]
        return News(deleted=symbol if gone else None)

    def _updated(self, told: _StreamMessage) -> News:
        key = told.symbol, told.k
        known = self._known.get(key, -1)
        if told.sequence == known:
            return News()
        deleted = self._deleted(told.symbol).deleted if told.sequence < known else None
        self._known[key] = told.sequence
        update = Update(
            symbol=told.symbol,
            k=told.k,
            window=told.window,
            min=told.min,
            max=told.max,
            last=told.last,
            avg=told.avg,
            var=told.var,
            values=told.values,
            sequence=told.sequence,
            stream=told.stream,
            is_snapshot=told.event == "snapshot",
        )
        return News(update, deleted)

    def _commands(self, method: str, streams: list[str]) -> list[str]:
        return [
            self._command(method, streams[begin : begin + STREAMS_PER_MESSAGE])
            for begin in range(0, len(streams), STREAMS_PER_MESSAGE)
        ]

    def _command(self, method: str, streams: list[str]) -> str:
        self._id += 1
        command: dict[str, Any] = {"method": method, "params": streams, "id": self._id}
        return msgspec.json.encode(command).decode()


def _bare(stream: str) -> str:
    """Return the name without its interval, with the symbol encoded as by :func:`stream_name`."""
    bare = stream.partition("@")[0]
    parts = bare.split(".")
    # `*` and invalid names are kept as they are; the service refuses the latter.
    if len(parts) != 3 or parts[1] == "*":
        return bare
    return f"{parts[0]}.{unquote(parts[1]).translate(_ENCODED)}.{parts[2]}"


def closing_error(code: int, reason: str, url: str) -> ServiceError | None:
    """Return the error for a close code, or None to connect again."""
    status = code - 4000 if 4000 < code < 5000 else None
    if code in _FINAL_CLOSE_CODES or (status and status not in _PASSING_STATUSES):
        return ServiceError(reason or f"The connection was closed with {code}", status, url)
    return None


def handshake_error(status: int, body: bytes, url: str) -> ServiceError | None:
    """Return the error for a refused WebSocket, or None to try again."""
    return None if status in _PASSING_STATUSES else refusal(Reply(status, {}, body), url)
