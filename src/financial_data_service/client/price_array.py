"""Prices as clients return them: an array with the sequence of its first price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from financial_data_service.client.results import import_pandas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Prices"]


class Prices(np.ndarray[tuple[int], np.dtype[np.float64]]):
    """Prices of a symbol, oldest first: a read-only float64 array with symbol and sequence.

    Slices and results of computations are plain arrays.

    Attributes
    ----------
    symbol : str
        The symbol.
    first : int
        Number of prices appended to the symbol before the first of these.
    sequence : int
        Number of prices ever appended to the symbol, up to the last of these.
    """

    symbol: str
    first: int

    def __new__(cls, prices: npt.NDArray[np.float64], symbol: str, first: int) -> Prices:
        """Return a read-only view of prices."""
        made = prices.view(cls)
        made.symbol, made.first = symbol, first
        made.flags.writeable = False
        return made

    @property
    def sequence(self) -> int:
        """Number of prices ever appended to the symbol, up to the last of these."""
        return self.first + self.size

    def to_pandas(self) -> pd.Series[float]:
        """Return a :class:`pandas.Series` with the symbol as its name.

        Its index is the sequence of each price; the first price ever appended has 0.

        Raises
        ------
        ModuleNotFoundError
            When pandas is not installed.
        """
        pd = import_pandas()
        numbers = pd.RangeIndex(self.first, self.sequence, name="sequence")
        return pd.Series(np.asarray(self), index=numbers, name=self.symbol)

    def __array_finalize__(self, source: Any) -> None:
        self.symbol = getattr(source, "symbol", "")
        self.first = getattr(source, "first", 0)

    def __array_wrap__(
        self, array: npt.NDArray[Any], context: Any = None, return_scalar: bool = False
    ) -> Any:
        return array[()] if return_scalar else np.asarray(array)

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __reduce__(self) -> Any:
        return Prices, (np.asarray(self), self.symbol, self.first)
