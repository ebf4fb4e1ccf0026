"""The life of a stream's connection: its states and the legal transitions.

::

    connecting ──accept──▶ open ──close──▶ closing ──disconnect──▶ closed
        └─refuse, disconnect──────┴─disconnect────────────────────────▲
"""

from __future__ import annotations

from enum import Enum

__all__ = ["LEGAL", "CloseCode", "Event", "IllegalTransitionError", "Lifecycle", "State"]


class State(Enum):
    """The state of a connection."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Event(Enum):
    """An event in the life of a connection."""

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
    """The server took a step that the state of the connection does not allow."""


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
            When the state does not allow it. The state stays the same.
        """
        following = LEGAL.get((self.state, event))
        if following is None:
            raise IllegalTransitionError(f"{event.value} while {self.state.value}")
        self.state = following


class CloseCode:
    """Close codes of RFC 6455 and its registry; codes from 4000 on are this service's own."""

    GOING_AWAY = 1001  # the server stops
    UNSUPPORTED = 1003  # binary where text is expected, or the other way round
    UNFIT_DATA = 1007  # a frame that holds no prices
    TOO_LARGE = 1009
    TRY_AGAIN_LATER = 1013  # the client takes nothing
    OF_ERROR = 4000  # and the HTTP status of the same error: 4409 is a conflict of sequence
