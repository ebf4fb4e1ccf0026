"""The protocol of ``WS /stream`` without a socket: commands, replies and updates.

While a connection is open (:mod:`~financial_data_service.server.stream.lifecycle`), the client
sends commands in JSON. Every command has one reply, in order. A command that is not understood
changes nothing and gets an error; the connection stays open.

Invariant: nothing here waits, reads a clock, or knows a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import msgspec

from financial_data_service.errors import InvalidSymbolError, WindowSizeError
from financial_data_service.server.stream.lifecycle import CloseCode
from financial_data_service.windows import WindowStats
from financial_data_service.wire import (
    Stream,
    SubscribedStream,
    name_of,
    parse_subscription,
    shorten,
)

__all__ = ["Action", "Kind", "SessionReply", "StreamSession", "error_message", "update_message"]

_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
_MISSING = object()  # stands for a missing field


# --- Messages of the server


class Kind(Enum):
    """Kinds of updates."""

    SNAPSHOT = "snapshot"
    UPDATE = "update"
    DELETED = "deleted"


class _UpdateMessage(msgspec.Struct):
    stream: str
    symbol: str
    k: int
    # The fields of WindowStats, in their order.
    window: int
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int
    sequence: int
    event: str


def update_message(symbol: str, k: int, kind: Kind, answer: WindowStats | None) -> str:
    """Return the update for a window; the statistics are None for a deleted symbol."""
    name = name_of(Stream(symbol, k))
    if answer is None:
        return _encode({"stream": name, "symbol": symbol, "event": kind.value}).decode()
    return _encode(_UpdateMessage(name, symbol, k, *answer, kind.value)).decode()


def error_message(code: int, message: str, **more: object) -> str:
    """Return the message for an error. Its code is the HTTP status of the same error."""
    return _encode({"error": {"code": code, "msg": message}, **more}).decode()


# --- Messages of the client


class Action(Enum):
    """What the hub is to do after a reply."""

    SUBSCRIBE = "SUBSCRIBE"
    CHANGE_INTERVAL = "CHANGE_INTERVAL"
    UNSUBSCRIBE = "UNSUBSCRIBE"


Change: TypeAlias = tuple[Action, SubscribedStream]


class SessionReply(NamedTuple):
    """The reply to a message, and what follows from it.

    Attributes
    ----------
    text : str
        The reply, sent before anything that follows from it.
    changes : tuple
        What is to be done, in order.
    close_code : int or None
        Code with which the connection is closed after the text.
    """

    text: str
    changes: tuple[Change, ...] = ()
    close_code: int | None = None


class _RefusedError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamSession:
    """The subscriptions of one connection, and the replies to its commands.

    Parameters
    ----------
    largest_window : int
        Of the service; it determines the valid k.
    subscriptions_max, message_bytes_max : int
        Limits of the connection.
    """

    def __init__(self, largest_window: int, subscriptions_max: int, message_bytes_max: int) -> None:
        self._largest_window = largest_window
        self._subscriptions_max = subscriptions_max
        self._message_bytes_max = message_bytes_max
        self._subscribed: dict[Stream, SubscribedStream] = {}

    @property
    def subscriptions(self) -> list[SubscribedStream]:
        """The subscriptions, oldest first."""
        return list(self._subscribed.values())

    def receive(self, message: str | bytes) -> SessionReply:
        """Answer a message. O(size)."""
        if isinstance(message, bytes):
            text = error_message(415, "Expected text, got a binary message", id=None)
            return SessionReply(text, close_code=CloseCode.UNSUPPORTED)
        if len(message.encode("utf-8", "surrogatepass")) > self._message_bytes_max:
            text = error_message(
                413, f"Expected a message of {self._message_bytes_max} bytes at most", id=None
            )
            return SessionReply(text, close_code=CloseCode.TOO_LARGE)
        number: int | str | None = None
        try:
            question = _parsed(message)
            number = _id_of(question)
            return self._answer(question, number)
        except _RefusedError as error:
            return SessionReply(error_message(error.code, str(error), id=number))

    def _answer(self, question: dict[str, Any], number: int | str | None) -> SessionReply:
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

    def _wanted(self, question: dict[str, Any]) -> list[SubscribedStream]:
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

    def _subscribe(self, wanted: Iterable[SubscribedStream]) -> list[Change]:
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

    def _unsubscribe(self, wanted: Iterable[SubscribedStream]) -> list[Change]:
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


def _result(
    result: object, number: int | str | None, changes: Iterable[Change] = ()
) -> SessionReply:
    return SessionReply(_encode({"result": result, "id": number}).decode(), tuple(changes))


def _described(value: object) -> str:
    """Return a short description of a value, with JSON's names of types."""
    if value is _MISSING:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, str):
        return f"`{shorten(value)}`"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    return "an object"
