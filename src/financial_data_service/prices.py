"""What a batch of prices may be, with one message for every violation.

The engine, the server and the client share these checks, so this module loads neither Numba nor the
engine.

Invariant: an array that :func:`as_prices` returns can be appended unless a value is not finite or
too large. The engine detects such values while it appends; :func:`check_prices` detects them
beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from financial_data_service.errors import InvalidBatchError

__all__ = [
    "LITTLE_ENDIAN",
    "PRICE_MAX",
    "as_prices",
    "check_prices",
    "invalid_price",
]

# The square of a price, times the number of prices in a window, must be a finite float64. The
# kernels hold the same literal, because Numba's cache only watches their own file; the engine
# asserts that both are equal.
PRICE_MAX = 1e150

_FLOAT64 = np.dtype(np.float64)
_PLAIN_NUMBERS = frozenset((float, int))
_REAL_NUMBERS = (float, int, np.floating, np.integer)
# Subclasses of number types that are no prices: booleans, durations, and long doubles, which do not
# fit float64.
_NOT_PRICES = (bool, np.timedelta64, np.longdouble)


def as_prices(values: npt.ArrayLike, batch_max: int | None) -> npt.NDArray[np.float64]:
    """Return a batch as a contiguous float64 array, without a copy if it is one already.

    Numbers of other widths are accepted if float64 holds them exactly: float32, float16 and
    integers. O(n) for a list, O(1) for a float64 array.

    Parameters
    ----------
    values : float64[n] or sequence of float or int
        The batch, oldest price first.
    batch_max : int or None
        Maximum number of prices in one batch; None for any number.

    Raises
    ------
    InvalidBatchError
        When the batch is empty, too long, not one-dimensional, or not of numbers.
    """
    array = values if type(values) is np.ndarray else _from_sequence(values)
    if array.ndim != 1:
        raise InvalidBatchError(
            f"Expected `values` of one dimension, got shape {array.shape} - at `values`"
        )
    if batch_max is None and not array.size:
        raise InvalidBatchError("Expected 1 or more prices, got 0 - at `values`")
    if batch_max is not None and not 1 <= array.size <= batch_max:
        raise InvalidBatchError(f"Expected 1 to {batch_max} prices, got {array.size} - at `values`")
    flags = array.flags
    if array.dtype != _FLOAT64 or not flags.c_contiguous or not flags.aligned:
        array = _to_float64(array, values)
    return array


def check_prices(prices: npt.NDArray[np.float64]) -> None:
    """Check that every value is a price: finite, and of magnitude `PRICE_MAX` at most. O(n).

    Raises
    ------
    InvalidBatchError
        When a value is not; ``index`` is the position of the first.
    """
    # A NaN anywhere makes both extremes NaN.
    if prices.min() >= -PRICE_MAX and prices.max() <= PRICE_MAX:
        return
    index = int(np.argmin(np.abs(prices) <= PRICE_MAX))
    raise invalid_price(index, repr(float(prices[index])))


def invalid_price(index: int, got: str) -> InvalidBatchError:
    """Return the error for a value that is not finite or too large."""
    return InvalidBatchError(
        f"Expected a finite price of magnitude {PRICE_MAX:g} at most, got {got} "
        f"- at `values[{index}]`",
        index,
    )


def _from_sequence(values: Any) -> npt.NDArray[Any]:
    """Return a sequence of plain numbers as an array. Other types are converted by NumPy."""
    if type(values) is not list and (
        isinstance(values, (str, bytes, bytearray, memoryview)) or not isinstance(values, Sequence)
    ):
        return _from_array_like(values)
    if not _PLAIN_NUMBERS.issuperset(map(type, values)):
        _refuse_other_types(values)
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer beyond 1.8e308
        index = next(i for i, value in enumerate(values) if not abs(value) <= PRICE_MAX)
        value = values[index]
        got = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else repr(value)
        raise invalid_price(index, got) from None


def _refuse_other_types(values: Sequence[Any]) -> None:
    """Raise for the first element that is not a real number. NumPy's scalars are real numbers."""
    for index, value in enumerate(values):
        if isinstance(value, _NOT_PRICES) or not isinstance(value, _REAL_NUMBERS):
            raise InvalidBatchError(
                f"Expected `float`, got `{type(value).__name__}` - at `values[{index}]`", index
            )


def _from_array_like(values: Any) -> npt.NDArray[Any]:
    """Return an object with NumPy's array protocol (pandas, polars, Arrow) as an array."""
    if not (hasattr(values, "__array__") or hasattr(values, "__array_interface__")):
        raise InvalidBatchError(
            f"Expected a sequence of `float` or an array, got `{type(values).__name__}` "
            "- at `values`"
        )
    if np.ma.is_masked(values):
        index = int(np.ma.getmaskarray(values).argmax())
        raise InvalidBatchError(
            f"Expected `float`, got a masked value - at `values[{index}]`", index
        )
    return np.asarray(values)


def _to_float64(array: npt.NDArray[Any], values: Any) -> npt.NDArray[np.float64]:
    """Return an array of another width, order or alignment as contiguous float64.

    Raises
    ------
    InvalidBatchError
        When float64 cannot hold its type. The message names the type as `values` names it, because
        NumPy calls decimals and strings alike "object".
    """
    if array.dtype.kind not in "fiu" or not np.can_cast(array.dtype, _FLOAT64, "safe"):
        dtype = getattr(values, "dtype", getattr(values, "type", array.dtype))
        raise InvalidBatchError(f"Expected dtype `float64`, got `{dtype}` - at `values`")
    return np.require(array, dtype=_FLOAT64, requirements=["C", "A"])


LITTLE_ENDIAN = np.dtype("<f8")
