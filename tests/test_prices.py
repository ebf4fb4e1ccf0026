"""Batches of prices: every accepted type is accepted, everything else is refused.

A refusal says what was expected, what was found and where, and changes nothing. After each one the
windows, the sequence and the prices held are the same bit for bit, and a symbol that the batch
would have created does not exist.
"""

from __future__ import annotations

import array
import math
import re
from collections import UserList, deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.engine.running_stats import RunningStats, raise_invalid
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import FdsError, InvalidBatchError
from financial_data_service.prices import as_prices

BATCH_MAX = 20
ABOVE = math.nextafter(1e150, math.inf)


class Level(IntEnum):
    ONE = 1


def of_type(got: str, position: int | None = None) -> str:
    place = "values" if position is None else f"values[{position}]"
    return f"got `{got}` - at `{place}`"


def generator() -> Iterator[float]:
    yield 1.0


# Each: what is refused, and what the message must say of it.
REFUSED: dict[str, tuple[Any, str]] = {
    # not finite, or too large
    "nan": ([1.0, 2.0, math.nan], "got nan - at `values[2]`"),
    "inf": ([math.inf], "got inf - at `values[0]`"),
    "-inf": ((1.0, 2.0, 3.0, -math.inf), "got -inf - at `values[3]`"),
    "first of several": ([1.0, -math.inf, math.nan], "got -inf - at `values[1]`"),
    "above the limit": ([1.0, ABOVE], f"got {ABOVE!r} - at `values[1]`"),
    "below the limit": ([-ABOVE], f"got {-ABOVE!r} - at `values[0]`"),
    "nan in an array": (np.array([1.0, np.nan]), "got nan - at `values[1]`"),
    "inf in float32": (np.array([1, np.inf], np.float32), "got inf - at `values[1]`"),
    "integer of 151 digits": ([1, 2, 10**151], "got 1e+151 - at `values[2]`"),
    "integer beyond doubles": ([1.0, 10**400], "got an integer of 1329 bits - at `values[1]`"),
    "negative one": ([-(10**400)], "got an integer of 1329 bits - at `values[0]`"),
    "behind a large one": ([1e200, 10**400], "got 1e+200 - at `values[0]`"),
    "behind a nan": ([math.nan, 10**400], "got nan - at `values[0]`"),
    # elements of another type
    "string": ([1.0, "2"], of_type("str", 1)),
    "True": ([1.0, 2.0, 3.0, True], of_type("bool", 3)),
    "np.False_": ([np.False_], of_type("bool", 0)),
    "None": ([None], of_type("NoneType", 0)),
    "complex": ([1.0, 1j], of_type("complex", 1)),
    "np.complex128": ([np.complex128(1)], of_type("complex128", 0)),
    "nested": ([[1.0], [2.0]], of_type("list", 0)),
    "ragged": ([1.0, [2.0, 3.0]], of_type("list", 1)),
    "array within": ([np.array(1.0)], of_type("ndarray", 0)),
    "Decimal": ([Decimal(1)], of_type("Decimal", 0)),
    "Fraction": ([Fraction(1)], of_type("Fraction", 0)),
    "datetime": ([datetime(2021, 1, 8)], of_type("datetime", 0)),
    "timedelta": ([timedelta(1)], of_type("timedelta", 0)),
    "np.datetime64": ([np.datetime64(1, "s")], of_type("datetime64", 0)),
    "np.timedelta64": ([np.timedelta64(1, "s")], of_type("timedelta64", 0)),
    "np.longdouble": ([1.0, np.longdouble(1)], of_type("longdouble", 1)),
    "bytes within": ([b"1"], of_type("bytes", 0)),
    "a dict within": ([{}], of_type("dict", 0)),
    # arrays of another type
    "array of bool": (np.array([True]), "got `bool` - at `values`"),
    "array of complex": (np.array([1j]), "got `complex128` - at `values`"),
    "array of str": (np.array(["1"]), "got `<U1` - at `values`"),
    "array of bytes": (np.array([b"1"]), "got `|S1` - at `values`"),
    "array of objects": (np.array([1.0], object), "got `object` - at `values`"),
    "array of times": (np.array([1], "M8[s]"), "got `datetime64[s]` - at `values`"),
    "array of spans": (np.array([1], "m8[s]"), "got `timedelta64[s]` - at `values`"),
    "array of records": (np.array([(1.0,)], [("price", "f8")]), "- at `values`"),
    "masked": (np.ma.array([1.0, 2.0], mask=[False, True]), "got a masked value - at `values[1]`"),
    # shapes
    "0-d": (np.array(1.0), "got shape () - at `values`"),
    "2-d": (np.ones((2, 3)), "got shape (2, 3) - at `values`"),
    "2-d of nothing": (np.ones((0, 3)), "got shape (0, 3) - at `values`"),
    "empty list": ([], f"Expected 1 to {BATCH_MAX} prices, got 0 - at `values`"),
    "empty tuple": ((), "got 0 - at `values`"),
    "empty array": (np.array([]), "got 0 - at `values`"),
    "too many": ([1.0] * 21, f"Expected 1 to {BATCH_MAX} prices, got 21 - at `values`"),
    "too many in an array": (np.ones(10**6), "got 1000000 - at `values`"),
    # no batch at all
    "no batch": (None, of_type("NoneType")),
    "a number": (1.0, of_type("float")),
    "a str": ("1.0", of_type("str")),
    "bytes": (b"\0" * 8, of_type("bytes")),
    "bytearray": (bytearray(8), of_type("bytearray")),
    "memoryview": (memoryview(bytes(8)), of_type("memoryview")),
    "dict": ({0: 1.0}, of_type("dict")),
    "set": ({1.0}, of_type("set")),
    "generator": (generator(), of_type("generator")),
    "iterator": (iter([1.0]), of_type("list_iterator")),
    "type": (list, of_type("type")),
    "np.float64": (np.float64(1), "got shape () - at `values`"),
}

# 1.5, 2.0 and -3.0, in everything that prices come in.
WANTED = [1.5, 2.0, -3.0]
READ_ONLY = np.array(WANTED)
READ_ONLY.flags.writeable = False
UNALIGNED = np.frombuffer(b"\0" + np.array(WANTED).tobytes(), np.float64, offset=1)
assert not UNALIGNED.flags.aligned
ACCEPTED: dict[str, Any] = {
    "list": WANTED,
    "tuple": tuple(WANTED),
    "list of int and float": [1.5, 2, -3],
    "list of NumPy scalars": [np.float64(1.5), np.int8(2), np.float32(-3)],
    "deque": deque(WANTED),
    "UserList": UserList(WANTED),
    "array.array": array.array("d", WANTED),
    "array": np.array(WANTED),
    "float32": np.array(WANTED, np.float32),
    "float16": np.array(WANTED, np.float16),
    "big-endian": np.array(WANTED, ">f8"),
    "big-endian float32": np.array(WANTED, ">f4"),
    "read-only": READ_ONLY,
    "unaligned": UNALIGNED,
    "every other": np.array([1.5, 0, 2.0, 0, -3.0])[::2],
    "backwards": np.array(WANTED[::-1])[::-1],
    "column": np.array([[1.5, 9], [2.0, 9], [-3.0, 9]])[:, 0],
    "record field": np.array([(1, p) for p in WANTED], [("t", "i4"), ("p", "f8")])["p"],
    "unmasked": np.ma.array(WANTED, mask=False),
    "recarray": np.array([(p,) for p in WANTED], [("price", "f8")]).view(np.recarray).price,
}
INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def held(stats: RunningStats) -> tuple[int, bytes, list[str]]:
    """Return all there is to know of a symbol, to the bit."""
    windows = [repr(stats.window(length)) for length in range(1, stats.largest_window + 1)]
    return stats.sequence, stats.prices(stats.oldest, stats.sequence).tobytes(), windows


def small_stats(filled: int = 0) -> RunningStats:
    stats = RunningStats(30, fanout=4, batch_max=BATCH_MAX)
    for price in range(filled):
        stats.append([price / 7])
    return stats


@pytest.mark.parametrize("filled", [0, 5, 100])
@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(values: Any, message: str, filled: int) -> None:
    stats = small_stats(filled)
    before = held(stats)
    with pytest.raises(InvalidBatchError) as caught:
        stats.append(values)
    assert held(stats) == before
    assert str(caught.value).startswith("Expected ")
    assert message in str(caught.value)
    position = re.search(r"values\[(\d+)\]", message)
    assert caught.value.index == (int(position[1]) if position else None)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FdsError)


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_creates_no_symbol(values: Any, message: str) -> None:
    manager = SymbolManager(max_symbols=1, largest_window=30, batch_max=BATCH_MAX)
    for _ in range(2):
        with pytest.raises(InvalidBatchError, match=re.escape(message)):
            manager.add_batch("AAPL", values)
        assert "AAPL" not in manager
    manager.add_batch("MSFT", [1.0])
    assert manager.symbols() == ["MSFT"]


@pytest.mark.parametrize("values", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_accepted(values: Any) -> None:
    stats = small_stats(4)
    assert stats.append(values) == 7
    assert stats.values(3).tolist() == WANTED
    assert stats.window(3)[1:5] == (-3.0, 2.0, -3.0, 0.5 / 3)


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_all_widths(kind: type[np.integer[Any]]) -> None:
    stats = small_stats()
    stats.append(np.array([1, 2, 127], kind))
    stats.append([kind(5)])
    assert stats.values(4).tolist() == [1, 2, 127, 5]


def test_an_enumeration_of_integers() -> None:
    assert as_prices([Level.ONE], 1).tolist() == [1.0]


def test_ranges() -> None:
    assert as_prices(range(3), 3).tolist() == [0, 1, 2]


def test_integers_up_to_the_limit() -> None:
    stats = small_stats()
    stats.append([10**150, -(10**150), 10**100])
    assert stats.values(3).tolist() == [1e150, -1e150, 1e100]


def test_the_limits_themselves_are_prices() -> None:
    stats = small_stats()
    stats.append([1e150, -1e150, 5e-324, -5e-324, 0.0, -0.0])
    assert stats.sequence == 6


def test_the_longest_batch_is_accepted() -> None:
    stats = small_stats()
    assert stats.append([1.0] * BATCH_MAX) == BATCH_MAX


def test_a_batch_is_copied() -> None:
    values = np.array(WANTED)
    stats = small_stats()
    stats.append(values)
    values[:] = 99
    assert stats.values(3).tolist() == WANTED


def test_last_values_is_a_copy() -> None:
    stats = small_stats()
    stats.append(WANTED)
    stats.values(3)[:] = 99
    assert stats.values(3).tolist() == WANTED


def test_a_float64_array_is_not_copied_on_its_way() -> None:
    values = np.array(WANTED)
    assert as_prices(values, 3) is values
    assert as_prices(READ_ONLY, 3) is READ_ONLY


def test_memory_maps(tmp_path: Any) -> None:
    np.array(WANTED).tofile(tmp_path / "prices")
    stats = small_stats()
    stats.append(np.memmap(tmp_path / "prices", dtype=np.float64, mode="r"))
    assert stats.values(3).tolist() == WANTED


def test_refuse_unfit_names_the_first() -> None:
    with pytest.raises(InvalidBatchError, match=r"got nan - at `values\[1\]`") as caught:
        raise_invalid(np.array([1.0, np.nan, np.inf]))
    assert caught.value.index == 1


# Columns of data frames: pandas, polars, Arrow


def frames() -> dict[str, Callable[[Any], Any]]:
    """Return what makes a column of values, for each library that is installed."""
    kinds: dict[str, Callable[[Any], Any]] = {}
    try:
        import pandas as pd

        kinds["pandas.Series"] = pd.Series
        kinds["pandas Float64"] = lambda values: pd.Series(values, dtype="Float64")
    except ImportError:
        pass
    try:
        import polars as pl

        kinds["polars.Series"] = pl.Series
    except ImportError:
        pass
    try:
        import pyarrow as pa

        kinds["pyarrow.Array"] = pa.array
        kinds["pyarrow.ChunkedArray"] = lambda values: pa.chunked_array([values[:1], values[1:]])
    except ImportError:
        pass
    return kinds


@pytest.mark.parametrize("column", frames().values(), ids=frames())
def test_columns_of_data_frames(column: Callable[[Any], Any]) -> None:
    stats = small_stats()
    stats.append(column(WANTED))
    assert stats.values(3).tolist() == WANTED


@pytest.mark.parametrize("column", frames().values(), ids=frames())
def test_holes_in_columns_are_refused(column: Callable[[Any], Any]) -> None:
    stats = small_stats()
    with pytest.raises(InvalidBatchError, match="at `values"):
        stats.append(column([1.0, None, 2.0]))
    assert stats.sequence == 0


@pytest.mark.parametrize("name", sorted(frames().keys() - {"pandas Float64"}))
@pytest.mark.parametrize("value", ["1.0", datetime(2021, 1, 8), True], ids=repr)
def test_columns_of_no_numbers_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidBatchError, match="Expected dtype `float64`"):
        small_stats().append(frames()[name]([value, value]))


# Hypothesis: anything goes in; it is stored as NumPy reads it, or refused

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.lists(st.floats(), max_size=2),
    st.integers().map(lambda n: 10**300 * n),
)


@given(st.one_of(junk, st.lists(junk, max_size=25), st.lists(st.floats(), max_size=25)))
def test_anything_is_stored_or_refused(values: Any) -> None:
    stats = small_stats(3)
    before = held(stats)
    fit = (
        isinstance(values, list)
        and 1 <= len(values) <= BATCH_MAX
        and all(type(value) in (int, float) and abs(value) <= 1e150 for value in values)
    )
    if fit:
        assert stats.append(values) == 3 + len(values)
        assert stats.values(len(values)).tolist() == [float(value) for value in values]
    else:
        with pytest.raises(InvalidBatchError):
            stats.append(values)
        assert held(stats) == before
    stats.close()
