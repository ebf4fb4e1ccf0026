"""The state machine of what arrives: every pair of state and event, every turn of a refusal.

No socket, no parser, no clock. The tests walk the table itself; what the walk of a real request
looks like on the wire is tested in ``test_http_protocol`` and in ``tests/conformance``.
"""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.server.connection.arrival import (
    ARRIVING,
    LEGAL,
    Arrival,
    ArrivalEvent,
    ArrivalState,
    IllegalArrivalError,
    ReplyProgress,
    Turn,
    turn_of_refusal,
)

S, E = ArrivalState, ArrivalEvent


def walk(*events: ArrivalEvent) -> list[ArrivalState]:
    """Return the states behind each of the events."""
    arrival = Arrival()
    states = []
    for event in events:
        arrival.on(event)
        states.append(arrival.state)
    return states


WALKS = {
    "a request": ((E.BEGIN, E.HEAD_COMPLETE, E.COMPLETE), (S.HEAD, S.BODY, S.IDLE)),
    "a handshake": ((E.BEGIN, E.WEBSOCKET, E.COMPLETE), (S.HEAD, S.UPGRADING, S.UPGRADING)),
    "a batch of the fast lane": ((E.COLLECT, E.COLLECTED), (S.COLLECTING, S.IDLE)),
    "a batch handed over": (
        (E.COLLECT, E.COLLECTED, E.BEGIN, E.HEAD_COMPLETE, E.COMPLETE),
        (S.COLLECTING, S.IDLE, S.HEAD, S.BODY, S.IDLE),
    ),
    "an upgrade that is ignored": (
        (
            *(E.BEGIN, E.HEAD_COMPLETE, E.COMPLETE),
            *(E.REPLAY, E.BEGIN, E.HEAD_COMPLETE, E.REPLAYED, E.COMPLETE),
        ),
        (
            *(S.HEAD, S.BODY, S.IDLE),
            *(S.REPLAYING, S.REPLAYING, S.REPLAYING, S.BODY, S.IDLE),
        ),
    ),
    "a body that is late": ((E.BEGIN, E.HEAD_COMPLETE, E.REFUSE), (S.HEAD, S.BODY, S.REFUSED)),
    "a collected body that is late": (
        (E.COLLECT, E.REFUSE, E.COLLECTED),
        (S.COLLECTING, S.REFUSED, S.REFUSED),
    ),
}


@pytest.mark.parametrize("kind", WALKS)
def test_what_arrives_walks_these_states(kind: str) -> None:
    events, states = WALKS[kind]
    assert tuple(walk(*events)) == states


@pytest.mark.parametrize(
    ("state", "event"), list(product(S, E)), ids=lambda value: value.name.lower()
)
def test_a_step_is_in_the_table_or_raises_and_changes_nothing(
    state: ArrivalState, event: ArrivalEvent
) -> None:
    arrival = Arrival()
    arrival.state = state
    if (state, event) in LEGAL:
        arrival.on(event)
        assert arrival.state is LEGAL[state, event]
    else:
        with pytest.raises(IllegalArrivalError, match=f"^{event.name} while {state.name}$"):
            arrival.on(event)
        assert arrival.state is state


@given(st.lists(st.sampled_from(E)))
def test_a_refusal_is_final(events: list[ArrivalEvent]) -> None:
    assert all(after is S.REFUSED for (before, _), after in LEGAL.items() if before is S.REFUSED)
    arrival = Arrival()
    arrival.on(E.REFUSE)
    for event in events:
        if (S.REFUSED, event) in LEGAL:
            arrival.on(event)
        assert arrival.state is S.REFUSED


def test_every_state_is_reached_and_the_clock_runs_where_bytes_are_missing() -> None:
    reached, due = {S.IDLE}, [S.IDLE]
    while due:
        state = due.pop()
        for (before, _), after in LEGAL.items():
            if before is state and after not in reached:
                reached.add(after)
                due.append(after)
    assert reached == set(S)
    assert {S.HEAD, S.BODY, S.COLLECTING} == ARRIVING


def test_each_arriving_state_can_be_refused_so_that_time_can_be_up_in_it() -> None:
    assert {before for before, event in LEGAL if event is E.REFUSE} >= ARRIVING | {S.IDLE}


TURNS = {
    # Not yet a request that uvicorn knows: the refusal follows the replies that are due.
    (S.HEAD, ReplyProgress.NONE_DUE, False): Turn.NOW,
    (S.HEAD, ReplyProgress.NOT_STARTED, False): Turn.BEHIND_REPLIES,
    (S.HEAD, ReplyProgress.STARTED, False): Turn.BEHIND_REPLIES,
    (S.HEAD, ReplyProgress.NOT_STARTED, True): Turn.BEHIND_REPLIES,
    # The request that is refused is uvicorn's newest: one reply at most.
    (S.BODY, ReplyProgress.NOT_STARTED, False): Turn.NOW,
    (S.BODY, ReplyProgress.STARTED, False): Turn.NEVER,
    (S.BODY, ReplyProgress.NONE_DUE, False): Turn.NEVER,
    (S.BODY, ReplyProgress.NOT_STARTED, True): Turn.REPLACES_NEWEST,
}


@pytest.mark.parametrize(("state", "reply", "is_waiting"), TURNS)
def test_a_refusal_has_its_turn(
    state: ArrivalState, reply: ReplyProgress, is_waiting: bool
) -> None:
    turn = TURNS[state, reply, is_waiting]
    assert turn_of_refusal(state, reply, is_waiting=is_waiting) is turn
    if state is S.HEAD:
        for other in (S.IDLE, S.COLLECTING, S.UPGRADING):
            assert turn_of_refusal(other, reply, is_waiting=is_waiting) is turn
