"""Data directories for tests: filled, in use, closed cleanly, left by a process that was killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.durability import Durability
from financial_data_service.storage.recovery import FileState
from financial_data_service.storage.symbol_file import SymbolFile
from support.paths import ROOT

SMALL = Geometry(1000, 8, 100)

TRADES = ROOT / "examples" / "btcusdt-trades.csv"

TINY = Geometry(12, 2, 5)


def trades() -> npt.NDArray[np.float64]:
    """2,001 trades of BTC/USDT, 2021-01-08."""
    column = TRADES.read_text().splitlines()[0].split(",").index("price")
    return np.loadtxt(TRADES, delimiter=",", skiprows=1, usecols=column)


@contextmanager
def in_use(
    path: Path, geometry: Geometry = SMALL, durability: Durability = "process"
) -> Iterator[SymbolManager]:
    """Have a directory open as a service has it, and close it cleanly at the end."""
    manager = SymbolManager(store=DirectoryStore(path, geometry, durability=durability))
    manager.open()
    try:
        yield manager
    finally:
        manager.close()


def add(manager: SymbolManager, symbol: str, prices: npt.ArrayLike) -> None:
    """Append any number of prices."""
    array = np.asarray(prices, dtype=np.float64)
    for begin in range(0, len(array), manager.batch_max):
        manager.add_batch(symbol, array[begin : begin + manager.batch_max])


def fill(path: Path, symbols: Mapping[str, npt.ArrayLike], geometry: Geometry = SMALL) -> Path:
    """Make a directory that holds these prices and was closed cleanly."""
    with in_use(path, geometry) as manager:
        for symbol, prices in symbols.items():
            add(manager, symbol, prices)
    return path


def leave(path: Path, symbols: Mapping[str, npt.ArrayLike], geometry: Geometry = SMALL) -> Path:
    """Make a directory as it is when its process was killed: what others saw of it until then."""
    living = path.with_name(path.name + ".living")
    with in_use(living, geometry) as manager:
        for symbol, prices in symbols.items():
            add(manager, symbol, prices)
        shutil.copytree(living, path)
    return path


def state_of(path: Path) -> FileState:
    """Return how a file says it was left."""
    file = SymbolFile.open_read_only(path)
    try:
        return file.plan_recovery().state
    finally:
        file.close()


def spoil(file: Path, offset: int = 16) -> None:
    """Flip a bit of a file."""
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)
