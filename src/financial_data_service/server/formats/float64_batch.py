"""Reading a batch out of bytes that are its prices: little-endian float64, one after the other.

There is nothing in such a body that says what it is. Prices of the other byte order are some other
prices, most of them absurdly small, and cannot be told from prices that are meant.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FLOAT64_BYTES", "float64_prices"]

FLOAT64_BYTES = 8


def float64_prices(body: bytes) -> npt.NDArray[np.float64] | None:
    """Return the prices of a body, or None when it does not consist of whole ones.

    The array is a read-only view on the body. The bytes of a ``bytes`` object of its own lie at a
    multiple of 8, so that kernels compiled for aligned arrays take it as it is.
    """
    if len(body) % FLOAT64_BYTES:
        return None
    return np.frombuffer(body, dtype="<f8")
