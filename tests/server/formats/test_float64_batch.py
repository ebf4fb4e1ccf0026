"""Prices from bytes: every bit of them, and nothing of a body that ends within a price."""

from __future__ import annotations

import math
import struct

import pytest

from financial_data_service.server.formats.float64_batch import float64_prices


def test_prices_are_little_endian_doubles() -> None:
    # 1.0 is 0x3FF0000000000000 (IEEE 754), its first byte last; -0.0 is the sign bit alone.
    body = bytes.fromhex("000000000000f03f00000000000000800100000000000000")
    prices = float64_prices(body)
    assert prices is not None
    assert prices.tolist() == [1.0, -0.0, 5e-324]
    assert math.copysign(1, prices[1]) == -1
    assert not prices.flags.writeable
    assert prices.flags.aligned


def test_the_same_bytes_the_other_way_round_are_other_prices() -> None:
    prices = float64_prices(struct.pack(">2d", 189.5, 1.0))
    assert prices is not None
    assert prices.tolist() == [*struct.unpack("<2d", struct.pack(">2d", 189.5, 1.0))]
    assert max(abs(prices)) < 1e-300


@pytest.mark.parametrize("size", range(25))
def test_a_body_holds_whole_prices(size: int) -> None:
    prices = float64_prices(b"\0" * size)
    assert (None if prices is None else len(prices)) == {0: 0, 8: 1, 16: 2, 24: 3}.get(size)
