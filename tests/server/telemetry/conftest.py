"""A wire whose metrics have begun, and a clock that the test knows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from financial_data_service.server.connection import fast_lane
from support.metrics_text import Clock
from support.wire import Wire


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fast_lane, "perf_counter_ns", clock)
    monkeypatch.setattr(time, "perf_counter_ns", clock)
    return clock


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        wire.service.metrics.start()
        yield wire
        wire.service.metrics.stop()
