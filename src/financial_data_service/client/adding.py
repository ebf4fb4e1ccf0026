"""Adding prices: arrays checked, split into requests, sent so that a retry is safe."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from financial_data_service.client import failures
from financial_data_service.client.asking import get_limits, get_sequence
from financial_data_service.client.exchange import ClientSession, decode_reply, exchange
from financial_data_service.client.results import (
    Receipt,
)
from financial_data_service.client.steps import Plan, Request
from financial_data_service.client.steps import path_of as path
from financial_data_service.errors import InvalidBatchError, ServiceError
from financial_data_service.prices import LITTLE_ENDIAN, as_prices, check_prices, invalid_price
from financial_data_service.symbols import check_symbol

__all__ = ["PIECE_MAX", "as_float64", "begin_ingest"]

# A service may take more at once, but a mebibyte a request is as fast, and below the usual limits
# of bodies, its own and those of proxies.
PIECE_MAX = 100_000


# --- Adding -----------------------------------------------------------------------------------


def as_float64(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return prices as a float64 array, checked as the service would check them.

    Raises
    ------
    InvalidBatchError
        When there are none, or one of them is not a price.
    """
    prices = as_prices(values, None)
    try:
        check_prices(prices)
    except InvalidBatchError as error:
        if error.index is None or not _is_null(values, error.index):
            raise
        raise invalid_price(error.index, "null") from None
    return prices


def _is_null(values: Any, index: int) -> bool:
    """Whether nothing is in a place of a Series or an Arrow array; NumPy makes NaN of it."""
    try:
        value = values.iloc[index] if hasattr(values, "iloc") else values[index]
    except (LookupError, TypeError):  # All that is known of it is that NumPy can read it.
        return False
    # pandas has a type of its own for it, polars None, and Arrow scalars that say so.
    is_valid = getattr(value, "is_valid", True)
    return value is None or type(value).__name__ == "NAType" or is_valid is False


def add_batch(
    session: ClientSession,
    symbol: str,
    values: npt.ArrayLike,
    from_sequence: int | None,
    exclusive: bool,
) -> Plan[Receipt]:
    """Add prices in as many requests as they need, each repeated only where that is harmless."""
    check_symbol(symbol)
    prices = as_float64(values)
    start = _checked_start(from_sequence, exclusive)
    is_appended = start is None
    limits = session.limits or (yield from get_limits(session))
    if is_appended and exclusive:
        start = yield from get_sequence(session, symbol)
    # Of a place that the caller names nothing is known yet; of one asked for, all before it.
    receipt = Receipt(symbol, 0, start) if is_appended and start is not None else None
    size = min(limits.batch_max, PIECE_MAX)
    for offset in range(0, prices.size, size):
        piece = prices[offset : offset + size]
        try:
            place = None if start is None else start + offset
            step = yield from _add_piece(session, symbol, piece, place, is_appended)
            added = step.added + (receipt.added if receipt else 0)
            receipt = Receipt(symbol, added, step.sequence)
        except ServiceError as error:
            error.receipt = receipt
            session.limits = None  # Perhaps it is another service by now, with other limits.
            raise
    assert receipt is not None  # There is no batch without a price.
    return receipt


def _checked_start(from_sequence: int | None, exclusive: bool) -> int | None:
    if from_sequence is None:
        return None
    if not exclusive:
        raise ValueError(
            f"Expected either from_sequence or exclusive=False, got both ({from_sequence=}): "
            "a place of their own is what prices get that nobody else adds to"
        )
    start = operator.index(from_sequence)
    if start < 0:
        raise ValueError(f"Expected from_sequence of 0 or more, got {start}")
    return start


def begin_ingest(
    session: ClientSession, symbol: str, from_sequence: int | None
) -> Plan[tuple[int, int]]:
    """Return where streamed prices go, and how many the service takes at once."""
    check_symbol(symbol)
    start = _checked_start(from_sequence, True)
    limits = session.limits or (yield from get_limits(session))
    if start is None:
        start = yield from get_sequence(session, symbol)
    return start, limits.batch_max


def _add_piece(
    session: ClientSession,
    symbol: str,
    prices: npt.NDArray[np.float64],
    from_sequence: int | None,
    is_appended: bool,
) -> Plan[Receipt]:
    target = path("add_batch", symbol, from_sequence=from_sequence)
    content = prices.astype(LITTLE_ENDIAN, copy=False).tobytes()
    request = Request("POST", target, content, is_repeatable=from_sequence is not None)
    answer = yield from exchange(session, request)
    receipt = decode_reply(session, answer.reply, Receipt)
    known = prices.size - receipt.added
    if is_appended and known and not answer.is_repeated:
        raise failures.conflict(
            f"Expected nobody else to add prices to {symbol} meanwhile, but the same {known} were "
            f"there from sequence {from_sequence} on: exclusive=False adds among others",
            receipt.sequence,
            f"{session.url}{target}",
        )
    # Of a symbol that others add to, the sequence behind these prices is known for just these.
    end = receipt.sequence if from_sequence is None else from_sequence + prices.size
    # Known prices of a place that was asked for are those of an earlier try, its reply lost.
    return Receipt(symbol, prices.size if is_appended else receipt.added, end)
