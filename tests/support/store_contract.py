"""What every store of symbols must do: a class of tests that the tests of each store subclass.

The manager relies on no more than this. A new kind of store subclasses :class:`StoreContract`, and
gives it a store that is open and closed by the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.store import SymbolChangedError, SymbolStore
from financial_data_service.errors import SymbolLimitError

GEOMETRY = Geometry(1000, 8, 100)
MAX_SYMBOLS = 3

NAMES = ["AAPL", "BTC/USDT", "..", "a b", "É", "e\u0301", "😀" * 128, "x" * 128, "%2F", "*"]


class StoreContract:
    """Subclasses define a fixture ``store``: an empty, open store of ``GEOMETRY``."""

    @pytest.fixture
    def store(self) -> Iterator[SymbolStore]:
        raise NotImplementedError

    def test_it_has_the_sizes_and_the_limit_it_was_made_with(self, store: SymbolStore) -> None:
        assert (store.geometry, store.max_symbols) == (GEOMETRY, MAX_SYMBOLS)
        assert store.refused == {}

    def test_an_empty_store_has_no_symbols(self, store: SymbolStore) -> None:
        assert store.names() == []
        assert store.find("A") is None

    @pytest.mark.parametrize("name", NAMES)
    def test_a_new_symbol_holds_its_first_batch(self, store: SymbolStore, name: str) -> None:
        prices = np.arange(1.0, 101.0)
        stats = store.create(name, prices)
        assert stats.sequence == 100
        assert stats.values(1000).tolist() == prices.tolist()
        assert stats.geometry == GEOMETRY
        assert store.names() == [name]

    def test_a_symbol_goes_on_after_its_first_batch(self, store: SymbolStore) -> None:
        stats = store.create("A", np.array([1.0]))
        for price in range(2, 2000):
            stats.append([float(price)])
        assert stats.sequence == 1999
        assert stats.window(1000).min == 1000.0

    def test_names_are_oldest_first(self, store: SymbolStore) -> None:
        for name in ("B", "A", "C"):
            store.create(name, np.array([1.0]))
        assert store.names() == ["B", "A", "C"]

    def test_symbols_do_not_share_prices(self, store: SymbolStore) -> None:
        one, other = (
            store.create(name, np.array([price])) for name, price in (("A", 1.0), ("B", 2.0))
        )
        one.append([3.0])
        assert one.values(10).tolist() == [1.0, 3.0]
        assert other.values(10).tolist() == [2.0]

    def test_the_limit_is_exact(self, store: SymbolStore) -> None:
        for name in "ABC":
            store.create(name, np.array([1.0]))
        with pytest.raises(SymbolLimitError, match=rf"\({MAX_SYMBOLS}\) reached"):
            store.create("D", np.array([1.0]))
        assert store.names() == ["A", "B", "C"]
        assert store.find("D") is None

    def test_a_symbol_that_exists_is_not_created_again(self, store: SymbolStore) -> None:
        stats = store.create("A", np.array([1.0]))
        with pytest.raises(SymbolChangedError):
            store.create("A", np.array([2.0]))
        assert stats.values(10).tolist() == [1.0]
        assert store.names() == ["A"]

    def test_a_deleted_symbol_is_gone_and_makes_room(self, store: SymbolStore) -> None:
        for name in "ABC":
            stats = store.create(name, np.array([1.0]))
        store.delete("C", stats)
        assert store.names() == ["A", "B"]
        assert store.find("C") is None
        again = store.create("C", np.array([5.0, 6.0]))
        assert again.sequence == 2
        assert store.names() == ["A", "B", "C"]

    def test_a_symbol_is_deleted_once(self, store: SymbolStore) -> None:
        stats = store.create("A", np.array([1.0]))
        store.delete("A", stats)
        with pytest.raises(SymbolChangedError):
            store.delete("A", stats)

    def test_housekeeping_finds_nothing_gone(self, store: SymbolStore) -> None:
        store.create("A", np.array([1.0]))
        assert list(store.run_housekeeping()) == []
        assert store.names() == ["A"]

    def test_opening_and_closing_can_be_repeated(self, store: SymbolStore) -> None:
        store.open()
        store.create("A", np.array([1.0]))
        store.open()
        assert store.names() == ["A"]
        store.close()
        store.close()
        store.open()
        found = store.find("A")
        assert (found is not None) == (store.names() == ["A"])
        if found is not None:
            assert found.values(10).tolist() == [1.0]
