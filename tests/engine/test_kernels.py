"""Every kernel, compiled and as plain Python, against a recomputation of what it promises.

The fixture ``kernel`` gives each test both forms of a kernel. The plain form of one still calls the
compiled form of others. So a last test starts an interpreter in which Numba compiles nothing, and
runs whole rings there against the oracle.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.engine import kernels, summary
from financial_data_service.engine.layout import WORD_COUNT, Geometry
from financial_data_service.engine.ring import Ring
from financial_data_service.windows import WindowStats
from support.oracle import Oracle
from support.paths import TESTS
from support.series import ALL, ORDINARY, Prices, make

prices = st.floats(-1e150, 1e150, allow_nan=False)
Kernel = Callable[[str], Any]

ABOVE = math.nextafter(kernels.PRICE_MAX, math.inf)
INVALID = [math.nan, -math.nan, math.inf, -math.inf, 1.0000001e150, -1.0000001e150, ABOVE, -ABOVE]
FIT = [1e150, -1e150, 0.0, -0.0, 5e-324, -5e-324, 1.0]


def plain(name: str) -> Any:
    """Return a kernel as it is written; itself where Numba is told to compile nothing."""
    function = getattr(kernels, name)
    return getattr(function, "py_func", function)


@pytest.fixture(params=["compiled", "plain"], scope="module")
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return plain if request.param == "plain" else lambda name: getattr(kernels, name)


def both(name: str) -> list[Any]:
    """Return both forms, for tests in which Hypothesis does the looping."""
    return [getattr(kernels, name), plain(name)]


def total(values: Prices) -> Fraction:
    return sum(map(Fraction, values.tolist()), Fraction(0))


# Looking for what is not a price


@pytest.mark.parametrize("value", INVALID)
def test_unfit_values_are_found_wherever_they_are(kernel: Kernel, value: float) -> None:
    """At every place of a vector instruction and of what is left over after them."""
    for length in (1, 2, 3, 4, 7, 8, 9, 31, 64):
        target = np.zeros(length)
        for position in range(length):
            values = np.ones(length)
            values[position] = value
            assert kernel("find_invalid")(values) == position
            assert kernel("copy_prices")(values, target)[0] == 1
            values[-1] = math.nan
            assert kernel("find_invalid")(values) == position
            assert kernel("copy_prices")(values, target)[0] == 1 + (position < length - 1)


def test_prices_are_copied_bit_by_bit(kernel: Kernel) -> None:
    for length in range(1, 40):
        values = np.resize(np.array(FIT), length)
        target = np.full(length, np.nan)
        assert kernel("find_invalid")(values) == -1
        assert kernel("copy_prices")(values, target) == (0, values.min(), values.max())
        assert target.tobytes() == values.tobytes()


def test_read_only_arrays(kernel: Kernel) -> None:
    values = np.array(FIT)
    values.flags.writeable = False
    target = np.zeros(len(FIT))
    assert kernel("find_invalid")(values) == -1
    assert kernel("copy_prices")(values, target) == (0, values.min(), values.max())
    assert kernel("summarise_prices")(values)[1:3] == (-1e150, 1e150)


# Steps of arithmetic


@st.composite
def pairs(draw: st.DrawFn) -> tuple[float, float]:
    high = draw(st.floats(-1e158, 1e158, allow_nan=False))
    return summary.fast_two_sum(high, high * draw(st.floats(-(2.0**-53), 2.0**-53)))


@given(pairs(), st.integers(1, 10**8))
def test_divide_pair_is_that_of_the_reference(pair: tuple[float, float], count: int) -> None:
    for divide_pair in both("divide_pair"):
        assert divide_pair(*pair, count) == summary.divide_pair(*pair, count)


@given(pairs(), pairs())
def test_add_pairs_is_that_of_the_reference(a: tuple[float, float], b: tuple[float, float]) -> None:
    for add_pairs in both("add_pairs"):
        assert add_pairs(*a, *b) == summary.add_pairs(*a, *b)


@given(*(st.lists(prices, max_size=9).map(summary.summarise) for _ in range(2)))
def test_combine_is_that_of_the_reference(left: summary.Summary, right: summary.Summary) -> None:
    for combine in both("combine"):
        assert combine(tuple(left), tuple(right)) == summary.combine(left, right)


@given(
    st.one_of(
        st.floats(0, 1e150),
        st.integers(-1074, 498).map(lambda exponent: 2.0**exponent),
        st.sampled_from([0.0, 5e-324, 1e150, 0.1, 0.2, math.nextafter(1.0, 0.0)]),
    ),
    st.one_of(st.integers(1, 10**8), st.sampled_from([1, 2, 10, 20, 128, 256, 10**8])),
)
def test_grid_is_a_power_of_two_and_large_enough(magnitude: float, count: int) -> None:
    """Also where the bound is a power of two itself, as it is for a largest price of 1, 2, 4 …"""
    for grid_for in both("grid_for"):
        grid = grid_for(magnitude, count)
        bound = 2 * Fraction(magnitude) * count
        if magnitude == 0.0:
            assert grid == 0.0
            continue
        assert math.frexp(grid)[0] == 0.5
        assert bound * (1 - Fraction(2) ** -53) <= Fraction(grid) < 2 * bound
        assert math.isfinite(grid * 1.5)


@pytest.mark.parametrize("count", [1, 3, 10, 128, 255, 256])
@pytest.mark.parametrize("name", ORDINARY)
def test_sums_of_prices_are_exact(kernel: Kernel, name: str, count: int) -> None:
    values = make(name, count)
    grid = kernel("grid_for")(np.abs(values).max(), count)
    high, low = kernel("sum_prices")(values, grid)
    assert Fraction(high) + Fraction(low) == total(values)
    assert high == high + low


@pytest.mark.parametrize("count", [1, 3, 128, 256])
@pytest.mark.parametrize("name", ORDINARY)
def test_sums_of_sums_are_exact(kernel: Kernel, name: str, count: int) -> None:
    values = make(name, count * 128).reshape(count, 128)
    highs, lows = np.array([kernels.summarise_prices(block)[3:5] for block in values]).T.copy()
    grid = kernel("grid_for")(np.abs(highs).max(), count)
    high, low = kernel("sum_pairs")(highs, lows, grid)
    assert Fraction(high) + Fraction(low) == total(values.ravel())
    assert high == high + low


# Summaries of runs


def as_stats(found: Any, last: float) -> WindowStats:
    found = summary.Summary(*found)
    least, greatest, avg, var = summary.lower(found)
    count = found.count
    return WindowStats(count, least, greatest, last, avg, var, count, count)


@pytest.mark.parametrize("name", ALL)
def test_summaries_of_prices(kernel: Kernel, name: str) -> None:
    values = make(name, 600)
    for length in (*range(1, 20), 63, 64, 65, 127, 128, 129, 255, 256, 600):
        run = values[-length:]
        errors = Oracle(run).check(as_stats(kernel("summarise_prices")(run), run[-1]), length)
        if name in ORDINARY:
            assert errors.avg_ulps <= 0.5
            # Compiled, squares are added up in several lanes, which round off less each.
            assert errors.var_relative <= (2e-15 if kernel is not plain else 1e-14)


@pytest.mark.parametrize("block_count", [2, 128])
@pytest.mark.parametrize("name", ALL)
def test_summaries_of_blocks(kernel: Kernel, name: str, block_count: int) -> None:
    for blocks in (1, 2, 3, 9):
        values = make(name, blocks * block_count)
        rows = np.array(
            [kernels.summarise_prices(block)[1:] for block in values.reshape(blocks, block_count)]
        )
        found = kernel("summarise_blocks")(*rows.T.copy(), block_count)
        errors = Oracle(values).check(as_stats(found, values[-1]), len(values))
        if name in ORDINARY:
            assert errors.avg_ulps <= 0.5
            assert errors.var_relative <= 2e-15


@pytest.mark.parametrize("name", ORDINARY)
def test_bounds_that_are_known_need_not_be_looked_for(kernel: Kernel, name: str) -> None:
    for length in (1, 2, 7, 128):
        values = make(name, length)
        *known, known_m2 = kernel("summarise_between")(values, values.min(), values.max())
        *found, m2 = kernel("summarise_prices")(values)
        assert known == found
        assert known_m2 == pytest.approx(m2, rel=1e-14)  # compiled in one and plain in the other


@given(pairs(), st.integers(1, 10**8) | st.integers(0, 26).map(lambda shift: 2**shift))
def test_means_of_whole_blocks_are_divided_exactly(pair: tuple[float, float], count: int) -> None:
    truth = (Fraction(pair[0]) + Fraction(pair[1])) / count
    for mean_of in both("mean_of"):
        high, low = mean_of(*pair, count)
        error = abs(Fraction(high) + Fraction(low) - truth)
        assert error <= abs(truth) / 2**103 + 2 * Fraction(2) ** -1074


@given(st.lists(prices, min_size=1, max_size=30))
def test_summaries_of_any_prices(values: list[float]) -> None:
    for summarise_prices in both("summarise_prices"):
        found = summarise_prices(np.array(values))
        Oracle(values).check(as_stats(found, values[-1]), len(values))


# Rings


def run_a_ring(append: Any, window: Any, name: str, geometry: Geometry, length: int) -> None:
    """Append a series in batches of 1, 2, … batch_max, and check every window after each."""
    values = make(name, length)
    oracle = Oracle(values)
    ring = Ring(geometry)
    sequence, batch = 0, 1
    while sequence < length:
        end = min(length, sequence + batch)
        assert append(ring.header, ring.region, values[sequence:end]) == end
        sequence, batch = end, batch % geometry.batch_max + 1
        for asked in range(1, geometry.largest_window + 1):
            answer = WindowStats(asked, *window(ring.header, ring.region, asked, -1))
            oracle.check(answer, asked, sequence)
    ring.close()


GEOMETRIES = [Geometry(10, 2, 4), Geometry(21, 4, 9), Geometry(17, 32, 1)]
SERIES = ["walk", "constant 0.1", "mixed signs", "wild exponents, signed"]


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_small_rings(kernel: Kernel, name: str, geometry: Geometry) -> None:
    run_a_ring(kernel("append"), kernel("window"), name, geometry, 110)


def test_an_empty_ring_answers_nan(kernel: Kernel) -> None:
    ring = Ring(Geometry(10, 2, 4))
    *statistics, values, sequence = kernel("window")(ring.header, ring.region, 10, -1)
    assert all(map(math.isnan, statistics))
    assert (values, sequence) == (0, 0)


@pytest.mark.parametrize("filled", [0, 1, 9, 15, 16, 37])
def test_an_unfit_batch_changes_no_window(kernel: Kernel, filled: int) -> None:
    ring = Ring(Geometry(10, 2, 4))
    for price in range(filled):
        kernel("append")(ring.header, ring.region, np.array([price + 0.5]))
    windows = [str(kernel("window")(ring.header, ring.region, n, -1)) for n in range(1, 11)]
    header = ring.header.tobytes()
    for values in ([math.nan], [1, 2, 3, math.inf], [1e151, 1, 1, 1], [1, -math.inf, 1]):
        assert kernel("append")(ring.header, ring.region, np.array(values, float)) == -1
        assert ring.header.tobytes() == header
        again = [str(kernel("window")(ring.header, ring.region, n, -1)) for n in range(1, 11)]
        assert again == windows


def test_levels_hold_the_summaries_of_their_blocks(kernel: Kernel) -> None:
    """Field by field, after the ring has wrapped twice; the layout's picture says where."""
    geometry = Geometry(20, 4, 8)
    assert (geometry.levels, geometry.capacity) == (2, 32)
    ring = Ring(geometry)
    values = make("sawtooth", 80)
    for begin in range(0, 80, 8):
        kernel("append")(ring.header, ring.region, values[begin : begin + 8])
    assert ring.header[WORD_COUNT] == 80
    for level, length in ((1, 4), (2, 16)):
        blocks = 32 // length
        start = geometry.offsets[level]
        fields = ring.region[start : start + 5 * blocks].reshape(5, blocks)
        for block in range((80 - 32) // length, 80 // length):
            run = values[block * length : (block + 1) * length]
            high, low, m2 = fields[2:, block % blocks]
            assert tuple(fields[:2, block % blocks]) == (run.min(), run.max())
            assert Fraction(high) + Fraction(low) == total(run)
            assert m2 / length == pytest.approx(float(Oracle(run).var(0, length)), rel=1e-15)


def test_kernels_release_the_gil_and_are_cached() -> None:
    for name in kernels.__all__:
        function = getattr(kernels, name)
        if name != "PRICE_MAX":
            assert function.targetoptions["nogil"], name
            assert "fastmath" not in function.targetoptions, name
            assert type(function._cache).__name__ != "NullCache", name


def small_suite() -> None:
    """Run by a test in an interpreter in which nothing is compiled."""
    assert plain("append") is kernels.append
    for geometry in GEOMETRIES:
        for name in SERIES:
            run_a_ring(kernels.append, kernels.window, name, geometry, 70)


def test_the_same_without_any_compiler() -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        "from engine import test_kernels as t; t.small_suite()",
    ]
    path = os.pathsep.join([str(TESTS), *sys.path])
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path}
    subprocess.run(command, env=environment, check=True, timeout=100)
