"""Prices that go into files and come out of them, compared to the bit."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from support.paths import ROOT

EXAMPLE = ROOT / "examples" / "btcusdt-trades.parquet"

PRICES = np.round(100 + np.cumsum(np.random.default_rng(21).normal(0, 0.1, 2000)), 2)
# Prices whose shortest decimal form is long, tiny, huge, or negative zero.
ODD = np.array([0.1, 1 / 3, 5e-324, 1e150, -1e150, -0.0, 2.0**53, 1e22, 123456789.12345679])


def bits(prices: list[float]) -> bytes:
    return struct.pack(f"{len(prices)}d", *prices)


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """To the bit."""
    return bool(one.dtype == other.dtype == np.float64) and one.tobytes() == other.tobytes()
