"""The state machine of what arrives on an HTTP connection. It knows no socket and no parser.

Theory of operation
-------------------
A connection has two sides. What it *sends* belongs to uvicorn: one cycle a request, one reply a
cycle, further requests waiting in a pipeline. This module is about what it *receives*. At any time
the connection is in exactly one state:

``IDLE``
    No request is arriving: before the first, or between two. Replies may still be due. The idle
    time of a connection runs here and nowhere else.
``HEAD``
    The first byte of a request has come, the end of its head has not. uvicorn has no cycle for it.
``BODY``
    The head is complete and uvicorn has a cycle for the request. The body is arriving, or what
    belongs to it: extensions of chunks, trailers. The reply may be complete already, for instance
    a 413; what is left of the body is then read and dropped.
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
A refusal is a reply like any other: it comes in its turn. It must neither overtake the replies to
the requests before it nor cut one in two, and a request gets one reply at most. Which turn that is
depends on the state and on what uvicorn has sent: :func:`turn_of_refusal` is the whole rule.

Invariants
----------
* Every step is checked against :data:`LEGAL`. A step that is not in it is a bug of ours or of the
  parser. It raises; out of a callback of the parser that makes the request an invalid one (400).
* Pieces of a body are no step: they change no state, and there may be many.
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

    # Enum hashes the name, in Python code. Every step would pay for two such calls.
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
    # The parser calls a request for an upgrade complete behind its head.
    (_S.HEAD, _E.WEBSOCKET): _S.UPGRADING,
    (_S.UPGRADING, _E.COMPLETE): _S.UPGRADING,
    # The fast lane looks at bytes only between two requests.
    (_S.IDLE, _E.COLLECT): _S.COLLECTING,
    (_S.COLLECTING, _E.COLLECTED): _S.IDLE,
    # A refusal while a body is collected (408) does not end the collecting, which ends with the
    # connection.
    (_S.REFUSED, _E.COLLECTED): _S.REFUSED,
    # The parser has called the request complete, so it is IDLE that a replay starts from. Of the
    # stand-in head the parser reports its begin and its end.
    (_S.IDLE, _E.REPLAY): _S.REPLAYING,
    (_S.REPLAYING, _E.BEGIN): _S.REPLAYING,
    (_S.REPLAYING, _E.HEAD_COMPLETE): _S.REPLAYING,
    (_S.REPLAYING, _E.REPLAYED): _S.BODY,
    # A read may hold bytes that are no HTTP in any state; time is up in those that are arriving.
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
    """An event came in a state that does not allow it."""


class Arrival:
    """The state of one connection's receiving side; every step is checked.

    Attributes
    ----------
    state : ArrivalState
        To be read; :meth:`on` changes it.
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
