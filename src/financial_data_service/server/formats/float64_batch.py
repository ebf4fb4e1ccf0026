"""Reading a batch from bytes that are its prices: little-endian float64, one after the other.

Such a body does not describe itself. Big-endian prices look like other prices, most of them
absurdly small, and cannot be detected.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FLOAT64_BYTES", "float64_prices"]

FLOAT64_BYTES = 8


def float64_prices(body: bytes) -> npt.NDArray[np.float64] | None:
    """Return the prices of a body, or None if its length is not a multiple of 8.

    The array is a read-only view on the body. The data of a ``bytes`` object is aligned to 8 bytes,
    so kernels compiled for aligned arrays accept it.
    """
    if len(body) % FLOAT64_BYTES:
        return None
    return np.frombuffer(body, dtype="<f8")
