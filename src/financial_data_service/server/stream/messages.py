"""The protocol of ``WS /stream`` without a socket: what may happen when, what is said to what.

A connection is in one of four states, and :data:`LEGAL` is all that may happen to it:

::

    connecting ──accept──▶ open ──close──▶ closing ──disconnect──▶ closed
        └─refuse, disconnect──────┴─disconnect────────────────────────▲

While it is open a client asks in JSON, and every question has one answer, in order. A question that
is not understood changes nothing and is answered with an error; the connection goes on.

Invariant: nothing here waits, reads a clock, or knows a socket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

import msgspec

from financial_data_service.engine.running_stats import WindowStats, check_exponent
from financial_data_service.engine.symbol_manager import check_symbol
from financial_data_service.errors import InvalidSymbolError, WindowSizeError

__all__ = [
    "DEFAULT_INTERVAL_MS",
    "INTERVAL_MS_MAX",
    "LEGAL",
    "Action",
    "Answer",
    "CloseCode",
    "Event",
    "IllegalTransitionError",
    "Kind",
    "Lifecycle",
    "Session",
    "State",
    "Stream",
    "Subscription",
    "error_message",
    "name_of",
    "parse_subscription",
    "update_message",
]

DEFAULT_INTERVAL_MS = 100
INTERVAL_MS_MAX = 60_000

_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


# --- What may happen when


class State(Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Event(Enum):
    """What happens to a connection."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    RECEIVE = "receive"
    SEND = "send"
    CLOSE = "close"
    DISCONNECT = "disconnect"


LEGAL: dict[tuple[State, Event], State] = {
    (State.CONNECTING, Event.ACCEPT): State.OPEN,
    (State.CONNECTING, Event.REFUSE): State.CLOSED,
    (State.CONNECTING, Event.DISCONNECT): State.CLOSED,
    (State.OPEN, Event.RECEIVE): State.OPEN,
    (State.OPEN, Event.SEND): State.OPEN,
    (State.OPEN, Event.CLOSE): State.CLOSING,
    (State.OPEN, Event.DISCONNECT): State.CLOSED,
    # What the other side sent before it saw our close; it is not answered.
    (State.CLOSING, Event.RECEIVE): State.CLOSING,
    (State.CLOSING, Event.DISCONNECT): State.CLOSED,
}
"""State and event → the next state. What is not here is an error of ours."""


class IllegalTransitionError(AssertionError):
    """The server did to a connection what its state does not allow."""


class Lifecycle:
    """The state of one connection; every step is checked against :data:`LEGAL`."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.CONNECTING

    def on(self, event: Event) -> None:
        """Take a step.

        Raises
        ------
        IllegalTransitionError
            When the state does not allow it; the state stays.
        """
        following = LEGAL.get((self.state, event))
        if following is None:
            raise IllegalTransitionError(f"{event.value} while {self.state.value}")
        self.state = following


class CloseCode:
    """Why a connection was closed, as RFC 6455 and its registry number it; 4000 up are ours."""

    GOING_AWAY = 1001  # the server stops
    UNSUPPORTED = 1003  # binary where text is expected, or the other way round
    UNFIT_DATA = 1007  # a frame that holds no prices
    TOO_LARGE = 1009
    TRY_AGAIN_LATER = 1013  # the client takes nothing
    OF_ERROR = 4000  # and the HTTP status of the same error: 4409 is a conflict of sequence


# --- Names of streams


class Stream(NamedTuple):
    """What is watched: one window of one symbol, or of all symbols (None)."""

    symbol: str | None
    k: int


class Subscription(NamedTuple):
    """A stream, and how often at most it is told, in milliseconds; 0 is every batch."""

    stream: Stream
    interval_ms: int

    @property
    def name(self) -> str:
        """The name with its interval, as it is listed."""
        return f"{name_of(self.stream)}@{self.interval_ms}ms"


_NAME = re.compile(
    r"stats\.(?P<symbol>\*|[^.@*]+)\.(?P<k>0|[1-9][0-9]{0,3})(?:@(?P<interval>[0-9]{1,6})ms)?"
)
_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_ENCODED = str.maketrans({character: f"%{ord(character):02X}" for character in ".@*%"})
_MISSING = object()  # in the place of a field that is not there
_NAME_SHOWN_MAX = 64  # characters of a name that are quoted


def name_of(stream: Stream) -> str:
    """Return the name of a stream, without an interval; what would part it is percent-encoded."""
    symbol = "*" if stream.symbol is None else stream.symbol.translate(_ENCODED)
    return f"stats.{symbol}.{stream.k}"


def parse_subscription(name: str, largest_window: int) -> Subscription:
    """Return what a name stands for.

    Raises
    ------
    ValueError
        When it is no name of a stream; the message says what was expected.
    """
    match = _NAME.fullmatch(name)
    if match is None or _ESCAPE.search(name):
        raise ValueError(
            "Expected a stream `stats.<symbol>.<k>` or `stats.<symbol>.<k>@<interval>ms`, the "
            f"symbol `*` or percent-encoded where it holds one of `.@*%`, got `{_shown(name)}`"
        )
    symbol = None if match["symbol"] == "*" else _decoded(match["symbol"])
    k = int(match["k"])
    check_exponent(k, largest_window)
    interval_ms = DEFAULT_INTERVAL_MS if match["interval"] is None else int(match["interval"])
    if interval_ms > INTERVAL_MS_MAX:
        raise ValueError(f"Expected an interval of at most {INTERVAL_MS_MAX} ms, got {interval_ms}")
    return Subscription(Stream(symbol, k), interval_ms)


def _decoded(symbol: str) -> str:
    try:
        decoded = unquote(symbol, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"Expected UTF-8 behind `%`, got `{_shown(symbol)}`") from None
    check_symbol(decoded)
    return decoded


def _shown(text: str) -> str:
    return text if len(text) <= _NAME_SHOWN_MAX else text[:_NAME_SHOWN_MAX] + "…"


# --- What the server says


class Kind(Enum):
    """What an update is."""

    SNAPSHOT = "snapshot"
    UPDATE = "update"
    DELETED = "deleted"


class _Update(msgspec.Struct):
    stream: str
    symbol: str
    k: int
    window: int
    # From here on the fields of WindowStats, in their order.
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int
    sequence: int
    event: str


def update_message(symbol: str, k: int, kind: Kind, answer: WindowStats | None) -> str:
    """Return the message that tells of a window; None where the symbol is gone."""
    name = name_of(Stream(symbol, k))
    if answer is None:
        return _encode({"stream": name, "symbol": symbol, "event": kind.value}).decode()
    return _encode(_Update(name, symbol, k, 10**k, *answer, kind.value)).decode()


def error_message(code: int, message: str, **more: object) -> str:
    """Return the message that tells of an error; the code is the HTTP status it has elsewhere."""
    return _encode({"error": {"code": code, "msg": message}, **more}).decode()


# --- What the client says


class Action(Enum):
    """What an answer asks the hub to do."""

    SUBSCRIBE = "SUBSCRIBE"
    CHANGE_INTERVAL = "CHANGE_INTERVAL"
    UNSUBSCRIBE = "UNSUBSCRIBE"


Change: TypeAlias = tuple[Action, Subscription]


class Answer(NamedTuple):
    """What is said to a message, and what follows from it.

    Attributes
    ----------
    text : str
        To be sent before anything that follows from it.
    changes : tuple
        What is to be done, in this order.
    close_code : int or None
        With which the connection ends behind the text.
    """

    text: str
    changes: tuple[Change, ...] = ()
    close_code: int | None = None


class _RefusedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Session:
    """The subscriptions of one connection, and the answers to what its client says.

    Parameters
    ----------
    largest_window : int
        Of the service; it says which k there are.
    subscriptions_max, message_bytes_max : int
        Limits of the connection.
    """

    def __init__(self, largest_window: int, subscriptions_max: int, message_bytes_max: int) -> None:
        self._largest_window = largest_window
        self._subscriptions_max = subscriptions_max
        self._message_bytes_max = message_bytes_max
        self._subscribed: dict[Stream, Subscription] = {}

    @property
    def subscriptions(self) -> list[Subscription]:
        """What is subscribed to, oldest first."""
        return list(self._subscribed.values())

    def receive(self, message: str | bytes) -> Answer:
        """Answer a message. O(size)."""
        if isinstance(message, bytes):
            text = error_message(415, "Expected text, got a binary message", id=None)
            return Answer(text, close_code=CloseCode.UNSUPPORTED)
        if len(message.encode("utf-8", "surrogatepass")) > self._message_bytes_max:
            text = error_message(
                413, f"Expected a message of {self._message_bytes_max} bytes at most", id=None
            )
            return Answer(text, close_code=CloseCode.TOO_LARGE)
        number: int | str | None = None
        try:
            question = _parsed(message)
            number = _id_of(question)
            return self._answer(question, number)
        except _RefusedError as error:
            return Answer(error_message(error.code, str(error), id=number))

    def _answer(self, question: dict[str, Any], number: int | str | None) -> Answer:
        method = question.get("method", _MISSING)
        if method == "LIST_SUBSCRIPTIONS":
            return _result([subscription.name for subscription in self.subscriptions], number)
        if method == "SUBSCRIBE":
            return _result(None, number, self._subscribe(self._wanted(question)))
        if method == "UNSUBSCRIBE":
            return _result(None, number, self._unsubscribe(self._wanted(question)))
        raise _RefusedError(
            422,
            "Expected `SUBSCRIBE`, `UNSUBSCRIBE` or `LIST_SUBSCRIPTIONS`, got "
            f"{_described(method)} - at `method`",
        )

    def _wanted(self, question: dict[str, Any]) -> list[Subscription]:
        params = question.get("params", _MISSING)
        if not isinstance(params, list) or not params:
            raise _RefusedError(
                422, f"Expected an array of streams, got {_described(params)} - at `params`"
            )
        wanted = []
        for index, name in enumerate(params):
            place = f" - at `params[{index}]`"
            if not isinstance(name, str):
                raise _RefusedError(422, f"Expected a stream, got {_described(name)}{place}")
            try:
                wanted.append(parse_subscription(name, self._largest_window))
            except InvalidSymbolError as error:
                raise _RefusedError(422, str(error).partition(" - at ")[0] + place) from None
            except (ValueError, WindowSizeError) as error:
                raise _RefusedError(422, f"{error}{place}") from None
        return wanted

    def _subscribe(self, wanted: Iterable[Subscription]) -> list[Change]:
        subscribed = self._subscribed | {each.stream: each for each in wanted}
        if len(subscribed) > self._subscriptions_max:
            raise _RefusedError(
                429,
                f"Expected {self._subscriptions_max} subscriptions at most, got {len(subscribed)}",
            )
        before, self._subscribed = self._subscribed, subscribed
        return [
            (Action.CHANGE_INTERVAL if stream in before else Action.SUBSCRIBE, subscription)
            for stream, subscription in subscribed.items()
            if before.get(stream) != subscription
        ]

    def _unsubscribe(self, wanted: Iterable[Subscription]) -> list[Change]:
        gone = [self._subscribed.pop(each.stream, None) for each in wanted]
        return [(Action.UNSUBSCRIBE, each) for each in gone if each is not None]


def _parsed(message: str) -> dict[str, Any]:
    try:
        question = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise _RefusedError(400, "Expected JSON") from None
    if not isinstance(question, dict):
        raise _RefusedError(400, f"Expected an object, got {_described(question)}")
    return question


def _id_of(question: dict[str, Any]) -> int | str | None:
    number = question.get("id")
    is_integer = type(number) is int and -(2**63) <= number < 2**63
    if number is None or is_integer or isinstance(number, str):
        return number
    raise _RefusedError(
        422, f"Expected an integer of 64 bits, a string or null, got {_described(number)} - at `id`"
    )


def _result(result: object, number: int | str | None, changes: Iterable[Change] = ()) -> Answer:
    return Answer(_encode({"result": result, "id": number}).decode(), tuple(changes))


def _described(value: object) -> str:
    """Return what a value is, in JSON's words, and short."""
    if value is _MISSING:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, str):
        return f"`{_shown(value)}`"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    return "an object"
