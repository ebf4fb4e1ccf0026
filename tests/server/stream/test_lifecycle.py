"""The life of a stream by table, without a socket: each state with each event."""

from __future__ import annotations

import itertools

import pytest

from financial_data_service.server.stream.lifecycle import (
    LEGAL,
    Event,
    IllegalTransitionError,
    Lifecycle,
    LifecycleState,
)

PATHS = {
    LifecycleState.CONNECTING: [],
    LifecycleState.OPEN: [Event.ACCEPT],
    LifecycleState.CLOSING: [Event.ACCEPT, Event.CLOSE],
    LifecycleState.CLOSED: [Event.ACCEPT, Event.DISCONNECT],
}
"""How to come to each state."""

EXPECTED = {
    "connecting": {"accept": "open", "refuse": "closed", "disconnect": "closed"},
    "open": {"receive": "open", "send": "open", "close": "closing", "disconnect": "closed"},
    "closing": {"receive": "closing", "disconnect": "closed"},
    "closed": {},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(LifecycleState, Event)))
def test_every_event_in_every_state(state: LifecycleState, event: Event) -> None:
    lifecycle = Lifecycle()
    for step in PATHS[state]:
        lifecycle.on(step)
    assert lifecycle.state is state
    expected = EXPECTED[state.value].get(event.value)
    if expected is None:
        with pytest.raises(IllegalTransitionError, match=f"{event.value} while {state.value}"):
            lifecycle.on(event)
        assert lifecycle.state is state
    else:
        lifecycle.on(event)
        assert lifecycle.state is LifecycleState(expected)


def test_a_refused_connection_is_at_its_end() -> None:
    lifecycle = Lifecycle()
    lifecycle.on(Event.REFUSE)
    for event in Event:
        with pytest.raises(IllegalTransitionError):
            lifecycle.on(event)


def test_every_state_is_reached_and_all_end() -> None:
    reached = {LifecycleState.CONNECTING} | set(LEGAL.values())
    assert reached == set(LifecycleState)
    assert {state for state, _ in LEGAL} == set(LifecycleState) - {LifecycleState.CLOSED}
