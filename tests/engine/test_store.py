"""Symbols in memory keep the contract of every store."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from financial_data_service.engine.store import MemoryStore, SymbolStore
from support.store_contract import GEOMETRY, MAX_SYMBOLS, StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[SymbolStore]:
        store = MemoryStore(GEOMETRY, MAX_SYMBOLS)
        store.open()
        yield store
        store.close()

    def test_prices_are_lost_with_the_store(self, store: SymbolStore) -> None:
        store.create("A", np.array([1.0]))
        store.close()
        store.open()
        assert store.names() == []
