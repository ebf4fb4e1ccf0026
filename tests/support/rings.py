"""Rings of prices to verify, and what verification says of them."""

from __future__ import annotations

import numpy as np

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.ring import Ring
from financial_data_service.engine.ring_view import RingView
from financial_data_service.verify import levels, windows
from financial_data_service.verify.levels import verify_levels
from financial_data_service.verify.windows import check_windows
from support.paths import ROOT
from support.series import Prices

TRADES = ROOT / "examples" / "btcusdt-trades.csv"
SMALL = Geometry(64, 4, 8)


def trades() -> Prices:
    return np.loadtxt(TRADES, delimiter=",", skiprows=1, usecols=_price_column())


def _price_column() -> int:
    return TRADES.read_text().splitlines()[0].split(",").index("price")


def filled(geometry: Geometry, prices: Prices) -> Ring:
    ring = Ring(geometry)
    for begin in range(0, len(prices), geometry.batch_max):
        kernels.append(ring.header, ring.region, prices[begin : begin + geometry.batch_max])
    return ring


def verified(ring: Ring) -> tuple[list[levels.Block], list[windows.WindowCheck]]:
    """What is wrong with a ring."""
    held = RingView("A", ring)
    return verify_levels(held).wrong, [check for check in check_windows(held) if check.differing]
