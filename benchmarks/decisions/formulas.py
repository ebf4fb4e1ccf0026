"""Ways to compute mean and variance, each as it is usually written: ``(avg, var)`` of a window.

All of them get the whole course of prices and the window's length, and those that slide do slide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl

from financial_data_service import RunningStats

__all__ = ["BLOCK", "FORMULAS", "OURS"]

Prices = npt.NDArray[np.float64]
Formula = Callable[[Prices, int], tuple[float, float]]

BLOCK = 128
_BATCH = 1_000


def running_sums(prices: Prices, length: int) -> tuple[float, float]:
    """Σx and Σx², added to and subtracted from as prices come and go."""
    values = prices.tolist()
    total = squares = 0.0
    for index, price in enumerate(values):
        total += price
        squares += price * price
        if index >= length:
            oldest = values[index - length]
            total -= oldest
            squares -= oldest * oldest
    avg = total / length
    return avg, squares / length - avg * avg


def sliding_welford(prices: Prices, length: int) -> tuple[float, float]:
    """Mean and M2 updated with each price that comes, and downdated with each that goes."""
    values = prices.tolist()
    mean = m2 = 0.0
    for index, price in enumerate(values[:length]):
        delta = price - mean
        mean += delta / (index + 1)
        m2 += delta * (price - mean)
    for price, oldest in zip(values[length:], values[:-length], strict=True):
        before = mean
        mean += (price - oldest) / length
        m2 += (price - oldest) * ((price - mean) + (oldest - before))
    return mean, m2 / length


def chan_one_mean(prices: Prices, length: int) -> tuple[float, float]:
    """Blocks with a mean in one double, merged (Chan, Golub, LeVeque 1983)."""

    def merged(left: tuple[int, float, float], right: Prices) -> tuple[int, float, float]:
        left_count, left_mean, left_m2 = left
        mean = float(right.mean())
        m2 = float(((right - mean) ** 2).sum())
        count = left_count + len(right)
        delta = mean - left_mean
        weight = left_count * len(right) / count
        merged_mean = left_mean + delta * len(right) / count
        return count, merged_mean, left_m2 + m2 + delta * delta * weight

    count, mean, m2 = reduce(merged, _blocks(prices, length), (0, 0.0, 0.0))
    return mean, m2 / count


def anchor_and_offset(prices: Prices, length: int) -> tuple[float, float]:
    """Blocks with a price as anchor, the mean's offset from it and a corrected two-pass M2, merged.

    The mean is the pair ``anchor + offset``; differences of anchors are exact or nearly so.
    """
    summaries = [_anchored(block) for block in _blocks(prices, length)]
    count, anchor, offset, m2 = reduce(_merge_anchored, summaries)
    return anchor + offset, m2 / count


def numpy_recompute(prices: Prices, length: int) -> tuple[float, float]:
    """Recompute over the window: numpy.mean and numpy.var."""
    return float(prices[-length:].mean()), float(prices[-length:].var())


def pandas_rolling(prices: Prices, length: int) -> tuple[float, float]:
    """Roll over the whole course: the last row of mean and var."""
    rolling = pd.Series(prices).rolling(length)
    return float(rolling.mean().iloc[-1]), float(rolling.var(ddof=0).iloc[-1])


def polars_rolling(prices: Prices, length: int) -> tuple[float, float]:
    """Roll over the whole course: the last row of mean and var."""
    series = pl.Series(prices)
    avg, var = series.rolling_mean(length), series.rolling_var(length, ddof=0)
    return float(avg[-1]), float(var[-1])


def ours(prices: Prices, length: int) -> tuple[float, float]:
    """Append the whole course and ask."""
    stats = RunningStats(length, batch_max=_BATCH)
    for start in range(0, len(prices), _BATCH):
        stats.append(prices[start : start + _BATCH])
    answer = stats.window(length)
    stats.close()
    return answer.avg, answer.var


OURS = "this engine"
FORMULAS: dict[str, Formula] = {
    "Σx, Σx²": running_sums,
    "sliding Welford": sliding_welford,
    "Chan, one mean": chan_one_mean,
    "NumPy": numpy_recompute,
    "pandas rolling": pandas_rolling,
    "polars rolling": polars_rolling,
    "anchor + offset": anchor_and_offset,
    OURS: ours,
}


def _blocks(prices: Prices, length: int) -> list[Prices]:
    window = prices[-length:]
    return [window[start : start + BLOCK] for start in range(0, length, BLOCK)]


def _anchored(block: Prices) -> tuple[int, float, float, float]:
    count, anchor = len(block), float(block[0])
    distances = block - anchor
    offset = float(distances.sum()) / count
    deviations = distances - offset
    rest = float(deviations.sum())
    return count, anchor, offset, float((deviations**2).sum()) - rest * rest / count


def _merge_anchored(
    left: tuple[int, float, float, float], right: tuple[int, float, float, float]
) -> tuple[int, float, float, float]:
    left_count, anchor, left_offset, left_m2 = left
    right_count, right_anchor, right_offset, right_m2 = right
    count = left_count + right_count
    delta = (right_anchor - anchor) + (right_offset - left_offset)
    weight = left_count * right_count / count
    offset = left_offset + delta * right_count / count
    return count, anchor, offset, left_m2 + right_m2 + delta * delta * weight
