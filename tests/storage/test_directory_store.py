"""Symbols in a directory keep the contract of every store, in each mode and beside a second one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from financial_data_service.engine.store import SymbolStore
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.durability import Durability
from support.store_contract import GEOMETRY, MAX_SYMBOLS, StoreContract


class TestDirectoryStore(StoreContract):
    @pytest.fixture(params=["process", "power", "temporary"])
    def mode(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def store(self, tmp_path: Path, mode: str) -> Iterator[SymbolStore]:
        durability: Durability = "power" if mode == "power" else "process"
        temporary = mode == "temporary"
        path = tmp_path / "data"
        store = DirectoryStore(path, GEOMETRY, MAX_SYMBOLS, durability, temporary=temporary)
        store.open()
        yield store
        store.close()

    def test_prices_outlive_the_store_unless_it_is_temporary(
        self, store: SymbolStore, mode: str
    ) -> None:
        store.create("A", np.array([1.0]))
        store.close()
        store.open()
        assert store.names() == ([] if mode == "temporary" else ["A"])


class TestSecondDirectoryStore(TestDirectoryStore):
    """The same, while another process has the directory open."""

    @pytest.fixture
    def store(self, tmp_path: Path, mode: str) -> Iterator[SymbolStore]:
        durability: Durability = "power" if mode == "power" else "process"
        temporary = mode == "temporary"
        first, second = (
            DirectoryStore(
                tmp_path / "data", GEOMETRY, MAX_SYMBOLS, durability, temporary=temporary
            )
            for _ in range(2)
        )
        first.open()
        second.open()
        yield second
        second.close()
        first.close()

    def test_prices_outlive_the_store_unless_it_is_temporary(
        self, store: SymbolStore, mode: str
    ) -> None:
        store.create("A", np.array([1.0]))
        store.close()
        store.open()
        assert store.names() == ["A"]  # The other process keeps it.
