"""Prices are a read-only NumPy array that knows its symbol and sequence."""

from __future__ import annotations

import pickle

import numpy as np

from financial_data_service.client import Prices


class TestResults:
    def test_prices_are_an_array(self) -> None:
        prices = Prices(np.array([3.0, 1.0, 2.0]), "A", 7)
        assert (prices.symbol, prices.first, prices.sequence) == ("A", 7, 10)
        assert prices.mean() == 2
        for derived in (prices * 2, prices[1:], np.diff(prices), prices > 1, np.cumsum(prices)):
            assert type(derived) is np.ndarray
        assert type(prices[0]) is np.float64
        assert not prices.flags.writeable
        frame = prices.to_pandas()
        assert frame.index.tolist() == [7, 8, 9]
        assert (frame.name, frame.index.name, frame[8]) == ("A", "sequence", 1.0)
        copy = pickle.loads(pickle.dumps(prices))
        assert (copy.symbol, copy.first, copy.tolist()) == ("A", 7, [3.0, 1.0, 2.0])
