"""Numbers as people write them, and the option that a refusal proposes."""

from __future__ import annotations

import re

import pytest

from financial_data_service.cli.price_files.numbers import NumberForm, complaint


@pytest.mark.parametrize(
    ("text", "decimal", "thousands", "expected"),
    [
        ("100.13", ".", None, 100.13),
        (" 1e-3 ", ".", None, 0.001),
        ("$100.13", ".", None, 100.13),
        ("-€100.13", ".", None, -100.13),
        ("100.13 £", ".", None, 100.13),
        ("100,13", ",", None, 100.13),
        ("1.100,13", ",", ".", 1100.13),
        ("1,234,567.5", ".", ",", 1234567.5),
        ("$1,234.50", ".", ",", 1234.5),
        ("1'234.5", ".", "'", 1234.5),
        ("1’234.5", ".", "'", 1234.5),
        ("1 234,5", ",", " ", 1234.5),
        ("1\u00a0234,5", ",", " ", 1234.5),
        ("1234.5", ".", ",", 1234.5),
        (",5", ",", None, 0.5),
    ],
)
def test_forms(text: str, decimal: str, thousands: str | None, expected: float) -> None:
    assert NumberForm(decimal, thousands).parse(text) == expected


@pytest.mark.parametrize(
    ("text", "decimal", "thousands"),
    [
        ("100.13", ",", "."),  # Not 10,013: groups are of three digits.
        ("1,23,4.5", ".", ","),
        ("1,2345", ".", ","),
        ("1_000", ".", None),
        ("100,13", ".", None),
        ("nan", ".", None),
        ("inf", ".", None),
        ("1e999", ".", None),
        ("$", ".", None),
        ("1.2.3", ".", None),
    ],
)
def test_refused(text: str, decimal: str, thousands: str | None) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        NumberForm(decimal, thousands).parse(text)


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("1.100,13", "'1.100,13' is not a number. --decimal , --thousands . would read 1100.13"),
        ("100,13", "'100,13' is not a number. --decimal , would read 100.13"),
        ("1,234.50", "'1,234.50' is not a number. --thousands , would read 1234.5"),
        (
            "1,234",
            "'1,234' is not a number. --decimal , would read 1.234, --thousands , would read "
            "1234.0",
        ),
        ("1'234", "'1\\'234' is not a number. --thousands \"'\" would read 1234.0"),
        ("abc", "'abc' is not a number"),
        ("", "the cell is empty. --gaps skip leaves out such rows"),
        (".", "'.' is not a price. --gaps skip leaves out such rows"),
        ("NaN", "'NaN' is not a finite number. --gaps skip leaves out such rows"),
        ("inf", "'inf' is not a finite number"),
    ],
)
def test_a_refusal_proposes_what_would_work(cell: str, sentence: str) -> None:
    assert complaint(cell, NumberForm()).replace('"1\'234"', "'1\\'234'") == sentence
