"""Rows are oldest first or newest first, within a file and from one file to the next."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.order import RowOrder


@pytest.mark.parametrize("times", list(itertools.product(range(3), repeat=4)))
@pytest.mark.parametrize("cut", range(5))
def test_every_course_of_four_times_in_any_two_parts(times: tuple[int, ...], cut: int) -> None:
    order = RowOrder()
    rises = all(one <= other for one, other in itertools.pairwise(times))
    falls = all(one >= other for one, other in itertools.pairwise(times))

    def check() -> bool:
        order.check("f", np.array(times[:cut]), lambda row: f"line {row}")
        order.check("f", np.array(times[cut:]), lambda row: f"line {cut + row}")
        return order.end_file("f")

    if rises or falls:
        assert check() == (falls and not rises)
    else:
        with pytest.raises(CliError) as caught:
            check()
        prefix = next(
            i
            for i in range(2, 5)
            if list(times[:i]) not in (sorted(times[:i]), sorted(times[:i], reverse=True))
        )
        assert f"f, line {prefix - 1}: " in str(caught.value)
        assert f"that of line {prefix - 2}, " in str(caught.value)
        assert "--order file" in str(caught.value)


def test_files_follow_each_other_whichever_way_they_are_turned() -> None:
    order = RowOrder()
    for times, is_newest_first in (([1, 2], False), ([4, 3], True), ([4, 4], False), ([5], False)):
        order.check("f", np.array(times), str)
        assert order.end_file("f") is is_newest_first
    order.check("g", np.array([4, 6]), str)
    with pytest.raises(CliError, match="g begins before the end of the file before it"):
        order.end_file("g")
