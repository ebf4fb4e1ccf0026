"""Which column is the price, the time, the symbol."""

from __future__ import annotations

import pytest

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.columns import PRICE_ALIASES, find_columns


@pytest.mark.parametrize("alias", PRICE_ALIASES)
def test_a_usual_name_is_taken_when_there_is_no_price(alias: str) -> None:
    columns = find_columns("f", ["when", alias.upper(), "size"], [["x", "1", "2"]], None, None)
    assert (columns.price, columns.is_alias) == (1, True)
    columns = find_columns("f", [alias, "price"], [["1", "2"]], None, None)
    assert (columns.price, columns.is_alias) == (1, False)


def test_two_usual_names_are_a_question() -> None:
    with pytest.raises(CliError, match="no column 'price'; its columns are 1 'bid', 2 'ask'"):
        find_columns("f", ["bid", "ask"], [["1", "2"]], None, None)
    assert find_columns("f", ["Last Price", "x"], [["1", "2"]], None, None).price == 0


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (["timestamp", "price"], ["1767225600000", "1"], (0,)),
        (["price", "Open time", "Close time"], ["1", "1767225600000", "1767225600001"], (1,)),
        (["Date", "Time", "price"], ["2026-01-01", "10:00:00.5", "1"], (0, 1)),
        (["when", "price"], ["2026-01-01 10:00", "1"], (0,)),
        (["trade_id", "price"], ["1767225600", "1"], ()),
        (["time", "price"], ["noon", "1"], ()),
        (None, ["7", "2.5", "1767225600000", "true"], (2,)),
    ],
)
def test_times_are_found_by_name_or_form(
    header: list[str] | None, row: list[str], expected: tuple[int, ...]
) -> None:
    price = None if header else "2"
    columns = find_columns("f", header, [row, row], price, None)
    assert columns.time == expected
    assert (columns.time_form is None) == (not expected)


def test_symbols() -> None:
    header, rows = ["Ticker", "price", "note"], [["A", "1", "x"]]
    assert find_columns("f", header, rows, None, None).symbol == 0
    assert find_columns("f", header, rows, None, "none").symbol is None
    assert find_columns("f", header, rows, None, "note").symbol == 2
    assert find_columns("f", header, rows, None, "3").symbol == 2
    with pytest.raises(CliError, match=r"no column 'x'; .* by --symbol-column NAME or NUMBER"):
        find_columns("f", header, rows, None, "x")
