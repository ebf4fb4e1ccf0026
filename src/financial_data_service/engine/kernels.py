"""The performance-critical loops, compiled by Numba.

They append a batch, summarise a run and compute the statistics of a window.

Every kernel takes arrays and scalars. It releases the GIL. Its machine code is cached on disk. It
also runs as plain Python (``.py_func``). Kernels do not check their arguments:
:mod:`~financial_data_service.engine.running_stats` checks batches and windows before the call.
``header`` is the header of a region as ``int64[512]``, ``region`` the whole region as
``float64[:]`` (:mod:`~financial_data_service.engine.layout`).

A summary is passed as the tuple ``(count, min, max, sum_high, sum_low, m2)``, the fields of
:class:`~financial_data_service.engine.summary.Summary`. The reference (module ``summary``) combines
prices one by one. The kernels make two passes over a run instead: first the sum, then the squared
deviations from the mean. This rounds less often, and the compiler turns each pass into vector
instructions (:mod:`~financial_data_service.engine.intrinsics`).

The sum of a run is exact because every term is split at a common grid (Rump, Ogita, Oishi: Accurate
floating-point summation part I, SIAM J. Sci. Comput. 31(1), 2008, doi:10.1137/050645671). The parts
on the grid add up without rounding, in any order. The remainders are so small that their sum is
exact too, unless the prices of a run span more than 40 binary orders of magnitude.

All kernels are in this one file: Numba invalidates its cache on disk when the file of a function
changes, but not when the file of a called function changes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from financial_data_service.engine.intrinsics import (
    add_in_any_order,
    fence_acquire,
    fence_release,
    larger,
    load_acquire,
    prefetch_for_write,
    smaller,
    store_release,
)
from financial_data_service.engine.layout import (
    WORD_BATCH_MAX,
    WORD_CAPACITY,
    WORD_COUNT,
    WORD_COUNT_COPIES,
    WORD_FANOUT_SHIFT,
    WORD_LEVELS,
    WORD_OFFSETS,
)

__all__ = [
    "PRICE_MAX",
    "append",
    "combine",
    "complete_blocks",
    "copy_prices",
    "divide_pair",
    "find_invalid",
    "publish",
    "store_blocks",
    "summarise_blocks",
    "summarise_prices",
    "window",
]

PRICE_MAX = 1e150
"""Largest magnitude of a price: the sum of 10^8 squared differences of such prices is a finite
double. A literal, as the module docstring explains; ``running_stats`` asserts that it equals
``prices.PRICE_MAX``."""

PREFETCH_AHEAD = 512
"""How far ahead of the copy the ring's memory is prefetched, in prices.

512 prices are 4 KiB, about 150 ns of work. Without the prefetch an append of 10,000 takes 15 %
longer. Distances from 256 to 1024 are within 5 % of each other.
"""

EMPTY = (0, math.inf, -math.inf, 0.0, 0.0, 0.0)

compiled: Any = njit(cache=True, nogil=True)


@compiled
def find_invalid(values):  # type: ignore[no-untyped-def]
    """Return the index of the first value that is not a price, or -1. O(n)."""
    for index in range(len(values)):
        if not abs(values[index]) <= PRICE_MAX:
            return index
    return -1


@compiled
def copy_prices(source, target):  # type: ignore[no-untyped-def]
    """Copy prices, and check each of them in the same pass. O(n).

    Returns
    -------
    tuple
        ``(invalid, min, max)``: the number of values that are not finite or are larger than
        ``PRICE_MAX``, and the minimum and maximum of all values. The minimum and maximum are valid
        only if that number is 0.
    """
    invalid = 0
    least = source[0]
    greatest = source[0]
    for index in range(len(source)):
        value = source[index]
        target[index] = value
        invalid += not abs(value) <= PRICE_MAX
        least = smaller(least, value)
        greatest = larger(greatest, value)
    return invalid, least, greatest


@compiled
def divide_pair(high, low, count):  # type: ignore[no-untyped-def]
    """Return ``(high + low) / count`` as a pair; see ``summary.divide_pair``."""
    quotient = high / count
    scaled = quotient * 134217729.0
    upper = scaled - (scaled - quotient)
    product = quotient * count
    error = (upper * count - product) + (quotient - upper) * count
    correction = (((high - product) - error) + low) / count
    mean = quotient + correction
    return mean, correction - (mean - quotient)


@compiled
def mean_of(sum_high, sum_low, count):  # type: ignore[no-untyped-def]
    """Return a sum divided by a count, as a pair.

    If the count is a power of two, the division is exact.
    """
    if count & (count - 1) == 0:
        scale = 1.0 / count
        return sum_high * scale, sum_low * scale
    return divide_pair(sum_high, sum_low, count)


@compiled
def add_pairs(a_high, a_low, b_high, b_low):  # type: ignore[no-untyped-def]
    """Return the sum of two pairs as a pair; see ``summary.add_pairs``."""
    high = a_high + b_high
    shadow = high - a_high
    error = (a_high - (high - shadow)) + (b_high - shadow)
    low = a_low + b_low
    shadow = low - a_low
    rest = (a_low - (low - shadow)) + (b_low - shadow)
    error += low
    total = high + error
    error = error - (total - high) + rest
    high = total + error
    return high, error - (high - total)


@compiled
def grid_for(magnitude, count):  # type: ignore[no-untyped-def]
    """Return a power of two of at least ``2 * magnitude * count`` (Rump's NextPowerTwo).

    Up to `count` doubles of at most `magnitude`, each rounded to a multiple of the last bit of the
    grid, add up without rounding. The grid is 0 if the magnitude is 0.
    """
    bound = magnitude * (2.0 * count)
    scaled = bound * 9007199254740992.0  # 2^53
    grid = (scaled + bound) - scaled
    # If the bound is a power of two, it equals half an ulp of `scaled`. The addition then rounds to
    # even and the difference is 0, so the bound itself is returned.
    return grid if grid > 0.0 else bound


@compiled
def sum_pairs(high, low, grid):  # type: ignore[no-untyped-def]
    """Return the sum of ``high[i] + low[i]`` as a pair, split at `grid`."""
    on_grid = 0.0
    below = 0.0
    for index in range(len(high)):
        value = high[index]
        part = (grid + value) - grid
        on_grid = add_in_any_order(on_grid, part)
        below = add_in_any_order(below, (value - part) + low[index])
    total = on_grid + below
    return total, below - (total - on_grid)


@compiled
def sum_prices(prices, grid):  # type: ignore[no-untyped-def]
    """Return the sum of the prices as a pair, split at `grid`."""
    on_grid = 0.0
    below = 0.0
    for index in range(len(prices)):
        value = prices[index]
        part = (grid + value) - grid
        on_grid = add_in_any_order(on_grid, part)
        below = add_in_any_order(below, value - part)
    total = on_grid + below
    return total, below - (total - on_grid)


@compiled
def summarise_prices(prices):  # type: ignore[no-untyped-def]
    """Return the summary of a run of prices. O(n).

    Parameters
    ----------
    prices : float64[n]
        1 to 10^8 finite prices.
    """
    least = prices[0]
    greatest = prices[0]
    for index in range(len(prices)):
        least = smaller(least, prices[index])
        greatest = larger(greatest, prices[index])
    return summarise_between(prices, least, greatest)


@compiled
def summarise_between(prices, least, greatest):  # type: ignore[no-untyped-def]
    """Return the summary of a run of prices whose minimum and maximum are known. O(n)."""
    count = len(prices)
    grid = grid_for(max(abs(least), abs(greatest)), count)
    sum_high, sum_low = sum_prices(prices, grid)
    mean, rest = mean_of(sum_high, sum_low, count)
    m2 = 0.0
    for index in range(len(prices)):
        deviation = (prices[index] - mean) - rest
        m2 = add_in_any_order(m2, deviation * deviation)
    return count, least, greatest, sum_high, sum_low, m2


@compiled
def summarise_blocks(minima, maxima, sums_high, sums_low, m2s, block_count):  # type: ignore[no-untyped-def]
    """Return the summary of a run of blocks of one level. O(n) in the number of blocks.

    Parameters
    ----------
    minima, maxima, sums_high, sums_low, m2s : float64[n]
        Fields of the summaries of at least one block.
    block_count : int
        Prices in each block; a power of two, so that dividing by it does not round.
    """
    least = minima[0]
    greatest = maxima[0]
    magnitude = 0.0
    for index in range(len(minima)):
        least = smaller(least, minima[index])
        greatest = larger(greatest, maxima[index])
        magnitude = larger(magnitude, abs(sums_high[index]))
    blocks = len(minima)
    sum_high, sum_low = sum_pairs(sums_high, sums_low, grid_for(magnitude, blocks))
    mean, rest = mean_of(sum_high, sum_low, blocks)
    scale = 1.0 / block_count
    m2 = 0.0
    for index in range(len(m2s)):
        deviation = ((sums_high[index] - mean) + (sums_low[index] - rest)) * scale
        m2 = add_in_any_order(m2, m2s[index] + deviation * deviation * block_count)
    return blocks * block_count, least, greatest, sum_high, sum_low, m2


@compiled
def combine(left, right):  # type: ignore[no-untyped-def]
    """Return the combined summary of two disjoint blocks; see ``summary.combine``."""
    left_count, left_min, left_max, left_high, left_low, left_m2 = left
    right_count, right_min, right_max, right_high, right_low, right_m2 = right
    if left_count == 0:
        return right
    if right_count == 0:
        return left
    count = left_count + right_count
    sum_high, sum_low = add_pairs(left_high, left_low, right_high, right_low)
    left_mean, left_rest = divide_pair(left_high, left_low, left_count)
    right_mean, right_rest = divide_pair(right_high, right_low, right_count)
    distance = (right_mean - left_mean) + (right_rest - left_rest)
    m2 = left_m2 + right_m2 + distance * distance * (left_count * right_count / count)
    return count, min(left_min, right_min), max(left_max, right_max), sum_high, sum_low, m2


@compiled
def summarise_slots(header, region, level, slot, length):  # type: ignore[no-untyped-def]
    """Return the summary of `length` consecutive slots of a level. Level 0 is the prices."""
    start = header[WORD_OFFSETS + level] + slot
    if level == 0:
        return summarise_prices(region[start : start + length])
    shift = header[WORD_FANOUT_SHIFT] * level
    blocks = header[WORD_CAPACITY] >> shift
    return summarise_blocks(
        region[start : start + length],
        region[start + blocks : start + blocks + length],
        region[start + 2 * blocks : start + 2 * blocks + length],
        region[start + 3 * blocks : start + 3 * blocks + length],
        region[start + 4 * blocks : start + 4 * blocks + length],
        1 << shift,
    )


@compiled
def summarise_run(header, region, level, begin, end):  # type: ignore[no-untyped-def]
    """Return the summary of blocks ``begin`` to ``end`` (numbered from the first ever) of a level.

    The run is at most as long as the ring. It may wrap around the end of the ring once.
    """
    if end <= begin:
        return EMPTY
    blocks = header[WORD_CAPACITY] >> (header[WORD_FANOUT_SHIFT] * level)
    slot = begin % blocks
    before_wrap = min(end - begin, blocks - slot)
    summary = summarise_slots(header, region, level, slot, before_wrap)
    if before_wrap < end - begin:
        rest = summarise_slots(header, region, level, 0, end - begin - before_wrap)
        summary = combine(summary, rest)
    return summary


@compiled
def summarise_window(header, region, begin, end):  # type: ignore[no-untyped-def]
    """Return the summary of prices number ``begin`` to ``end``, at least one. O(log n).

    The function starts with the prices and goes up level by level. On each level it reads the items
    at both edges of the window that do not fill a block of the next level. The complete blocks
    between them are read on that next level. It reads at most ``2 * fanout`` items per level and
    ``largest_window / fanout**levels`` at the top, so the cost is bounded by the geometry and not
    by the length of the window.
    """
    shift = header[WORD_FANOUT_SHIFT]
    levels = header[WORD_LEVELS]
    summary = EMPTY
    level = 0
    while level < levels and end - begin >= 2 << shift:
        first_whole = -(-begin >> shift)
        end_whole = end >> shift
        head = summarise_run(header, region, level, begin, first_whole << shift)
        tail = summarise_run(header, region, level, end_whole << shift, end)
        summary = combine(summary, combine(head, tail))
        begin, end = first_whole, end_whole
        level += 1
    return combine(summary, summarise_run(header, region, level, begin, end))


@compiled
def window(header, region, length, as_of):  # type: ignore[no-untyped-def]
    """Return the statistics of the last `length` prices up to the newest, or up to an older one.

    The kernel takes no lock, although another process may append at the same time. It first reads,
    and then checks that the writer cannot have overwritten what it read. The writer may be writing
    up to one batch beyond the count. If prices may have been overwritten, the kernel reads the
    newest window again (`as_of` is -1), or returns "overwritten" (`values` is -1). O(1).

    Parameters
    ----------
    length : int
        1 to the largest window of the region. If there are fewer prices, all of them are taken.
    as_of : int
        Sequence at the end of the window, at most the count; -1 for the newest price.

    Returns
    -------
    tuple
        ``(min, max, last, avg, var, values, sequence)``. The first five are NaN if there are no
        prices. ``values`` is -1 if prices of the window have been overwritten; ``sequence`` is -1
        if the symbol was deleted.
    """
    while True:
        sequence = load_acquire(header, WORD_COUNT)
        end = sequence if as_of < 0 else as_of
        values = min(length, end)
        if sequence < 0 or values <= 0:
            return math.nan, math.nan, math.nan, math.nan, math.nan, 0, sequence
        count, least, greatest, sum_high, sum_low, m2 = summarise_window(
            header, region, end - values, end
        )
        last_slot = (end - 1) % header[WORD_CAPACITY]
        last = region[header[WORD_OFFSETS] + last_slot]
        fence_acquire()
        reached = header[WORD_COUNT] + header[WORD_BATCH_MAX] - header[WORD_CAPACITY]
        if reached <= end - values:
            avg, _ = divide_pair(sum_high, sum_low, count)
            return least, greatest, last, avg, m2 / count, values, end
        if as_of >= 0:
            return math.nan, math.nan, math.nan, math.nan, math.nan, -1, sequence


@compiled
def store_summary(header, region, level, price_slot, summary):  # type: ignore[no-untyped-def]
    """Store a summary of a level.

    The block is the one that contains the price in slot `price_slot`.
    """
    shift = header[WORD_FANOUT_SHIFT] * level
    blocks = header[WORD_CAPACITY] >> shift
    start = header[WORD_OFFSETS + level] + (price_slot >> shift)
    _, least, greatest, sum_high, sum_low, m2 = summary
    region[start] = least
    region[start + blocks] = greatest
    region[start + 2 * blocks] = sum_high
    region[start + 3 * blocks] = sum_low
    region[start + 4 * blocks] = m2


@compiled
def store_blocks(header, region, level, first, end):  # type: ignore[no-untyped-def]
    """Summarise blocks ``first`` to ``end`` of a level from the level below, and store them."""
    shift = header[WORD_FANOUT_SHIFT]
    blocks = header[WORD_CAPACITY] >> (shift * level)
    for block in range(first, end):
        slot = block % blocks
        summary = summarise_slots(header, region, level - 1, slot << shift, 1 << shift)
        store_summary(header, region, level, slot << (shift * level), summary)


@compiled
def store_prices(header, region, values):  # type: ignore[no-untyped-def]
    """Copy a batch into its slots, and store the summaries of the level-1 blocks it completes.

    The kernel works block by block, so that the memory of the next block is fetched while one block
    is summarised. A block that is entirely in the batch is summarised from the batch, because its
    copy in the ring may not be in the cache yet.

    Returns
    -------
    bool
        False if a value is not a price. The values written before that are beyond the count, so no
        window reads them.
    """
    sequence = header[WORD_COUNT]
    capacity = header[WORD_CAPACITY]
    prices = header[WORD_OFFSETS]
    fanout = 1 << header[WORD_FANOUT_SHIFT]
    has_blocks = header[WORD_LEVELS] > 0
    done = 0
    while done < len(values):
        slot = (sequence + done) % capacity
        room = fanout - (slot & (fanout - 1)) if has_blocks else capacity - slot
        length = min(room, len(values) - done)
        start = prices + slot
        if done + PREFETCH_AHEAD < len(values):
            for offset in range(PREFETCH_AHEAD, PREFETCH_AHEAD + length, 8):
                prefetch_for_write(region, start + offset)
        part = values[done : done + length]
        invalid, least, greatest = copy_prices(part, region[start : start + length])
        if invalid:
            return False
        if has_blocks and length == fanout:
            store_summary(header, region, 1, slot, summarise_between(part, least, greatest))
        elif has_blocks and length == room:
            whole = region[start + length - fanout : start + length]
            store_summary(header, region, 1, slot, summarise_prices(whole))
        done += length
    return True


@compiled
def complete_blocks(header, region, lowest, sequence, new_sequence):  # type: ignore[no-untyped-def]
    """Store the summaries of the blocks that an append completes, from level `lowest` upwards."""
    for level in range(lowest, header[WORD_LEVELS] + 1):
        shift = header[WORD_FANOUT_SHIFT] * level
        first = sequence >> shift
        end = new_sequence >> shift
        if first == end:
            break
        store_blocks(header, region, level, first, end)


@compiled
def publish(header, sequence):  # type: ignore[no-untyped-def]
    """Store a new count.

    A reader that sees the new count also sees everything that was stored before it.

    The two copies are stored first. They let recovery distinguish a count that a killed writer was
    about to store from a damaged count. A deletion does not update the copies, because it is a
    single store.
    """
    if sequence >= 0:
        header[WORD_COUNT_COPIES] = sequence
        header[WORD_COUNT_COPIES + 1] = sequence
    store_release(header, WORD_COUNT, sequence)


@compiled
def append(header, region, values):  # type: ignore[no-untyped-def]
    """Append a batch and return the new sequence, or -1 if a value is not a price.

    The values are copied into their slots, the blocks that they complete are summarised level by
    level, and the new count is published last. Until then no data that a window reads has changed.
    So an invalid batch, or one whose writer is killed, has no effect. O(n), independent of any
    window.

    Parameters
    ----------
    values : float64[n]
        1 to ``batch_max`` prices, oldest first.
    """
    fence_release()  # A reader that sees a price of this batch also sees the count before it.
    if not store_prices(header, region, values):
        return np.int64(-1)
    sequence = header[WORD_COUNT]
    new_sequence = sequence + len(values)
    complete_blocks(header, region, 2, sequence, new_sequence)
    publish(header, new_sequence)
    return new_sequence
