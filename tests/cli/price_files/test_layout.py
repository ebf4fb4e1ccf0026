"""Where a table begins in a text, and what is not certain."""

from __future__ import annotations

import pytest

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.layout import find_layout, sniff_delimiter
from financial_data_service.cli.price_files.numbers import NumberForm

ROWS = "2026-01-01,1.5\n2026-01-02,2.5\n2026-01-03,3.5\n"


@pytest.mark.parametrize(
    ("text", "header", "first_line"),
    [
        ("date,price\n" + ROWS, ["date", "price"], 2),
        (ROWS, None, 1),
        ("https://www.example.com/prices\ndate,price\n" + ROWS, ["date", "price"], 3),
        ("# from an exchange\n#\ndate,price\n" + ROWS, ["date", "price"], 4),
        ("Prices of ACME\n\ndate,price\n" + ROWS, ["date", "price"], 4),
        ("Kind,price\nTicker,ACME\nDate,\n" + ROWS, ["Kind", "price"], 4),
        ("Kind,Close\nTicker,ACME\nDate,\n" + ROWS, ["Kind", "Close"], 4),
        ("date,price\n2026-01-01,\n" + ROWS, ["date", "price"], 2),
        ("date,price\n2026-01-01,$1.5\n", ["date", "price"], 2),
        ('"date","price"\n"2026-01-01","1,234.50"\n', ["date", "price"], 2),
    ],
)
def test_where_the_rows_begin(text: str, header: list[str] | None, first_line: int) -> None:
    layout = find_layout("f", text.splitlines(keepends=True), None, NumberForm(), 0)
    assert layout.header == header
    assert layout.first_line == first_line
    assert layout.delimiter == ","
    assert layout.sample[0][0] == "2026-01-01"


def test_lines_of_words_that_tell_no_header_show_what_was_read() -> None:
    lines = ["a,b\n", "c,d\n", "1,2\n"]
    with pytest.raises(CliError) as caught:
        find_layout("f", lines, None, NumberForm(), 0)
    assert "f has 2 lines of words before its first number" in str(caught.value)
    assert "--skip-lines N" in str(caught.value)
    assert "  1: a,b\n  2: c,d\n  3: 1,2" in str(caught.value)
    layout = find_layout("f", lines, None, NumberForm(), 1)
    assert (layout.header, layout.first_line) == (["c", "d"], 3)


def test_the_decimal_sign_is_no_delimiter() -> None:
    lines = ["100,13\n", "100,14\n"]
    assert find_layout("f", lines, None, NumberForm(","), 0).sample == [["100,13"], ["100,14"]]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(["price\n", "1.5\n"], ","), (["a|b\n", "1|2\n"], "|"), (["a\tb,c\n", "1\t2,3\n"], "\t")],
)
def test_delimiters(lines: list[str], expected: str) -> None:
    assert sniff_delimiter(lines) == expected
