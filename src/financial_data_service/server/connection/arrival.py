"""The state machine of the receiving side of an HTTP connection.

It does not depend on a socket or a parser.

Theory of operation
-------------------
A connection has two sides. uvicorn controls the *sending* side. It creates one cycle per request,
and each cycle sends one reply. Further requests wait in a pipeline. This module is about what it
*receives*. At any time the connection is in exactly one state:

``IDLE``
    No request is arriving: before the first, or between two. Replies to earlier requests may still
    be pending. The idle timeout runs only in this state.
``HEAD``
    The first byte of a request has arrived, but the end of its head has not. uvicorn has no cycle
    for it.
``BODY``
    The head is complete and uvicorn has a cycle for the request. The body is arriving, including
    chunk extensions and trailers. The reply may be complete already, for instance a 413; what is
    left of the body is then read and dropped.
``COLLECTING``
    The fast lane has taken a head and waits for the rest of the body. uvicorn knows nothing of this
    request, and nothing has to be undone when the fast lane hands it over.
``REPLAYING``
    A request asked for an upgrade that is not offered. The parser has stopped behind its head as if
    HTTP were over, so a new parser is fed a head that stands in for the first (`upgrade` says how).
    What the new parser reports of that head is ignored: uvicorn has seen the real one.
``UPGRADING``
    The head asks for a WebSocket that is offered. The connection changes its protocol next.
``REFUSED``
    The connection is answered 400, 408 or 431, or closed. Nothing more is read. This is final.

A request has a limited time to arrive, from its first byte to its last: the clock runs in the
states of :data:`ARRIVING`. ::

           BEGIN         HEAD_COMPLETE         COMPLETE
    IDLE ────────▶ HEAD ──────────────▶ BODY ────────────▶ IDLE

    HEAD ──────── WEBSOCKET ──▶ UPGRADING
    IDLE ──────── COLLECT ────▶ COLLECTING ── COLLECTED ─▶ IDLE
    IDLE ──────── REPLAY ─────▶ REPLAYING ─── REPLAYED ──▶ BODY
    all but REPLAYING ── REFUSE ──▶ REFUSED

Refusals
--------
A refusal is a reply like any other, and replies keep the order of the requests. It must not
overtake or interrupt the replies to earlier requests. A request gets at most one reply. When the
refusal is sent depends on the state and on what uvicorn has sent. :func:`turn_of_refusal` defines
the rule.

Invariants
----------
* Every transition is checked against :data:`LEGAL`. A transition that is not in it is a bug in this
  service or in the parser, and raises an exception. In a parser callback, the exception makes the
  request invalid (400).
* A piece of a body is not a transition. It does not change the state.
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = [
    "ARRIVING",
    "LEGAL",
    "Arrival",
    "ArrivalEvent",
    "ArrivalState",
    "IllegalArrivalError",
    "ReplyProgress",
    "Turn",
    "turn_of_refusal",
]


class ArrivalState(Enum):
    """What is arriving on a connection."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    COLLECTING = auto()
    REPLAYING = auto()
    UPGRADING = auto()
    REFUSED = auto()

    # Enum computes the hash of a member from its name, in Python code. Each transition would call
    # it twice.
    __hash__ = object.__hash__


class ArrivalEvent(Enum):
    """What happens to a connection: reported by the parser, the fast lane, or decided here."""

    BEGIN = auto()  # parser: the first byte of a request
    HEAD_COMPLETE = auto()  # parser: the empty line, of an ordinary request
    WEBSOCKET = auto()  # parser: the empty line, of a request for a WebSocket that is offered
    COMPLETE = auto()  # parser: the last byte of a request
    COLLECT = auto()  # fast lane: a head is known, its body is not all here
    COLLECTED = auto()  # fast lane: the body is here, or the connection is gone
    REPLAY = auto()  # an upgrade is ignored and a body follows
    REPLAYED = auto()  # the new parser has read the stand-in head
    REFUSE = auto()  # 400, 408 or 431

    __hash__ = object.__hash__  # as above


_S, _E = ArrivalState, ArrivalEvent

LEGAL: dict[tuple[ArrivalState, ArrivalEvent], ArrivalState] = {
    (_S.IDLE, _E.BEGIN): _S.HEAD,
    (_S.HEAD, _E.HEAD_COMPLETE): _S.BODY,
    (_S.BODY, _E.COMPLETE): _S.IDLE,
    # For an upgrade request, the parser reports COMPLETE after the head.
    (_S.HEAD, _E.WEBSOCKET): _S.UPGRADING,
    (_S.UPGRADING, _E.COMPLETE): _S.UPGRADING,
    # The fast lane looks at bytes only between two requests.
    (_S.IDLE, _E.COLLECT): _S.COLLECTING,
    (_S.COLLECTING, _E.COLLECTED): _S.IDLE,
    # A 408 while a body is collected does not end the collecting. It ends when the connection
    # closes.
    (_S.REFUSED, _E.COLLECTED): _S.REFUSED,
    # A replay starts from IDLE, because the parser has reported the request as complete. The parser
    # reports the begin and the end of the stand-in head.
    (_S.IDLE, _E.REPLAY): _S.REPLAYING,
    (_S.REPLAYING, _E.BEGIN): _S.REPLAYING,
    (_S.REPLAYING, _E.HEAD_COMPLETE): _S.REPLAYING,
    (_S.REPLAYING, _E.REPLAYED): _S.BODY,
    # Invalid HTTP can arrive in any state. A timeout can happen in the states of ARRIVING.
    (_S.IDLE, _E.REFUSE): _S.REFUSED,
    (_S.HEAD, _E.REFUSE): _S.REFUSED,
    (_S.BODY, _E.REFUSE): _S.REFUSED,
    (_S.COLLECTING, _E.REFUSE): _S.REFUSED,
    (_S.UPGRADING, _E.REFUSE): _S.REFUSED,
}
"""State and event → the next state. What is not here must not happen."""

ARRIVING = frozenset({_S.HEAD, _S.BODY, _S.COLLECTING})
"""The states in which a request has begun to arrive and has not ended: its time is limited."""


class IllegalArrivalError(AssertionError):
    """An event occurred in a state that does not allow it."""


class Arrival:
    """The state of one connection's receiving side; every step is checked.

    Attributes
    ----------
    state : ArrivalState
        Read-only for callers. :meth:`on` changes it.
    """

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = ArrivalState.IDLE

    def on(self, event: ArrivalEvent) -> None:
        """Take a step.

        Raises
        ------
        IllegalArrivalError
            When the state does not allow it. The state stays.
        """
        try:
            self.state = LEGAL[self.state, event]
        except KeyError:
            raise IllegalArrivalError(f"{event.name} while {self.state.name}") from None


class ReplyProgress(Enum):
    """What uvicorn has sent of the reply to the newest request that it knows."""

    NONE_DUE = auto()  # there was no request, or its reply is complete
    NOT_STARTED = auto()
    STARTED = auto()  # a part is sent


class Turn(Enum):
    """When a refusal is sent."""

    NOW = auto()
    BEHIND_REPLIES = auto()  # of the requests before it
    REPLACES_NEWEST = auto()  # the newest request waits: it is dropped, then as BEHIND_REPLIES
    NEVER = auto()  # the request has its reply, or a part of it: the connection is closed


def turn_of_refusal(state: ArrivalState, reply: ReplyProgress, *, is_waiting: bool) -> Turn:
    """Return when a refusal has its turn.

    Parameters
    ----------
    state : ArrivalState
        Before the refusal.
    reply : ReplyProgress
        To the newest request that uvicorn knows. In ``BODY`` this is the request that is refused,
        in all other states it is the one before.
    is_waiting : bool
        Whether requests wait in the pipeline. The newest request is then one of them.
    """
    if state is not ArrivalState.BODY:
        return Turn.NOW if reply is ReplyProgress.NONE_DUE else Turn.BEHIND_REPLIES
    if is_waiting:
        return Turn.REPLACES_NEWEST
    return Turn.NOW if reply is ReplyProgress.NOT_STARTED else Turn.NEVER
