"""The schedule of retries: pauses, `Retry-After`, and which failures surely changed nothing."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from financial_data_service.client import Retries
from financial_data_service.client.retries import Tries, is_untouched, retry_after
from financial_data_service.client.steps import Lost, Reply


class TestRetries:
    def test_waits_double_up_to_a_limit_with_a_random_part(self) -> None:
        retries = Retries(pause_seconds=0.1, pause_seconds_max=5)
        for repetition, longest in enumerate([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]):
            pauses = {retries.pause(repetition) for _ in range(50)}
            assert longest / 2 <= min(pauses) < max(pauses) <= longest
        assert retries.pause(10**6) <= 5

    def test_the_service_s_own_wait_is_the_least(self) -> None:
        tries = Tries(Retries(count=2, seconds=60))
        assert tries.next_pause(at_least=7) == 7
        assert (tries.next_pause() or 9) < 1
        assert tries.next_pause() is None

    @pytest.mark.parametrize(
        ("text", "low", "high"),
        [
            ("3", 3, 3),
            ("0", 0, 0),
            ("", 0, 0),
            ("soon", 0, 0),
            ("-1", 0, 0),
            ("³", 0, 0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
            ("Wed, 21 Oct 9999 07:28:00 GMT", 1e9, 1e12),
        ],
    )
    def test_retry_after(self, text: str, low: float, high: float) -> None:
        assert low <= retry_after({"retry-after": text}) <= high

    def test_retry_after_a_date(self) -> None:
        assert 0 <= retry_after({"retry-after": formatdate(usegmt=True)}) <= 1
        soon = formatdate(time.time() + 60, usegmt=True)
        assert 50 < retry_after({"retry-after": soon}) <= 60

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [
            (Lost("", is_sent=False), True),
            (Lost("", is_sent=True), False),
            (Reply(429), True),
            (Reply(408), True),
            (Reply(503, content=b'{"detail":"draining"}'), True),
            (Reply(503, content=b"<html>"), False),
            (Reply(502), False),
            (Reply(504), False),
            (Reply(500), False),
        ],
    )
    def test_what_surely_changed_nothing(self, outcome: Reply | Lost, expected: bool) -> None:
        assert is_untouched(outcome) == expected


class TestOptions:
    @pytest.mark.parametrize("name", ["seconds", "pause_seconds", "pause_seconds_max"])
    @pytest.mark.parametrize("value", [-1, float("nan"), "x"])
    def test_times_that_are_none(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"^Expected {name} of 0 or more, got {value!r}"):
            Retries(**{name: value})
