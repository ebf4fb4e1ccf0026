"""Histories: rounding of what is sent, and constants that the root page must share."""

from __future__ import annotations

import math
import re
from decimal import Decimal

import numpy as np
import pytest

from financial_data_service.client import Update
from financial_data_service.monitor import feed, history
from financial_data_service.monitor.board import SET_SECONDS_MAX
from financial_data_service.monitor.history import DIGITS, History, columns
from financial_data_service.monitor.snapshot import SymbolSnapshot
from support.paths import ROOT
from support.updates import update

STATIC = ROOT / "src" / "financial_data_service" / "server" / "page" / "static"


@pytest.mark.parametrize(
    "price", [64_123.456789012345, 1 / 3, 1e-9 / 7, -2e12 / 3, 1e150 / 3, 1e-300 / 7, 0.0, -0.5]
)
def test_statistics_keep_twelve_digits_and_prices_all(price: float) -> None:
    samples = History(3)
    windows: dict[int, Update] = {2: update("A", 2, 5, price)}
    samples.add(1.0, SymbolSnapshot("A", windows, 5, price, np.empty((0, 0))), 1000)
    lists = columns(samples.frozen(), [2])
    assert lists["last"] == [price]
    (window,) = lists["windows"]
    expected = Decimal(f"{price:.{DIGITS - 1}e}")
    for name in ("avg", "min", "max"):
        (value,) = window[name]
        difference = abs(Decimal(value) - expected)
        assert difference <= abs(expected) * Decimal(10) ** (1 - DIGITS), (name, value)
        if abs(price) < 1e22:  # Beyond, powers of ten are no exact doubles.
            assert len(repr(value)) <= len(repr(price))
    assert window["std"] == [1.5]


def test_a_gap_is_null() -> None:
    samples = History(1)
    samples.add(1.0, None, 1000)
    lists = columns(samples.frozen(), [1])
    assert (lists["last"], lists["held"], lists["rate"]) == ([None], [None], [None])
    assert lists["windows"][0]["avg"] == [None]
    assert math.isnan(samples.frozen()[0, 1])


def constant(name: str, file: str) -> float:
    found = re.search(rf"^const {name} = (\d+);", (STATIC / file).read_text("utf-8"), re.MULTILINE)
    assert found, (name, file)
    return float(found[1])


def test_both_pages_sample_alike() -> None:
    assert constant("SAMPLES_MAX", "board.js") == history.SAMPLES_MAX
    assert constant("RATE_SAMPLES", "board.js") == history.RATE_SAMPLES
    assert constant("SET_MS_MAX", "board.js") == 1000 * SET_SECONDS_MAX
    assert constant("SAMPLE_MS", "page.js") == 1000 * history.SAMPLE_SECONDS
    assert constant("INTERVAL_MS", "page.js") == feed.INTERVAL_MS
    assert constant("POLL_MS", "page.js") == 1000 * feed.POLL_SECONDS
    assert constant("ANSWER_MS_MAX", "page.js") == 1000 * feed.ANSWER_SECONDS_MAX
