"""The model that the view draws: a snapshot as JSON, every number as it came."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from financial_data_service.client import Limits, RefusedFile
from financial_data_service.monitor.board import Board
from financial_data_service.monitor.model import model_of
from support.updates import update

NOW = 1_000_000.0
LIMITS = Limits(max_symbols=10, largest_window=1000, batch_max=10_000)


def as_json(board: Board, ks: tuple[int, ...], now: float = NOW) -> Any:
    return json.loads(msgspec.json.encode(model_of(board.snapshot(), "http://a", ks, now)))


def test_nothing_known_is_null_and_not_zero() -> None:
    assert as_json(Board(), (2, 3)) == {
        "url": "http://a",
        "isOnline": False,
        "wantsKey": False,
        **dict.fromkeys(("problem", "offlineSince", "updatedAt", "startedAt", "limits")),
        "now": 1_000_000_000,
        "requestRate": None,
        "refused": [],
        "symbols": [],
    }


def test_symbols_with_their_windows_and_the_histories_asked_for() -> None:
    board = Board()
    board.begin([], LIMITS)
    price = 1e-7 / 3
    for k in (1, 3):
        board.take(update("A", k, 5, price), NOW)
    board.sample(NOW)
    board.lose("gone", NOW + 1)
    board.sample(NOW + 1)
    model = as_json(board, (1, 3, 8), NOW + 2)
    assert model["limits"] == {"max_symbols": 10, "largest_window": 1000, "batch_max": 10_000}
    assert (model["problem"], model["offlineSince"]) == ("gone", 1_000_001_000)
    assert (model["updatedAt"], model["now"]) == (1_000_000_000, 1_000_002_000)
    (symbol,) = model["symbols"]
    assert (symbol["name"], symbol["sequence"], symbol["last"]) == ("A", 5, price)
    first, second, third = symbol["windows"]
    assert second is None, "it has not come yet"
    for window, k in ((first, 1), (third, 3)):
        assert (window["k"], window["window"], window["values"]) == (k, 10**k, 5)
        assert [window[name] for name in ("min", "max", "last", "avg", "var")] == [
            *([price] * 4),
            2.25,
        ]
    history = symbol["history"]
    assert history["times"] == [1_000_000_000, 1_000_001_000]
    assert (history["last"], history["held"]) == ([price, None], [5.0, None])
    assert [window["k"] for window in history["windows"]] == [1, 3], "8 is beyond the largest"
    assert history["windows"][1]["std"] == [1.5, None]


def test_state_of_a_service_with_refused_files_and_a_key() -> None:
    board = Board()
    board.begin([], LIMITS)
    board.measured(10, NOW - 50, NOW - 2)
    board.measured(30, NOW - 50, NOW)
    board.refuses([RefusedFile("A<b>.ring", "cut short")])
    model = as_json(board, ())
    assert (model["isOnline"], model["requestRate"]) == (True, 10.0)
    assert model["startedAt"] == 999_950_000
    assert model["refused"] == [{"file": "A<b>.ring", "reason": "cut short"}]
    board.lose("it requires a key", NOW, wants_key=True)
    assert as_json(board, ())["wantsKey"]
