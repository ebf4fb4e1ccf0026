"""The life of a stream's connection: its states and the legal transitions.

::

    connecting ──accept──▶ open ──close──▶ closing ──disconnect──▶ closed
        └─deny, disconnect──────┴─disconnect────────────────────────▲
"""

from __future__ import annotations

from enum import Enum

__all__ = ["LEGAL", "CloseCode", "Event", "IllegalTransitionError", "Lifecycle", "LifecycleState"]


class LifecycleState(Enum):
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


LEGAL: dict[tuple[LifecycleState, Event], LifecycleState] = {
    (LifecycleState.CONNECTING, Event.ACCEPT): LifecycleState.OPEN,
    (LifecycleState.CONNECTING, Event.REFUSE): LifecycleState.CLOSED,
    (LifecycleState.CONNECTING, Event.DISCONNECT): LifecycleState.CLOSED,
    (LifecycleState.OPEN, Event.RECEIVE): LifecycleState.OPEN,
    (LifecycleState.OPEN, Event.SEND): LifecycleState.OPEN,
    (LifecycleState.OPEN, Event.CLOSE): LifecycleState.CLOSING,
    (LifecycleState.OPEN, Event.DISCONNECT): LifecycleState.CLOSED,
    # Messages that the client sent before it received the close frame. They are not answered.
    (LifecycleState.CLOSING, Event.RECEIVE): LifecycleState.CLOSING,
    (LifecycleState.CLOSING, Event.DISCONNECT): LifecycleState.CLOSED,
}
"""LifecycleState and event → the next state. What is not here is an error of ours."""


class IllegalTransitionError(AssertionError):
    """The server took a step that the state of the connection does not allow."""


class Lifecycle:
    """The state of one connection; every step is checked against :data:`LEGAL`."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = LifecycleState.CONNECTING

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
