"""The rows of all workers: the gauges of a worker go with it, its counters stay."""

from __future__ import annotations

from financial_data_service.server.telemetry.counters import GAUGE_WORDS, Counters


def test_what_a_worker_said_of_now_goes_with_it() -> None:
    counters = Counters(2)
    for row in counters.rows:
        for word in (0, GAUGE_WORDS - 1, GAUGE_WORDS, 1000):
            row[word] = 7
    counters.retire(1)
    assert [counters.rows[1][word] for word in (0, GAUGE_WORDS - 1, GAUGE_WORDS, 1000)] == [
        *(0, 0, 7, 7)
    ]
    assert counters.rows[0][0] == 7
