"""Fixtures of the commands: no settings from the environment of the tests, a data directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.data_directories import fill
from support.price_files import ODD, PRICES


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FDS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", {"AAPL": ODD, "BTC/USDT": PRICES})
