"""A row of counters: no word has two meanings, and each request is counted once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.server.telemetry import counter_row
from financial_data_service.server.telemetry.counter_row import (
    SAMPLED_ONE_IN,
    FastCounter,
    Histogram,
    RowLayout,
)
from financial_data_service.server.telemetry.counters import Counters


@given(st.lists(st.one_of(st.none(), st.integers(0, 200))))
def test_a_tally_counts_each_request_once(course: list[int | None]) -> None:
    """None is a fold, a number so many requests."""
    row = Counters().rows[0]
    histogram = Histogram(100, (1e-6,))
    counter = FastCounter(row, 50, histogram, SAMPLED_ONE_IN)
    answered = 0
    for step in course:
        if step is None:
            counter.flush()
            assert row[50] == answered
        else:
            for _ in range(step):
                counter.left -= 1
                if not counter.left:
                    counter.sampled(500)
            answered += step
            assert row[50] <= answered < row[50] + SAMPLED_ONE_IN
    measured = answered // SAMPLED_ONE_IN * SAMPLED_ONE_IN
    buckets, seconds = histogram.read([row])
    assert buckets == [(1e-6, measured), (math.inf, measured)]
    assert seconds == pytest.approx(measured * 5e-7)


def test_a_histogram_counts_what_lies_on_a_bound_below_it() -> None:
    row = Counters().rows[0]
    histogram = Histogram(20, (1e-6, 1e-3))
    for nanoseconds in (0, 1000, 1001, 1_000_000, 1_000_001):
        histogram.observe(row, nanoseconds)
    buckets, seconds = histogram.read([row])
    assert buckets == [(1e-6, 2), (1e-3, 4), (math.inf, 5)]
    assert seconds == pytest.approx(0.002002002)


def test_no_word_of_a_row_has_two_meanings() -> None:
    routes = [("GET", f"/{number}") for number in range(40)]
    layout = RowLayout(routes)
    words = [
        layout.word(route, lane, status)
        for route in layout.routes
        for lane in (0, 1)
        for status in counter_row.STATUSES
    ]
    for route in layout.routes:
        for lane in (0, 1):
            histogram = layout.seconds(route, lane)
            words += range(histogram.begin, histogram.end)
    words += range(layout.syncs.begin, layout.syncs.end)
    assert len(set(words)) == len(words)
    assert min(words) > counter_row.DROPPED
