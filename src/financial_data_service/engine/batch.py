"""Batches of prices as callers hand them over: checked whole, before anything is written.

Invariant: what :func:`as_prices` returns can be appended, unless a value is not finite or too
large, which the append finds on its way and :func:`refuse_unfit` puts into words.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from financial_data_service.engine import kernels
from financial_data_service.prices import PRICE_MAX, as_prices, unfit_price

__all__ = ["as_prices", "refuse_unfit"]

assert PRICE_MAX == kernels.PRICE_MAX


def refuse_unfit(prices: npt.NDArray[np.float64]) -> NoReturn:
    """Raise for the first value that is not finite or too large.

    Raises
    ------
    InvalidBatchError
        Always; ``index`` is its position.
    """
    index = int(kernels.find_unfit(prices))
    raise unfit_price(index, repr(float(prices[index])))
