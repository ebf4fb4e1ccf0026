"""Windows: which lengths there are, and the properties of an answer."""

from __future__ import annotations

import math

import pytest

from financial_data_service.errors import WindowSizeError
from financial_data_service.windows import WindowStats, check_exponent, check_length, k_max_of


def answer(window: int, var: float = 2.25, values: int = 5) -> WindowStats:
    return WindowStats(window, 1.0, 4.0, 3.0, 2.5, var, values, 7)


@pytest.mark.parametrize("k", range(1, 9))
def test_a_window_of_a_power_of_ten_has_an_exponent(k: int) -> None:
    assert answer(10**k).k == k
    assert answer(10**k - 1).k is None
    assert answer(10**k + 1).k is None


@pytest.mark.parametrize("window", [1, 2, 9, 20, 5000])
def test_another_window_has_none(window: int) -> None:
    assert answer(window).k is None


def test_the_standard_deviation_is_the_root_of_the_variance() -> None:
    assert answer(10).std == 1.5
    assert answer(10, var=2.0).std == math.sqrt(2.0)
    assert answer(10, var=0.0).std == 0.0
    assert math.isnan(answer(10, var=math.nan).std)


def test_a_window_is_full_when_it_has_what_was_asked_for() -> None:
    assert answer(5).is_full
    assert not answer(6).is_full


@pytest.mark.parametrize(
    ("largest_window", "k_max"), [(10, 1), (99, 1), (100, 2), (12_345, 4), (10**8, 8)]
)
def test_exponents_end_at_the_largest_window(largest_window: int, k_max: int) -> None:
    assert k_max_of(largest_window) == k_max
    check_exponent(1, largest_window)
    check_exponent(k_max, largest_window)
    for k in (-1, 0, k_max + 1):
        message = rf"^Window size exponent \(k={k}\) must be between 1 and {k_max}$"
        with pytest.raises(WindowSizeError, match=message):
            check_exponent(k, largest_window)


def test_lengths_end_at_the_largest_window() -> None:
    check_length(1, 500)
    check_length(500, 500)
    for last in (-1, 0, 501):
        message = rf"^Window size \(last={last}\) must be between 1 and 500$"
        with pytest.raises(WindowSizeError, match=message):
            check_length(last, 500)
