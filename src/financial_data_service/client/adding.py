"""Add prices: check arrays, split them into requests, and send these so that a retry is safe."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from financial_data_service.client import failures
from financial_data_service.client.asking import get_limits, get_sequence
from financial_data_service.client.exchange import ClientSession, decode_reply, exchange
from financial_data_service.client.results import Receipt
from financial_data_service.client.steps import Plan, Request
from financial_data_service.client.steps import path_of as path
from financial_data_service.errors import InvalidBatchError, ServiceError
from financial_data_service.prices import LITTLE_ENDIAN, as_prices, check_prices, invalid_price
from financial_data_service.symbols import check_symbol

__all__ = ["PIECE_MAX", "as_float64", "begin_ingest"]

# A service may accept larger batches. But requests of about 1 MiB are as fast as larger ones, and
# stay below the usual body limits of services and proxies.
PIECE_MAX = 100_000


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
    """Whether an element of a Series or an Arrow array is null, which NumPy turns into NaN."""
    try:
        value = values.iloc[index] if hasattr(values, "iloc") else values[index]
    except (LookupError, TypeError):  # Its only certain property is that NumPy can read it.
        return False
    # A null is `NAType` in pandas, None in polars, and a scalar with `is_valid` False in Arrow.
    is_valid = getattr(value, "is_valid", True)
    return value is None or type(value).__name__ == "NAType" or is_valid is False


def add_batch(
    session: ClientSession,
    symbol: str,
    values: npt.ArrayLike,
    from_sequence: int | None,
    exclusive: bool,
) -> Plan[Receipt]:
    """Add prices in as many requests as necessary, each retried only if that is safe."""
    check_symbol(symbol)
    prices = as_float64(values)
    start = _checked_start(from_sequence, exclusive)
    is_appended = start is None
    limits = session.limits or (yield from get_limits(session))
    if is_appended and exclusive:
        start = yield from get_sequence(session, symbol)
    # If the service gave the sequence, all prices before it are stored. If the caller gave it, they
    # may not be stored.
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
            session.limits = None  # It may be another service by now, with other limits.
            raise
    assert receipt is not None  # Every batch has a price.
    return receipt


def _checked_start(from_sequence: int | None, exclusive: bool) -> int | None:
    if from_sequence is None:
        return None
    if not exclusive:
        raise ValueError(
            f"Expected either from_sequence or exclusive=False, got both ({from_sequence=}): "
            "a sequence only makes sense if no other program adds prices"
        )
    start = operator.index(from_sequence)
    if start < 0:
        raise ValueError(f"Expected from_sequence of 0 or more, got {start}")
    return start


def begin_ingest(
    session: ClientSession, symbol: str, from_sequence: int | None
) -> Plan[tuple[int, int]]:
    """Return the first sequence of streamed prices, and the maximum batch of the service."""
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
    # If other programs add to the symbol, the sequence after these prices is known only from the
    # reply.
    end = receipt.sequence if from_sequence is None else from_sequence + prices.size
    # If the service gave the sequence, prices that are already stored come from an earlier attempt
    # of this call, so they count as added.
    return Receipt(symbol, prices.size if is_appended else receipt.added, end)
