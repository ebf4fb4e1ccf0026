"""Named price series, each the worst case for one way to go wrong.

Each is a function of a NumPy generator and a length, and the same for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Prices: TypeAlias = npt.NDArray[np.float64]
Series: TypeAlias = Callable[[np.random.Generator, int], npt.NDArray[Any]]


def near(price: float, spread: float) -> Series:
    return lambda rng, length: price + spread * rng.uniform(-0.5, 0.5, length)


def constant(price: float) -> Series:
    return lambda _rng, length: np.full(length, price)


def of_exponents(low: int, high: int, *, signed: bool = False) -> Series:
    """Mantissas in [1, 2) and exponents anywhere in a range: sums that no double can hold."""

    def series(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
        magnitudes = np.ldexp(rng.uniform(1, 2, length), rng.integers(low, high, length))
        return magnitudes * rng.choice([-1.0, 1.0], length) if signed else magnitudes

    return series


def ticks(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    return np.round(1.12 + 1e-5 * rng.integers(-20, 21, length), 5)


def walk(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    return np.round(40_000 + 0.01 * np.cumsum(rng.integers(-50, 51, length)), 2)


def spike(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    prices = ticks(rng, length)
    prices[length // 3] = 1e9
    return prices


def spikes(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    prices = ticks(rng, length)
    prices[rng.integers(0, length, max(1, length // 50))] = 1e9
    prices[rng.integers(0, length, max(1, length // 50))] = -1e9
    return prices


def below_power_of_two(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    """Every block of even a few prices has a power of two as its largest one."""
    prices = 65536 - 1e-5 * rng.integers(0, 1000, length)
    prices[::3] = 65536.0
    return prices


def extremes(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    return rng.choice([-1e150, 1e150], length)


def one_against_all(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    prices = np.full(length, 1e150)
    prices[rng.integers(0, length)] = -1e150
    return prices


def cancelling(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    """Pairs of x and -x, and a little something: a mean of next to nothing."""
    prices = rng.uniform(0, 1e12, length)
    prices[1::2] = -prices[: length // 2 * 2 : 2]
    prices[::7] += 1e-5
    return prices


def sawtooth(_rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    return 100 + 0.25 * (np.arange(length) % 37)


def subnormal(rng: np.random.Generator, length: int) -> npt.NDArray[Any]:
    return 5e-324 * rng.integers(-(2**40), 2**40, length)


CONSTANTS: dict[str, Series] = {
    f"constant {price!r}": constant(price)
    for price in (0.1, 1.0, 3.3, 1e-3, 65536.0, 1e150, -1e150, 5e-324, 2.2e-308, 0.0, -0.0, 1e-160)
}

ORDINARY: dict[str, Series] = {
    "uniform": lambda rng, length: rng.uniform(0, 1e4, length),
    "ticks": ticks,
    "walk": walk,
    "2e6, spread 0.01": near(2e6, 0.01),
    "1e8, spread 0.05": near(1e8, 0.05),
    "1e12, spread 0.01": near(1e12, 0.01),
    "below 65536": below_power_of_two,
    "rising": lambda _rng, length: 1.0 + 1e-4 * np.arange(length),
    "falling": lambda _rng, length: 1e5 - 0.01 * np.arange(length),
    "sawtooth": sawtooth,
    "spike": spike,
    "spikes": spikes,
    "mixed signs": lambda rng, length: rng.normal(0, 100, length),
}

WILD: dict[str, Series] = {
    "cancelling": cancelling,
    "subnormal": subnormal,
    "1e-160": lambda rng, length: 1e-160 * rng.uniform(-1, 1, length),
    "1e-160, offset": near(1.0, 1e-160),
    "squares at the edge": lambda rng, length: 3e-162 * rng.uniform(-1, 1, length),
    "±1e150": extremes,
    "one against all": one_against_all,
    "up to 1e150": lambda rng, length: 1e150 * rng.uniform(-1, 1, length),
    "wild exponents": of_exponents(-1000, 498),
    "wild exponents, signed": of_exponents(-1000, 498, signed=True),
    "60 binary orders": of_exponents(-30, 30),
    "60 binary orders, signed": of_exponents(-30, 30, signed=True),
    "120 binary orders, signed": of_exponents(-60, 60, signed=True),
}

ALL: dict[str, Series] = {**ORDINARY, **CONSTANTS, **WILD}


def make(name: str, length: int, seed: int = 7) -> Prices:
    """Return a series by its name."""
    return ALL[name](np.random.default_rng(seed), length).astype(np.float64)
