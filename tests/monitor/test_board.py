"""The monitor's board: what it knows after which updates, and what it samples."""

from __future__ import annotations

import math
from dataclasses import replace

from financial_data_service.client import Limits, Symbol, Update
from financial_data_service.monitor.board import Board
from financial_data_service.monitor.history import SAMPLES_MAX, columns
from financial_data_service.monitor.snapshot import SymbolSnapshot
from support.updates import update

LIMITS = Limits(max_symbols=10, largest_window=1000, batch_max=10_000)
THERE = [Symbol("A", 5, 5)]


def board_with(*updates: Update) -> Board:
    board = Board()
    board.begin(THERE, LIMITS)
    for each in updates:
        board.take(each, 100.0)
    return board


def only(board: Board) -> SymbolSnapshot:
    (symbol,) = board.snapshot().symbols
    return symbol


def rates(board: Board) -> list[float | None]:
    found: list[float | None] = columns(only(board).history, [])["rate"]
    return found


def test_nothing_is_known_at_first() -> None:
    snapshot = Board().snapshot()
    assert (snapshot.is_online, snapshot.problem, snapshot.symbols) == (False, None, [])
    assert (snapshot.limits, snapshot.k_max) == (None, 0)


def test_windows_of_a_symbol_come_one_by_one() -> None:
    board = board_with(update("A", 1, 5, 3.0), update("A", 2, 7, 4.0), update("A", 3, 6, 3.5))
    symbol = only(board)
    assert sorted(symbol.windows) == [1, 2, 3]
    assert (symbol.sequence, symbol.last) == (7, 4.0), "those of the newest message"
    snapshot = board.snapshot()
    assert (snapshot.k_max, snapshot.updated_at) == (3, 100.0)


def test_windows_of_an_update_are_shown_together_or_after_a_moment() -> None:
    board = board_with(*(update("A", k, 5) for k in (1, 2, 3)))
    board.take(update("A", 1, 6), 200.0)
    board.take(update("A", 2, 6), 200.01)

    def shown(now: float) -> tuple[int, list[int]]:
        (symbol,) = board.snapshot(now).symbols
        return symbol.sequence, [symbol.windows[k].sequence for k in (1, 2, 3)]

    assert shown(200.02) == (5, [5, 5, 5])
    board.sample(200.02)
    assert shown(200.06) == (6, [6, 6, 5]), "the rest is late"
    board.take(update("A", 3, 6), 200.07)
    assert shown(200.07) == (6, [6, 6, 6])
    board.sample(200.5)
    assert columns(only(board).history, [])["held"] == [5.0, 6.0]


def test_a_symbol_that_begins_anew_is_shown_with_all_its_windows() -> None:
    board = board_with(*(update("A", k, 500) for k in (1, 2, 3)))
    board.lose("gone", 200.0)
    board.begin(THERE, LIMITS)
    for k, sequence in ((1, 500), (2, 500), (3, 2)):
        board.take(update("A", k, 2), 201.0)
        (symbol,) = board.snapshot(201.0).symbols
        assert (symbol.sequence, symbol.is_current) == (sequence, sequence == 2)
        assert {window.sequence for window in symbol.windows.values()} == {sequence}


def test_deleted_symbols_go_and_may_begin_anew() -> None:
    board = board_with(update("A", 1, 5))
    for _ in range(2):
        board.forget("A")
    assert board.snapshot().symbols == []
    board.sample(102.0)
    board.take(update("A", 1, 1), 103.0)
    assert only(board).sequence == 1


def test_loss_is_told_from_its_beginning_and_numbers_stay() -> None:
    board = board_with(update("A", 1, 5))
    board.lose("gone", 200.0)
    board.lose("still gone", 300.0)
    snapshot = board.snapshot()
    assert (snapshot.problem, snapshot.lost_at) == ("still gone", 200.0)
    assert (snapshot.is_online, only(board).sequence) == (False, 5)
    board.begin(THERE, LIMITS)
    snapshot = board.snapshot()
    assert (snapshot.is_online, snapshot.problem, snapshot.lost_at) == (True, None, None)


def test_after_a_loss_symbols_that_are_gone_go_and_the_others_may_begin_anew() -> None:
    board = board_with(update("A", 1, 500), update("B", 1, 5))
    board.lose("gone", 200.0)
    board.begin(THERE, LIMITS)
    assert only(board).symbol == "A"
    board.take(update("A", 1, 2), 201.0)
    assert only(board).sequence == 2


def test_after_a_loss_nothing_is_sampled_that_has_not_come_again() -> None:
    board = board_with(update("A", 1, 1_000_000))
    for now in (100.0, 101.0):
        board.sample(now)
    board.lose("gone", 101.5)
    board.begin(THERE, LIMITS)
    board.sample(102.0)
    snapshot = board.snapshot()
    assert (snapshot.is_online, only(board).sequence) == (True, 1_000_000), "the one before"
    board.take(update("A", 1, 1_000_000), 102.4)
    for now in (102.5, 103.0):
        board.sample(now)
    lists = columns(only(board).history, [1])
    assert lists["held"] == [1000.0, 1000.0, None, 1000.0, 1000.0]
    assert lists["windows"][0]["avg"] == [2.0, 2.0, None, 2.0, 2.0]
    assert lists["rate"] == [None, 0.0, None, 0.0, 0.0]


def test_other_windows_than_before_begin_anew() -> None:
    board = board_with(update("A", 1, 5))
    board.begin(THERE, replace(LIMITS, largest_window=100))
    assert board.snapshot().symbols == []
    board.take(update("A", 2, 5), 100.0)
    board.sample(101.0)


def test_rates_are_over_the_last_samples() -> None:
    board = board_with(update("A", 1, 1000))
    board.sample(100.0)
    assert rates(board) == [None], "one sample has no rate"
    for second in range(1, 11):
        board.take(update("A", 1, 1000 + 40 * second), 100.0 + second)
        board.sample(100.0 + second)
    assert rates(board)[-1] == 40.0
    for second in range(11, 20):
        board.sample(100.0 + second)
    assert rates(board)[-1] == 0.0


def test_requests_are_counted_from_one_look_to_the_next() -> None:
    board = board_with()
    board.measured(100, 50.0, 200.0)
    assert math.isnan(board.snapshot().request_rate)
    board.measured(130, 50.0, 202.0)
    assert (board.snapshot().request_rate, board.snapshot().started_at) == (15.0, 50.0)
    board.measured(3, 203.0, 204.0)  # The service has restarted.
    assert math.isnan(board.snapshot().request_rate)


def test_history_has_gaps_where_nothing_was_known() -> None:
    board = board_with(update("A", 2, 5, 3.0))
    board.sample(100.0)
    board.lose("gone", 101.0)
    board.sample(101.0)
    board.begin(THERE, LIMITS)
    board.take(update("A", 2, 2000, 4.0), 102.0)
    board.sample(102.0)
    lists = columns(only(board).history, [1, 2])
    assert lists["times"] == [100_000, 101_000, 102_000]
    assert lists["last"] == [3.0, None, 4.0]
    assert lists["held"] == [5.0, None, 1000.0], "not more than the largest window"
    first, second = lists["windows"]
    assert first["avg"] == [None, None, None]
    assert (second["window"], second["avg"], second["std"]) == (100, [3, None, 4], [1.5, None, 1.5])


def test_history_is_bounded() -> None:
    board = board_with(update("A", 1, 5))
    for second in range(SAMPLES_MAX + 10):
        board.sample(float(second))
    times = columns(only(board).history, [])["times"]
    assert times == [1000 * second for second in range(10, SAMPLES_MAX + 10)]


def test_a_snapshot_stays_what_it_is() -> None:
    board = board_with(update("A", 1, 5))
    board.sample(1.0)
    before = board.snapshot()
    board.take(update("A", 1, 6), 2.0)
    board.sample(2.0)
    board.lose("gone", 3.0)
    assert before.symbols[0].windows[1].sequence == 5
    assert len(before.symbols[0].history) == 1
    assert before.is_online
