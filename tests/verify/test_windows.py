"""Recomputed windows are those of the oracle, and every wrong answer is found.

Prices that are overwritten while they are read are never compared.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import (
    WORD_COUNT,
    Geometry,
)
from financial_data_service.engine.ring_view import RingView
from financial_data_service.errors import OverwrittenError
from financial_data_service.verify import windows
from financial_data_service.verify.windows import check_window, check_windows
from financial_data_service.windows import WindowStats
from support import series
from support.oracle import Oracle
from support.rings import SMALL, filled, verified


@pytest.mark.parametrize("name", series.ALL)
def test_recomputed_windows_are_those_of_the_oracle(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In runs of 100 prices: put together from many, they are as exact as from one."""
    monkeypatch.setattr(windows, "RUN", 100)
    prices = series.make(name, 1500)
    oracle = Oracle(prices)
    held = RingView("A", filled(Geometry(1000, 8, 100), prices))
    lengths = [1, 2, 7, 10, 99, 100, 101, 640, 1000]
    for check in check_windows(held, lengths):
        oracle.check(check.recomputed, check.length)
        if name in series.ORDINARY:
            exact = oracle.mean(1500 - check.length, 1500)
            assert check.recomputed.avg == float(exact), "rounded once"
        assert check.served[1:] == kernels.window(
            held._header,
            held._region,
            check.length,
            -1,
        )


def served_by(change: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fields found to differ when the service answers something else."""
    held = RingView("A", filled(SMALL, np.linspace(1.0, 2.0, 64)))
    window = RingView.window

    def wrong(held: RingView, length: int, as_of: int) -> WindowStats:
        answer = window(held, length, as_of)
        return answer._replace(
            **{field: getattr(answer, field) * (1 + relative) for field, relative in change.items()}
        )

    with monkeypatch.context() as patch:
        patch.setattr(RingView, "window", wrong)
        (check,) = check_windows(held, [64])
    return check.differing


def test_windows_that_are_answered_wrongly_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ("min", "max", "last"):
        assert served_by({field: 3e-16}, monkeypatch) == [field]
    assert served_by({"avg": 6e-16}, monkeypatch) == ["avg"]
    assert served_by({"avg": 1e-16}, monkeypatch) == []
    assert served_by({"var": 2e-14}, monkeypatch) == ["var"]
    assert served_by({"var": 0.5e-14}, monkeypatch) == []
    assert served_by({"avg": np.nan, "var": np.inf}, monkeypatch) == ["avg", "var"]


def test_the_sign_of_the_last_price_counts() -> None:
    ring = filled(SMALL, np.array([1.0, -0.0]))
    assert verified(ring) == ([], [])
    assert struct.pack("<d", check_window(RingView("A", ring), 2).recomputed.last)[-1] == 0x80


# While others append


def test_a_window_that_is_overwritten_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = filled(SMALL, np.linspace(1.0, 2.0, 100))
    add_up, overtaken = windows._add_up, iter([True])

    def slow(held: RingView, begin: int, end: int) -> Any:
        if next(overtaken, False):
            for _ in range(10):
                kernels.append(ring.header, ring.region, np.full(8, 7.0))
        return add_up(held, begin, end)

    monkeypatch.setattr(windows, "_add_up", slow)
    monkeypatch.setattr(windows, "RUN", 16)
    steps: list[int] = []
    (check,) = check_windows(RingView("A", ring), [64], steps.append)
    assert check.served.sequence == 180
    assert check.differing == []
    assert sum(steps) == 64, "a bar does not go back"


def test_a_window_that_is_overwritten_again_and_again_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring = filled(SMALL, np.linspace(1.0, 2.0, 100))
    add_up = windows._add_up

    def slow(held: RingView, begin: int, end: int) -> Any:
        ring.header[WORD_COUNT] += SMALL.capacity
        return add_up(held, begin, end)

    monkeypatch.setattr(windows, "_add_up", slow)
    with pytest.raises(OverwrittenError, match=r"^Prices [\d,]+ to [\d,]+ of symbol A were over"):
        check_windows(RingView("A", ring), [64])
