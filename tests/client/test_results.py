"""Results: a table is a tuple, a data frame and text."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest

from financial_data_service.client import Prices, Receipt, Table


class TestResults:
    def test_a_table_is_a_tuple_a_frame_and_a_picture(self) -> None:
        table = Table([Receipt("A", 1, 2), Receipt("BB", 10, 20)])
        assert table[1].added == 10
        assert table.to_pandas().to_dict("list") == {
            "symbol": ["A", "BB"],
            "added": [1, 10],
            "sequence": [2, 20],
        }
        assert pl.DataFrame(table.to_dict()).shape == (2, 3)
        assert (
            repr(table)
            == "symbol  added  sequence\n     A      1         2\n    BB     10        20"
        )
        assert repr(Table()) == "Table()"
        assert Table().to_pandas().empty
        assert repr(Table([Receipt("A", 1, 2)] * 99)).endswith("\n… 39 more")

    def test_without_pandas_it_says_what_is_wanted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        for result in (Table([Receipt("A", 1, 2)]), Prices(np.ones(1), "A", 0)):
            with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
                result.to_pandas()
