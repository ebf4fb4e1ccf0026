"""Reading prices from the service: the plan that returns them as an array."""

from __future__ import annotations

import numpy as np

from financial_data_service.client import failures
from financial_data_service.client.exchange import ClientSession, exchange
from financial_data_service.client.price_array import Prices
from financial_data_service.client.steps import FLOAT64, Plan, Request
from financial_data_service.client.steps import path_of as path
from financial_data_service.prices import LITTLE_ENDIAN
from financial_data_service.symbols import check_symbol

__all__ = ["values"]


def values(session: ClientSession, symbol: str, last: int | None) -> Plan[Prices]:
    """Return the newest prices of a symbol; without `last`, the service's default number."""
    check_symbol(symbol)
    target = path("values", symbol, last=last, format="float64")
    answer = yield from exchange(session, Request("GET", target))
    headers, content = answer.reply.headers, answer.reply.content
    if headers.get("content-type") != FLOAT64 or len(content) % 8 or "x-first" not in headers:
        raise failures.not_our_service(session.url + target, answer.reply.status)
    prices = np.frombuffer(content, LITTLE_ENDIAN).astype(np.float64, copy=False)
    return Prices(prices, symbol, int(headers["x-first"]))
