"""Adding prices: a series arrives whole, in order and once, or an error says why.

Both clients run the same plans, so every call goes through both. Failures come from a model below
httpx, one for each way a request can end, and in any order by Hypothesis.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import financial_data_service as fds
from financial_data_service import Client
from financial_data_service.client import Receipt
from support.client_calls import Call, series, sync_call
from support.client_model import BATCH_MAX, DOUBTFUL, UNTOUCHED, ModelService


class TestAddBatch:
    @pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 23])
    def test_a_series_is_split_at_the_limit_of_the_service(self, call: Call, count: int) -> None:
        model = ModelService()
        assert call(model, "add_batch", "A", series(count)) == Receipt("A", count, count)
        assert model.prices["A"] == series(count)
        posts = [request for request in model.requests if request.startswith("POST")]
        assert len(posts) == -(-count // BATCH_MAX)

    def test_it_goes_behind_what_is_there(self, call: Call) -> None:
        model = ModelService()
        model.prices["A"] = [5.0, 6.0]
        assert call(model, "add_batch", "A", series(9)) == Receipt("A", 9, 11)
        assert model.prices["A"] == [5.0, 6.0, *series(9)]

    def test_a_place_of_its_own_needs_no_asking(self, call: Call) -> None:
        model = ModelService()
        assert call(model, "add_batch", "A", series(9), 0) == Receipt("A", 9, 9)
        assert call(model, "add_batch", "A", series(9), from_sequence=0) == Receipt("A", 0, 9)
        assert call(model, "add_batch", "A", series(12), from_sequence=0) == Receipt("A", 3, 12)
        assert model.prices["A"] == series(12)
        assert not any("stats" in request for request in model.requests)

    def test_the_sequence_behind_is_that_of_the_prices_not_of_the_symbol(self, call: Call) -> None:
        model = ModelService()
        model.prices["A"] = series(20)
        assert call(model, "add_batch", "A", series(6), from_sequence=0) == Receipt("A", 0, 6)

    @pytest.mark.parametrize("fault", [*UNTOUCHED, *DOUBTFUL])
    @pytest.mark.parametrize("from_sequence", [None, 0])
    def test_every_failure_is_survived(
        self, call: Call, fault: str, from_sequence: int | None
    ) -> None:
        model = ModelService(["", fault, fault])
        receipt = call(model, "add_batch", "A", series(10), from_sequence)
        assert model.prices["A"] == series(10)
        assert receipt.sequence == 10
        # Whose prices are there already is known where nobody else was to be.
        assert receipt.added == 10 or (from_sequence is not None and fault.endswith("after"))
        assert not model.faults

    @pytest.mark.parametrize("fault", UNTOUCHED)
    def test_among_others_what_was_surely_not_stored_is_sent_again(
        self, call: Call, fault: str
    ) -> None:
        model = ModelService(["", fault, fault])
        receipt = call(model, "add_batch", "A", series(10), exclusive=False)
        assert receipt == Receipt("A", 10, 10)
        assert model.prices["A"] == series(10)

    @pytest.mark.parametrize("fault", DOUBTFUL)
    def test_among_others_what_may_be_stored_is_not_sent_again(
        self, call: Call, fault: str
    ) -> None:
        model = ModelService(["", fault])
        with pytest.raises(fds.UnconfirmedError, match="may have been carried out or not") as info:
            call(model, "add_batch", "A", series(10), exclusive=False)
        assert info.value.receipt == Receipt("A", 4, 4)
        assert model.prices["A"] == series(8 if fault.endswith("after") else 4)

    def test_among_others_another_s_prices_are_no_conflict(self, call: Call) -> None:
        model = ModelService()
        model.before_batch = lambda: model.prices.setdefault("A", []).append(5.0)
        assert call(model, "add_batch", "A", series(5), exclusive=False) == Receipt("A", 5, 7)

    @settings(max_examples=150)
    @given(
        faults=st.lists(st.sampled_from(["", *UNTOUCHED, *DOUBTFUL]), max_size=12),
        count=st.integers(1, 14),
        before=st.integers(0, 3),
    )
    def test_any_run_of_failures_leaves_the_series_or_its_beginning(
        self, faults: list[str], count: int, before: int
    ) -> None:
        model = ModelService(faults)
        # Equal prices, where one too many or too few would look like the right ones.
        if before:
            model.prices["A"] = [1.0] * before
        try:
            receipt = sync_call(model, "add_batch", "A", [1.0] * count)
        except fds.ServiceUnavailableError as error:
            broken_off = error.receipt
            assert broken_off is not None
            acknowledged = broken_off.sequence
            assert before <= acknowledged <= len(model.prices.get("A", [])) <= before + count
            rest = [1.0] * (before + count - acknowledged)
            model.faults.clear()
            sync_call(model, "add_batch", "A", rest, from_sequence=acknowledged)
        else:
            assert receipt.sequence == before + count
        assert len(model.prices["A"]) == before + count

    @settings(max_examples=100)
    @given(
        faults=st.lists(st.sampled_from(["", *UNTOUCHED, *DOUBTFUL]), max_size=8),
        count=st.integers(1, 14),
    )
    def test_among_others_nothing_is_ever_stored_twice(self, faults: list[str], count: int) -> None:
        model = ModelService(faults)
        try:
            sync_call(model, "add_batch", "A", series(count), exclusive=False)
        except fds.ServiceUnavailableError:
            stored = model.prices.get("A", [])
            assert stored == series(count)[: len(stored)]
        else:
            assert model.prices["A"] == series(count)

    @pytest.mark.parametrize("values", [[5.0], [100.0], [100.0, 100 + 1 / 7, 100 + 2 / 7]])
    def test_another_writer_is_a_conflict_whatever_it_writes(
        self, call: Call, values: list[float]
    ) -> None:
        model = ModelService()

        def write_once() -> None:
            model.prices["A"] = [*values]
            model.before_batch = lambda: None

        model.before_batch = write_once
        with pytest.raises(fds.SequenceConflictError) as info:
            call(model, "add_batch", "A", series(4))
        assert isinstance(info.value, fds.ServiceError)
        assert info.value.sequence == len(model.prices["A"])

    def test_a_conflict_is_told_at_once_and_says_how_far_it_came(self, call: Call) -> None:
        model = ModelService()
        model.prices["A"] = [*series(5), 1.0]
        with pytest.raises(fds.SequenceConflictError, match=r"they differ \(409 from POST") as info:
            call(model, "add_batch", "A", series(12), from_sequence=0)
        error: Any = info.value
        assert (error.sequence, error.status, error.detail) == (6, 409, "they differ")
        assert error.receipt == Receipt("A", 0, 4)
        assert sum(request.startswith("POST") for request in model.requests) == 2

    def test_a_service_that_forgot_is_a_conflict(self, call: Call) -> None:
        model = ModelService(["", "reset before"])
        model.before_batch = lambda: model.prices.clear() if len(model.faults) == 0 else None
        with pytest.raises(fds.SequenceConflictError) as info:
            call(model, "add_batch", "A", series(9))
        assert info.value.sequence == 0

    @pytest.mark.parametrize("status", [400, 413, 422, 500, 507])
    def test_what_no_repetition_helps_is_not_repeated(self, call: Call, status: int) -> None:
        model = ModelService([str(status)])
        with pytest.raises(fds.ServiceError, match="not now") as info:
            call(model, "add_batch", "A", series(3), from_sequence=0)
        assert info.value.status == status
        assert sum(request.startswith("POST") for request in model.requests) == 1

    def test_the_limit_is_asked_for_once(self) -> None:
        model = ModelService()
        with Client("http://model", transport=model.transport) as client:
            receipt = client.add_batch("A", series(9))
            for _ in range(3):
                receipt = client.add_batch("A", series(9), from_sequence=receipt.sequence)
        assert model.requests.count("GET /symbols") == 1
        assert receipt.sequence == len(model.prices["A"]) == 36

    @pytest.mark.parametrize(("from_sequence", "exclusive"), [(-1, True), (0, False)])
    def test_a_place_that_is_none(self, call: Call, from_sequence: int, exclusive: bool) -> None:
        model = ModelService()
        with pytest.raises(ValueError, match="Expected"):
            call(model, "add_batch", "A", [1.0], from_sequence, exclusive=exclusive)
        assert not model.prices


INTEGERS = [189, 190, 188, 2**20]
AS_INTEGERS: list[Any] = [
    INTEGERS,
    tuple(INTEGERS),
    range(189, 193),
    *(np.array(INTEGERS, dtype) for dtype in ("i4", "u4", "i8", "u8", "f4", "f8", ">f8", ">i4")),
    np.array(INTEGERS * 2)[::2],
    np.array(INTEGERS)[::-1],
    pd.Series(INTEGERS),
    pd.Series(INTEGERS, dtype="Int64"),
    pd.Series(INTEGERS, dtype="float32", index=list("abcd")),
    pl.Series(INTEGERS),
    pl.Series(INTEGERS, dtype=pl.Float32),
    pa.array(INTEGERS),
    pa.array(INTEGERS, pa.float32()),
    pa.chunked_array([INTEGERS[:1], INTEGERS[1:]]),
]


class Readable:
    """What NumPy can read, and nobody can index."""

    def __init__(self, prices: list[float]) -> None:
        self.prices = prices

    def __array__(self, *_: object, **__: object) -> Any:
        return np.array(self.prices)


class TestValues:
    @pytest.mark.parametrize("values", AS_INTEGERS, ids=lambda values: type(values).__module__)
    def test_every_kind_arrives(self, values: Any) -> None:
        model = ModelService()
        sync_call(model, "add_batch", "A", values)
        assert model.prices["A"] == [float(value) for value in np.asarray(values)]

    @settings(max_examples=50)
    @given(prices=st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=9))
    def test_every_bit_arrives(self, prices: list[float]) -> None:
        model = ModelService()
        sync_call(model, "add_batch", "A", prices)
        assert np.array(model.prices["A"]).tobytes() == np.array(prices).tobytes()

    @pytest.mark.parametrize(
        ("values", "message", "index"),
        [
            ([], "Expected 1 or more prices, got 0 - at `values`", None),
            ([1.0, "2"], r"Expected `float`, got `str` - at `values\[1\]`", 1),
            ([1.0, None], r"Expected `float`, got `NoneType` - at `values\[1\]`", 1),
            ([True], r"Expected `float`, got `bool` - at `values\[0\]`", 0),
            ([1.0, float("nan"), 2.0], r"got nan - at `values\[1\]`", 1),
            ([1.0, 2.0, float("inf")], r"got inf - at `values\[2\]`", 2),
            ([-1.1e150], r"magnitude 1e\+150 at most, got -1.1e\+150 - at `values\[0\]`", 0),
            ([10**400], r"got an integer of 1329 bits - at `values\[0\]`", 0),
            (np.ones((2, 2)), r"one dimension, got shape \(2, 2\)", None),
            (np.ones(2, complex), "Expected dtype `float64`, got `complex128`", None),
            (np.array(["1"]), "Expected dtype `float64`", None),
            (np.ma.array([1.0, 2.0], mask=[False, True]), r"masked value - at `values\[1\]`", 1),
            (pd.Series([1.0, None]), r"got nan - at `values\[1\]`", 1),
            (pl.Series([1, None]), r"got null - at `values\[1\]`", 1),
            (pl.Series([1.0, float("nan"), None]), r"got nan - at `values\[1\]`", 1),
            (pa.array([None, 1.5]), r"got null - at `values\[0\]`", 0),
            (pa.chunked_array([[1.5], [None]]), r"got null - at `values\[1\]`", 1),
            (pd.Series([1, None], [7, 8], "Int64"), r"got null - at `values\[1\]`", 1),
            (Readable([1.0, float("nan")]), r"got nan - at `values\[1\]`", 1),
            (pd.Series(["a"]), "Expected dtype `float64`", None),
            (pl.Series([Decimal(1)]), r"`float64`, got `Decimal\(", None),
            (pa.array([Decimal(1)]), r"`float64`, got `decimal128\(1, 0\)`", None),
            (pd.DataFrame({"price": [1.0]}), "one dimension", None),
            ("1.0", "Expected a sequence of `float` or an array, got `str`", None),
            (iter([1.0]), "Expected a sequence of `float` or an array, got `list_iterator`", None),
            (1.0, "got `float`", None),
            (None, "got `NoneType`", None),
        ],
        ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
    )
    def test_what_is_no_price_is_refused_here(
        self, values: Any, message: str, index: int | None
    ) -> None:
        model = ModelService()
        with pytest.raises(fds.InvalidBatchError, match=message) as info:
            sync_call(model, "add_batch", "A", values)
        assert info.value.index == index
        assert model.requests == ["GET /symbols"]

    @pytest.mark.parametrize("symbol", ["", "x" * 129, "a\nb", "\ud800", 3])
    def test_what_is_no_symbol_is_refused_here(self, call: Call, symbol: Any) -> None:
        for name, arguments in [
            ("add_batch", ([1.0],)),
            ("stats", (3,)),
            ("values", (3,)),
            ("verify", (3,)),
            ("delete", ()),
            ("all_stats", ()),
        ]:
            with pytest.raises(fds.InvalidSymbolError):
                call(ModelService(), name, symbol, *arguments)
