"""Times as files write them, ordered as datetime orders them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest

from financial_data_service.cli.price_files.times import find_time_form, looks_like_time

START = datetime(2026, 1, 28, 9, 30, tzinfo=UTC)
MOMENTS = [START + timedelta(hours=31 * i, microseconds=1000 * i) for i in range(20)]


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S.%f",
        "%Y-%m-%dT%H:%M:%S.%fZ",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M:%S+00:00",
        "%Y-%m-%d %H:%M",
        "%Y/%m/%d %H:%M:%S",
        "%Y.%m.%d %H:%M:%S",
        "%d.%m.%Y %H:%M:%S",
        "%d/%m/%Y %H:%M",
        "%m/%d/%Y %H:%M:%S",
        "%d-%m-%Y %H:%M",
        "%Y%m%d %H%M%S",
        "%Y%m%d %H:%M:%S",
        "%Y-%m-%d",
        "%Y%m%d",
    ],
)
@pytest.mark.parametrize("is_newest_first", [False, True])
def test_dates(form: str, is_newest_first: bool) -> None:
    moments = MOMENTS[::-1] if is_newest_first else MOMENTS
    cells = [moment.strftime(form) for moment in moments]
    found = find_time_form(cells, is_named=False)
    assert found is not None
    keys, is_bad = found.keys(pl.Series(cells))
    assert not is_bad.any()
    # The same order as that of the moments which the cells can express.
    expected = [datetime.strptime(cell, form).timestamp() for cell in cells]
    for (one, other), (first, second) in zip(pairwise(keys), pairwise(expected), strict=True):
        assert (one < other) == (first < second)
        assert (one > other) == (first > second)


def test_an_offset_counts() -> None:
    cells = ["2026-01-01T10:00:00+02:00", "2026-01-01T09:00:00+00:00"]
    form = find_time_form(cells, is_named=False)
    assert form is not None
    keys, _ = form.keys(pl.Series(cells))
    assert keys[1] - keys[0] == 3600 * 10**9


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_seconds_since_1970_are_found_by_their_size(unit: int) -> None:
    cells = [str((1_767_225_600 + i) * unit) for i in range(5)]
    form = find_time_form(cells, is_named=False)
    assert form is not None
    keys, is_bad = form.keys(pl.Series([*cells, "x"]))
    assert list(keys[:5]) == [int(cell) for cell in cells]
    assert list(is_bad) == [False] * 5 + [True]


@pytest.mark.parametrize("cells", [["1", "2"], ["100.13"], ["AAPL"], ["1,5"], [], [""]])
def test_what_is_no_time(cells: list[str]) -> None:
    assert find_time_form(cells, is_named=False) is None


def test_numbers_of_a_column_of_times() -> None:
    assert find_time_form(["1", "2"], is_named=True) is not None
    assert find_time_form(["a", "b"], is_named=True) is None


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("2026-01-01", True), ("01/02/2026 10:00", True), ("price", False), ("2026", False)],
)
def test_a_cell_by_itself(cell: str, expected: bool) -> None:
    assert looks_like_time(cell) is expected
