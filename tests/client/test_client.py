"""``Client`` and ``AsyncClient``: a series arrives whole, in order and once, or an error says why.

Both run the same plans, so every call goes through both. Failures come from a model below httpx,
one for each way a request can end, and in any order by Hypothesis; what a wire shows comes from the
real service, which is also killed (``kill -9``) in the middle of a long series.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

import financial_data_service as fds
from financial_data_service import AsyncClient, Client
from financial_data_service.client import Prices, Receipt, Retries, Table
from financial_data_service.client.retries import Tries, is_untouched, retry_after
from financial_data_service.client.steps import Lost, Reply, path_of
from financial_data_service.settings import Settings
from financial_data_service.wire import API_KEY
from support.client_model import BATCH_MAX, DOUBTFUL, UNTOUCHED, ModelService
from support.service_process import LIGHT, Service, running, started

QUICK = Retries(count=6, seconds=20, pause_seconds=0.0005)
# A service takes seconds to start on a busy machine; the test need not add waits of its own.
PATIENT = Retries(count=10_000, seconds=60, pause_seconds_max=0.2)

Call = Callable[..., Any]


def sync_call(model: ModelService, name: str, *arguments: Any, **options: Any) -> Any:
    with Client("http://model", retries=QUICK, transport=model.transport) as client:
        client.symbols()  # It has answered once.
        return getattr(client, name)(*arguments, **options)


def async_call(model: ModelService, name: str, *arguments: Any, **options: Any) -> Any:
    async def call() -> Any:
        async with AsyncClient("http://model", retries=QUICK, transport=model.transport) as client:
            await client.symbols()
            return await getattr(client, name)(*arguments, **options)

    return asyncio.run(call())


@pytest.fixture(params=[sync_call, async_call], ids=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Call:
    called: Call = request.param
    return called


def series(count: int) -> list[float]:
    return [100 + index / 7 for index in range(count)]


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


SYMBOLS = {"symbols": [], "max_symbols": 1, "largest_window": 10, "batch_max": 1}


class TestRetries:
    """When to ask again."""

    def answers(self, *steps: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[int]]:
        rest, count = list(steps), [0]

        def answer(_: httpx.Request) -> httpx.Response:
            count[0] += 1
            step = rest.pop(0) if len(rest) > 1 else rest[0]
            if isinstance(step, Exception):
                raise step
            return step

        return httpx.MockTransport(answer), count

    def test_a_question_is_repeated_until_it_is_answered(self) -> None:
        transport, count = self.answers(
            httpx.Response(503, json={"detail": "draining"}),
            httpx.ReadError("reset"),
            httpx.ConnectError("refused"),
            httpx.ReadTimeout("slow"),
            httpx.Response(502, html="<h1>"),
            httpx.Response(429, json={"detail": "busy"}, headers={"retry-after": "0"}),
            httpx.Response(200, json=SYMBOLS),
        )
        with Client("http://model", retries=QUICK, transport=transport) as client:
            assert client.symbols() == ()
        assert count == [7]

    @pytest.mark.parametrize(
        ("step", "message"),
        [
            (httpx.Response(503, json={"detail": "draining"}), "not available now: draining"),
            (httpx.Response(503), "not available now: Service Unavailable"),
            (httpx.ReadTimeout("slow"), "http://model did not answer within the time allowed."),
            (httpx.ReadError("reset"), r"http://model broke the connection off .* \(reset\)"),
        ],
    )
    def test_patience_ends(self, step: httpx.Response | Exception, message: str) -> None:
        transport, count = self.answers(httpx.Response(200, json=SYMBOLS), step)
        retries = Retries(count=3, pause_seconds=0.0005)
        with Client("http://model", retries=retries, transport=transport) as client:
            client.symbols()
            with pytest.raises(fds.ServiceUnavailableError, match=message) as info:
                client.symbols()
        assert "https" not in str(info.value)
        assert count == [5]

    @pytest.mark.parametrize("retries", [0, Retries(seconds=0), Retries(count=0)])
    def test_no_patience(self, retries: int | Retries) -> None:
        transport, count = self.answers(httpx.ReadError("reset"))
        with (
            Client("http://model", retries=retries, transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError),
        ):
            client.symbols()
        assert count == [1]

    def test_a_wait_that_is_too_long_is_not_begun(self) -> None:
        busy = httpx.Response(429, json={"detail": "busy"}, headers={"retry-after": "3600"})
        transport, count = self.answers(busy)
        with (
            Client("http://model", transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError, match="busy") as info,
        ):
            client.symbols()
        assert count == [1]
        assert info.value.status == 429

    def test_a_wrong_address_shows_at_once(self) -> None:
        transport, count = self.answers(httpx.ConnectError("refused"))
        with (
            Client("http://model", transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError, match="Cannot reach http://model"),
        ):
            client.symbols()
        assert count == [1]

    @pytest.mark.parametrize(
        "step",
        [
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            httpx.ReadError("reset"),
        ],
    )
    def test_https_taken_for_http_shows_soon(self, step: httpx.HTTPError) -> None:
        transport, count = self.answers(step)
        expected = r"^http://model broke the connection off .* Perhaps it is https://model\.$"
        with (
            Client("http://model", transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError, match=expected),
        ):
            client.add_batch("A", [1.0])
        assert count == [2]

    def test_who_speaks_tls_is_not_taken_for_another(self) -> None:
        transport, count = self.answers(httpx.ReadError("reset"))
        retries = Retries(count=3, pause_seconds=0.0005)
        with (
            Client("https://model", retries=retries, transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError, match=r"\(reset\)\.$"),
        ):
            client.symbols()
        assert count == [4]

    @pytest.mark.parametrize("between", [httpx.ConnectError, httpx.ReadTimeout])
    def test_a_service_killed_under_the_first_request_is_waited_for(
        self, between: type[httpx.TransportError]
    ) -> None:
        transport, count = self.answers(
            httpx.ReadError("reset"),
            between("it is starting"),
            between("it is starting"),
            httpx.ReadError("reset"),  # Killed once more.
            httpx.Response(200, json=SYMBOLS),
        )
        with Client("http://model", retries=QUICK, transport=transport) as client:
            assert client.symbols() == ()
        assert count == [5]

    def test_a_certificate_nobody_vouches_for_is_final(self) -> None:
        failure = httpx.ConnectError("certificate verify failed")
        failure.__cause__ = ssl.SSLCertVerificationError()
        transport, count = self.answers(httpx.Response(200, json=SYMBOLS), failure)
        with Client("https://model", retries=QUICK, transport=transport) as client:
            client.symbols()
            with pytest.raises(fds.ServiceUnavailableError, match="certificate verify failed"):
                client.symbols()
        assert count == [2]

    def test_a_request_that_http_cannot_say_is_final(self) -> None:
        failure = httpx.LocalProtocolError("Illegal header value")
        transport, count = self.answers(httpx.Response(200, json=SYMBOLS), failure)
        with Client("http://model", retries=QUICK, transport=transport) as client:
            client.symbols()
            with pytest.raises(fds.ServiceUnavailableError, match="no way to say"):
                client.symbols()
            with pytest.raises(fds.ServiceUnavailableError) as info:
                client.delete("A")  # It was not sent: there is no doubt.
            assert not isinstance(info.value, fds.UnconfirmedError)
        assert count == [3]

    def test_a_deletion_in_doubt_is_not_repeated(self) -> None:
        transport, count = self.answers(httpx.ReadError("reset"))
        with (
            Client("http://model", retries=QUICK, transport=transport) as client,
            pytest.raises(fds.UnconfirmedError, match="may have been carried out or not"),
        ):
            client.delete("A")
        assert count == [1]

    def test_waits_double_up_to_a_limit_with_a_random_part(self) -> None:
        retries = Retries(pause_seconds=0.1, pause_seconds_max=5)
        for repetition, longest in enumerate([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]):
            pauses = {retries.pause(repetition) for _ in range(50)}
            assert longest / 2 <= min(pauses) < max(pauses) <= longest
        assert retries.pause(10**6) <= 5

    def test_the_service_s_own_wait_is_the_least(self) -> None:
        tries = Tries(Retries(count=2, seconds=60))
        assert tries.next_pause(at_least=7) == 7
        assert (tries.next_pause() or 9) < 1
        assert tries.next_pause() is None

    @pytest.mark.parametrize(
        ("text", "low", "high"),
        [
            ("3", 3, 3),
            ("0", 0, 0),
            ("", 0, 0),
            ("soon", 0, 0),
            ("-1", 0, 0),
            ("³", 0, 0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
            ("Wed, 21 Oct 9999 07:28:00 GMT", 1e9, 1e12),
        ],
    )
    def test_retry_after(self, text: str, low: float, high: float) -> None:
        assert low <= retry_after({"retry-after": text}) <= high

    def test_retry_after_a_date(self) -> None:
        assert 0 <= retry_after({"retry-after": formatdate(usegmt=True)}) <= 1
        soon = formatdate(time.time() + 60, usegmt=True)
        assert 50 < retry_after({"retry-after": soon}) <= 60

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [
            (Lost("", is_sent=False), True),
            (Lost("", is_sent=True), False),
            (Reply(429), True),
            (Reply(408), True),
            (Reply(503, content=b'{"detail":"draining"}'), True),
            (Reply(503, content=b"<html>"), False),
            (Reply(502), False),
            (Reply(504), False),
            (Reply(500), False),
        ],
    )
    def test_what_surely_changed_nothing(self, outcome: Reply | Lost, expected: bool) -> None:
        assert is_untouched(outcome) == expected


class TestErrors:
    """Errors are the service's reasons, as the classes of this package."""

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (401, {"detail": "Expected an API key"}, fds.UnauthorizedError),
            (404, {"detail": "Symbol A not found"}, fds.SymbolNotFoundError),
            (422, {"detail": "Window size exponent (k=9) must be"}, fds.WindowSizeError),
            (400, {"detail": "Maximum number of symbols (10) reached"}, fds.SymbolLimitError),
            (409, {"detail": "they differ", "sequence": 7}, fds.SequenceConflictError),
            (507, {"detail": "no room"}, fds.InsufficientStorageError),
            (503, {"detail": "gone by"}, fds.ServiceUnavailableError),
            (413, {"detail": "Body too large"}, fds.ServiceError),
        ],
    )
    def test_each_status_is_its_own_error(
        self, status: int, body: dict[str, Any], kind: type[Exception]
    ) -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
        with (
            Client("http://u:secret@model/fds/", retries=0, transport=transport) as client,
            pytest.raises(kind) as info,
        ):
            client.stats("A", 3)
        error = info.value
        assert isinstance(error, fds.ServiceError)
        assert body["detail"] in error.detail
        assert error.status == status
        assert f"({status} from GET http://model/fds/stats/?symbol=A&k=3)" in str(error)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))

    def test_places_of_a_422(self) -> None:
        item = {"type": "invalid_batch", "loc": ["body", "values", 3], "msg": "too large"}
        reply = httpx.Response(422, json={"detail": [item]})
        transport = httpx.MockTransport(
            lambda request: (
                reply
                if request.method == "POST"
                else httpx.Response(200, json=SYMBOLS | {"batch_max": 10})
            )
        )
        with (
            Client("http://model", transport=transport) as client,
            pytest.raises(fds.InvalidBatchError, match=r"values\[3\]: too large") as info,
        ):
            client.add_batch("A", [1.0], from_sequence=0)
        assert info.value.index == 3

    @pytest.mark.parametrize(
        "reply",
        [
            httpx.Response(200, text="hello"),
            httpx.Response(200, json={}),
            httpx.Response(200, content=b"\xff\xfe"),
            httpx.Response(404, text=""),
            httpx.Response(404, json={"detail": "Not Found"}),
            httpx.Response(302, headers={"location": "/login"}),
            httpx.Response(500, text="oops"),
        ],
        ids=repr,
    )
    def test_another_service(self, reply: httpx.Response) -> None:
        with Client("http://model", transport=httpx.MockTransport(lambda _: reply)) as client:
            for ask in (
                client.symbols,
                lambda: client.stats("A", 1),
                lambda: client.values("A", 1),
            ):
                with pytest.raises(fds.ServiceError, match="not one of a financial-data-service"):
                    ask()

    @pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://a", "http://", "", "::"])
    def test_a_bad_url(self, url: str) -> None:
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match=r"Expected a URL such as http://127.0.0.1:8000"):
                kind(url)

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url) as client:
            sentence = rf"^Cannot reach {url} \(.*refused\). Is the service running\?"
            with pytest.raises(fds.ServiceUnavailableError, match=sentence):
                client.symbols()
            assert not client.alive()
            assert not client.ready()
            with pytest.raises(fds.ServiceUnavailableError, match=r"not ready within 0\.3 seconds"):
                client.wait_until_ready(0.3)

    @pytest.mark.parametrize("options", [{}, {"k": 1, "last": 2}])
    def test_one_window_is_asked_for_one_way(self, call: Call, options: dict[str, int]) -> None:
        with pytest.raises(fds.WindowSizeError, match="Expected either k or last"):
            call(ModelService(), "stats", "A", **options)


class TestOptions:
    def seen(self, url: str = "http://model", **options: Any) -> httpx.Request:
        requests: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            return httpx.Response(200, json=SYMBOLS)

        with Client(url, transport=httpx.MockTransport(answer), **options) as client:
            client.symbols()
        return requests[0]

    def test_the_key_goes_with_every_request_and_is_not_shown(self) -> None:
        assert self.seen(api_key="k" * 16).headers["x-api-key"] == "k" * 16
        assert "x-api-key" not in self.seen().headers
        assert "kkk" not in repr(Client("http://u:secret@model", api_key="k" * 16))
        assert "secret" not in repr(AsyncClient("http://u:secret@model"))

    @pytest.mark.parametrize(
        ("key", "got"),
        [
            ("a-key-of-the-tests\n", "one that ends with a newline"),
            ("a-key-of-the-tests\r\n", "one that ends with a newline"),
            ("a-kéy-of-the-tests", "one with another character at index 3"),
            ("a key of the tests", "one with another character at index 1"),
            ("a-key", "5 of them"),
            ("", "0 of them"),
            ("k" * 257, "257 of them"),
        ],
    )
    def test_what_is_no_key_is_refused_and_not_quoted(self, key: str, got: str) -> None:
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match=f"^Expected an API key .*, got {got}") as info:
                kind("http://model", api_key=key)
            assert not key or key.strip() not in str(info.value)
        with pytest.raises(TypeError, match="Expected an API key as `str`, got `bytes`"):
            Client(api_key=b"k" * 16)  # type: ignore[arg-type]

    def test_a_key_is_what_the_service_takes_for_one(self) -> None:
        for key in ("k" * 15, "k" * 16, "~!" * 128, "k" * 257, "k" * 15 + " ", "k" * 15 + "é"):
            if API_KEY.fullmatch(key):
                Client(api_key=key).close()
                assert Settings(api_key=SecretStr(key)).api_key is not None
            else:
                with pytest.raises(ValueError, match="Expected an API key"):
                    Client(api_key=key)
                with pytest.raises(ValidationError):
                    Settings(api_key=SecretStr(key))

    @pytest.mark.parametrize(
        "options",
        [
            {"retries": -1},
            {"retries": "x"},
            {"retries": 0.5},
            {"timeout": "x"},
            {"timeout": 0},
            {"timeout": -1.0},
            {"timeout": float("nan")},
            {"timeout": float("inf")},
            {"timeout": None},
        ],
        ids=str,
    )
    def test_patience_that_is_none(self, options: dict[str, Any]) -> None:
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match=r"^Expected .*, got "):
                kind("http://model", **options)

    @pytest.mark.parametrize("name", ["seconds", "pause_seconds", "pause_seconds_max"])
    @pytest.mark.parametrize("value", [-1, float("nan"), "x"])
    def test_times_that_are_none(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"^Expected {name} of 0 or more, got {value!r}"):
            Retries(**{name: value})

    def test_a_client_that_was_closed(self) -> None:
        client = Client("http://model", transport=ModelService().transport)
        client.symbols()
        client.close()
        client.close()
        closed = r"^Client\('http://model'\) is closed: it cannot send requests$"
        for use in (client.symbols, client.alive, lambda: client.subscribe("stats.A.3")):
            with pytest.raises(ValueError, match=closed):
                use()

        async def main() -> None:
            awaited = AsyncClient("http://model", transport=ModelService().transport)
            await awaited.aclose()
            with pytest.raises(ValueError, match="is closed: it cannot send requests"):
                await awaited.symbols()
            with pytest.raises(ValueError, match="is closed: it cannot send requests"):
                async with awaited.ingest("A"):
                    pass
            with pytest.raises(ValueError, match="is closed: it cannot send requests"):
                awaited.subscribe("stats.A.3")

        asyncio.run(main())

    def test_the_prefix_of_a_proxy_and_its_password(self) -> None:
        request = self.seen("https://u:p@host:8443/prices/")
        assert str(request.url).endswith("host:8443/prices/symbols")
        assert request.headers["authorization"].startswith("Basic ")

    @pytest.mark.parametrize(
        ("symbol", "path"),
        [
            ("BTC/USDT", "/stats/BTC%2FUSDT"),
            ("..", "/stats/%2E%2E"),
            (".", "/stats/%2E"),
            ("BRK.A", "/stats/BRK.A"),
            ("ü%?#&+ ", "/stats/%C3%BC%25%3F%23%26%2B%20"),
        ],
    )
    def test_symbols_in_paths(self, symbol: str, path: str) -> None:
        assert path_of("stats", symbol) == path

    def test_the_client_loads_neither_the_engine_nor_numba(self) -> None:
        code = (
            "import sys\n"
            "from financial_data_service import Client, AsyncClient\n"
            "import financial_data_service.client.subscription\n"
            "names = sys.modules.keys()\n"
            "heavy = {'numba', 'pandas', 'polars', 'pyarrow', 'fastapi', 'pydantic'} & names\n"
            "assert not heavy, heavy\n"
            "assert not [name for name in names if '_service.engine' in name]\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class TestResults:
    def test_a_table_is_a_tuple_a_frame_and_a_picture(self) -> None:
        table = Table([Receipt("A", 1, 2), Receipt("BB", 10, 20)])
        assert table[1].added == 10
        assert table.to_pandas().to_dict("list") == {
            "symbol": ["A", "BB"],
            "added": [1, 10],
            "sequence": [2, 20],
        }
        assert pl.DataFrame(table.to_dict()).shape == (2, 3)
        assert (
            repr(table)
            == "symbol  added  sequence\n     A      1         2\n    BB     10        20"
        )
        assert repr(Table()) == "Table()"
        assert Table().to_pandas().empty
        assert repr(Table([Receipt("A", 1, 2)] * 99)).endswith("\n… 39 more")

    def test_without_pandas_it_says_what_is_wanted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        for result in (Table([Receipt("A", 1, 2)]), Prices(np.ones(1), "A", 0)):
            with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
                result.to_pandas()

    def test_prices_are_an_array(self) -> None:
        prices = Prices(np.array([3.0, 1.0, 2.0]), "A", 7)
        assert (prices.symbol, prices.first, prices.sequence) == ("A", 7, 10)
        assert prices.mean() == 2
        for derived in (prices * 2, prices[1:], np.diff(prices), prices > 1, np.cumsum(prices)):
            assert type(derived) is np.ndarray
        assert type(prices[0]) is np.float64
        assert not prices.flags.writeable
        frame = prices.to_pandas()
        assert frame.index.tolist() == [7, 8, 9]
        assert (frame.name, frame.index.name, frame[8]) == ("A", "sequence", 1.0)
        copy = pickle.loads(pickle.dumps(prices))
        assert (copy.symbol, copy.first, copy.tolist()) == ("A", 7, [3.0, 1.0, 2.0])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service"), (*LIGHT, "--max-symbols", "50")) as service:
        yield service


AWKWARD = [
    ".",
    "..",
    "a/b",
    "ü",
    "%2F",
    "a b",
    "?",
    "#",
    "BRK.A",
    "a+b&c=d",
    ";",
    "\\",
    "//x",
    "🚀",
]


class TestRealService:
    def test_there_and_back(self, service: Service) -> None:
        prices = np.cumsum(np.random.default_rng(1).normal(size=25_000)) + 1000
        with Client(service.url) as client:
            assert client.add_batch("BACK", prices) == Receipt("BACK", 25_000, 25_000)
            back = client.values("BACK", last=30_000)
            assert back.tobytes() == prices.tobytes()
            assert (back.first, back.sequence) == (0, 25_000)
            last = client.values("BACK", last=10)
            assert (last.first, last.sequence) == (24_990, 25_000)
            assert client.values("BACK").tolist() == prices[-1000:].tolist()
            stats = client.stats("BACK", 3)
            assert (stats.min, stats.max) == (prices[-1000:].min(), prices[-1000:].max())
            assert (stats.values, stats.k, stats.window) == (1000, 3, 1000)
            assert stats.is_full
            assert client.stats("BACK", last=77).window == 77
            assert client.verify("BACK", 3).equal
            assert [each.k for each in client.all_stats("BACK")] == [1, 2, 3, 4, 5]
            assert stats in client.all_stats(k=3)
            assert client.all_stats("BACK", k=3) == (stats,)
            assert {each.symbol for each in client.symbols()} >= {"BACK"}
            assert client.limits().batch_max == 10_000
            assert client.ready()
            assert client.alive()
            assert client.wait_until_ready().refused == ()
            client.delete("BACK")
            with pytest.raises(fds.SymbolNotFoundError):
                client.stats("BACK", 3)

    def test_values_of_a_small_window(self, tmp_path: Path) -> None:
        """Without `last` there is no more asked for than there can be."""
        flags = ("--port", "0", "--largest-window", "100")
        with running(tmp_path, flags) as service, Client(service.url) as client:
            client.add_batch("A", series(200))
            assert client.values("A").tolist() == series(200)[-100:]

    def test_awaited(self, service: Service) -> None:
        async def main() -> None:
            async with AsyncClient(service.url) as client:
                names = [f"ASYNC{index}" for index in range(4)]
                receipts = await asyncio.gather(
                    *(client.add_batch(name, series(12_000)) for name in names)
                )
                assert {receipt.sequence for receipt in receipts} == {12_000}
                assert (await client.stats(names[0], last=1)).last == series(12_000)[-1]
                assert len(await client.all_stats(names[1])) == 5
                assert (await client.values(names[2], 12_000)).tolist() == series(12_000)
                assert (await client.values(names[2])).first == 11_000
                assert (await client.verify(names[3], 2)).equal
                assert await client.ready()
                assert await client.alive()
                assert (await client.wait_until_ready()).is_ready
                assert (await client.limits()).max_symbols == 50
                await asyncio.gather(*map(client.delete, names))
                assert not {each.symbol for each in await client.symbols()} & set(names)

        asyncio.run(main())

    @pytest.mark.parametrize("symbol", AWKWARD)
    def test_awkward_symbols(self, service: Service, symbol: str) -> None:
        with Client(service.url) as client:
            assert client.add_batch(symbol, [1.5, 2.5]).symbol == symbol
            assert client.stats(symbol, 1).symbol == symbol
            assert client.all_stats(symbol)[0].symbol == symbol
            assert client.values(symbol, 2).tolist() == [1.5, 2.5]
            assert client.verify(symbol, 1).symbol == symbol
            client.delete(symbol)

    def test_refusals_are_the_classes_of_the_package(self, service: Service) -> None:
        with Client(service.url) as client:
            client.add_batch("R", [1.0, 2.0])
            with pytest.raises(fds.SequenceConflictError) as info:
                client.add_batch("R", [3.0], from_sequence=1)
            assert info.value.sequence == 2
            refused: list[tuple[type[Exception], Callable[[], object]]] = [
                (fds.WindowSizeError, lambda: client.stats("R", 9)),
                (fds.WindowSizeError, lambda: client.stats("R", last=0)),
                (fds.WindowSizeError, lambda: client.values("R", 0)),
                (fds.WindowSizeError, lambda: client.all_stats(k=0)),
                (fds.WindowSizeError, lambda: client.verify("R", 9)),
                (fds.SymbolNotFoundError, lambda: client.values("NOPE", 1)),
                (fds.SymbolNotFoundError, lambda: client.verify("NOPE", 1)),
                (fds.SymbolNotFoundError, lambda: client.all_stats("NOPE")),
                (fds.SymbolNotFoundError, lambda: client.delete("NOPE")),
            ]
            for kind, ask in refused:
                with pytest.raises(kind) as refusal:
                    ask()
                assert isinstance(refusal.value, fds.ServiceError)

    def test_threads_share_a_client(self, service: Service) -> None:
        failures: list[BaseException] = []
        with Client(service.url) as client:

            def add(name: str) -> None:
                try:
                    for _ in range(20):
                        client.add_batch(name, series(50))
                    assert client.stats(name, 3).sequence == 1000
                except BaseException as error:  # noqa: BLE001 - for the main thread
                    failures.append(error)

            threads = [threading.Thread(target=add, args=(f"T{index}",)) for index in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not failures


class OnRequest:
    """A hook of httpx which does something when the n-th batch is about to be sent."""

    def __init__(self, at: int, then: Callable[[], None]) -> None:
        self.count, self.at, self.then = 0, at, then

    def __call__(self, request: httpx.Request) -> None:
        if request.method == "POST":
            self.count += 1
            if self.count == self.at:
                self.then()


def test_a_service_killed_in_the_middle_of_a_series(tmp_path: Path) -> None:
    """``kill -9`` while batches are under way, and a new start: the series is there, exactly."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    flags = ["--port", port, "--largest-window", "1000000", "--batch-max", "500"]
    flags += ["--data-dir", str(tmp_path / "prices")]
    prices = np.cumsum(np.random.default_rng(7).normal(size=200_000)) + 1e4
    restarted = threading.Event()
    begun = threading.Event()

    def kill_and_restart(first: Service) -> None:
        assert begun.wait(60)
        first.process.kill()
        first.process.wait()
        with started(tmp_path, flags):
            restarted.set()
            assert ended.wait(60)

    ended = threading.Event()
    with started(tmp_path, flags) as first, Client(first.url, retries=PATIENT) as client:
        killer = threading.Thread(target=kill_and_restart, args=(first,))
        killer.start()
        client._http.event_hooks["request"] = [OnRequest(100, begun.set)]
        try:
            receipt = client.add_batch("K", prices)
            assert restarted.is_set()
            assert receipt.sequence == prices.size
            back = client.values("K", last=1_000_000)
            assert back.first == 0
            assert back.tobytes() == prices.tobytes()
        finally:
            begun.set()
            ended.set()
            killer.join()
