"""When a dead worker is started again, and how its end is put in words. No process, no clock."""

from __future__ import annotations

import signal

import pytest

from financial_data_service.server.processes.worker_slot import (
    PAUSE_SECONDS_MAX,
    STEADY_SECONDS,
    WorkerSlot,
    ending,
)


def test_a_worker_that_keeps_dying_early_is_started_after_longer_and_longer_pauses() -> None:
    slot = WorkerSlot(0)
    assert [slot.postpone(100.0) for _ in range(8)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert slot.start_at == 100.0 + PAUSE_SECONDS_MAX


def test_a_worker_that_served_for_long_is_started_at_once() -> None:
    slot = WorkerSlot(0)
    for _ in range(5):
        slot.postpone(100.0)
    slot.is_serving, slot.serving_since = True, 200.0
    assert slot.postpone(200.0 + STEADY_SECONDS) == 0.0
    assert not slot.is_serving
    slot.is_serving, slot.serving_since = True, 300.0
    assert slot.postpone(300.0 + STEADY_SECONDS - 0.1) == 0.5


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-40, "was killed by signal 40"),
    ],
)
def test_an_end_is_put_in_words(exit_code: int, words: str) -> None:
    assert ending(exit_code) == words
