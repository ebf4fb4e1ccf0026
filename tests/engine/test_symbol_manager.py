"""SymbolManager: symbols are created, filled, queried, retried and deleted, and never mix.

A state machine compares it with a dictionary of lists. The rules of names and of ``from_sequence``
have tests of their own, edge by edge.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from financial_data_service.engine.symbol_manager import BatchReceipt, SymbolManager
from financial_data_service.errors import (
    FdsError,
    InvalidBatchError,
    InvalidSymbolError,
    SequenceConflictError,
    SymbolLimitError,
    SymbolNotFoundError,
    WindowSizeError,
)
from financial_data_service.symbols import SYMBOL_LENGTH_MAX, check_symbol
from support.oracle import Oracle

LARGEST, BATCH_MAX = 12, 5


def small_manager(max_symbols: int = 3) -> SymbolManager:
    """Rings of 24 prices: largest window 12, fanout 2."""
    return SymbolManager(max_symbols, LARGEST, BATCH_MAX, fanout=2)


def held(manager: SymbolManager, symbol: str) -> tuple[int, bytes, list[str]]:
    stats = manager[symbol]
    windows = [repr(stats.window(length)) for length in range(1, LARGEST + 1)]
    return stats.sequence, stats.prices(stats.oldest, stats.sequence).tobytes(), windows


# Symbols and their number


def test_symbol_manager_initialization() -> None:
    manager = SymbolManager()
    assert (manager.max_symbols, manager.largest_window, manager.batch_max) == (10, 10**8, 10_000)
    assert (len(manager), manager.symbols(), "AAPL" in manager) == (0, [], False)
    assert (manager.k_max, manager.get("AAPL")) == (8, None)


def test_a_symbol_comes_with_its_first_batch() -> None:
    manager = small_manager()
    assert manager.add_batch("AAPL", [1.0, 2.0]) == BatchReceipt("AAPL", 2, 2)
    assert manager.add_batch("AAPL", np.array([3.0])) == BatchReceipt("AAPL", 1, 3)
    assert (len(manager), manager.symbols(), "AAPL" in manager) == (1, ["AAPL"], True)
    assert manager.stats("AAPL", 1) == (10, 1.0, 3.0, 3.0, 2.0, 2 / 3, 3, 3)
    assert manager.all_stats("AAPL") == [manager.window("AAPL", 10)] == [manager.stats("AAPL", 1)]


def test_symbols_are_listed_in_order_of_their_coming() -> None:
    manager = small_manager()
    for symbol in ("b", "a", "c", "a"):
        manager.add_batch(symbol, [1.0])
    assert manager.symbols() == ["b", "a", "c"]
    manager.symbols().clear()
    assert len(manager) == 3


@pytest.mark.parametrize("limit", [1, 10, 11])
def test_the_limit_of_symbols(limit: int) -> None:
    manager = small_manager(limit)
    for number in range(limit):
        manager.add_batch(f"S{number}", [1.0])
    message = rf"^Maximum number of symbols \({limit}\) reached$"
    for _ in range(2):
        with pytest.raises(SymbolLimitError, match=message):
            manager.add_batch("one too many", [1.0])
    assert "one too many" not in manager
    manager.add_batch("S0", [2.0])
    manager.delete("S0")
    manager.add_batch("one too many", [1.0])
    with pytest.raises(SymbolLimitError):
        manager.add_batch("S0", [1.0])


def test_symbols_do_not_mix() -> None:
    manager = small_manager()
    draw = random.Random(1)
    oracles = {symbol: Oracle() for symbol in ("A", "B", "a")}
    for _ in range(200):
        symbol = draw.choice(list(oracles))
        batch = [draw.uniform(1, 2) for _ in range(draw.randint(1, BATCH_MAX))]
        manager.add_batch(symbol, batch)
        oracles[symbol].append(batch)
        for name, oracle in oracles.items():
            if name in manager:
                oracle.check(manager.window(name, 12), 12)


@pytest.mark.parametrize("call", ["stats", "window", "all_stats", "delete"])
def test_unknown_symbols_are_not_found(call: str) -> None:
    manager = small_manager()
    manager.add_batch("AAPL", [1.0])
    arguments = [1] if call in ("stats", "window") else []
    for symbol in ("MSFT", "aapl", "AAPL ", "", "x" * 1000, "\0"):
        with pytest.raises(SymbolNotFoundError) as caught:
            getattr(manager, call)(symbol, *arguments)
        assert str(caught.value) == f"Symbol {symbol} not found"
    assert manager.symbols() == ["AAPL"]


def test_windows_out_of_range_are_refused() -> None:
    manager = small_manager()
    manager.add_batch("AAPL", [1.0])
    for k in (0, 2, -1):
        with pytest.raises(WindowSizeError, match=rf"\(k={k}\) must be between 1 and 1$"):
            manager.stats("AAPL", k)
    for length in (0, 13):
        with pytest.raises(WindowSizeError, match=r"must be between 1 and 12$"):
            manager.window("AAPL", length)


# Names

NAMES = [
    "A",
    "AAPL",
    "BRK.A",
    "../x",
    "a/b",
    "/",
    ".",
    "%2F",
    "EUR USD",
    " ",
    "x" * SYMBOL_LENGTH_MAX,
    "日経225",
    "🚀" * SYMBOL_LENGTH_MAX,
    "👩\u200d🚀",
    "e\u0301",
    "\u00e9",
    "\u200e",
    "\u2028",
    "\ufeff",
    "\ufffd",
    "\u00a0",
    "'; DROP TABLE",
    "null",
    "nan",
    "0",
]
UNFIT_NAMES: list[tuple[Any, str]] = [
    ("", "got 0 - at `symbol`"),
    ("x" * 129, "got 129 - at `symbol`"),
    ("x" * 10**6, "got 1000000 - at `symbol`"),
    ("\0", "got U+0000 - at `symbol[0]`"),
    ("AAPL\n", "got U+000A - at `symbol[4]`"),
    ("A\tB", "got U+0009 - at `symbol[1]`"),
    ("\x1b[31m", "got U+001B - at `symbol[0]`"),
    ("AA\x1f", "got U+001F - at `symbol[2]`"),
    ("A\x7f", "got U+007F - at `symbol[1]`"),
    ("\x80", "got U+0080 - at `symbol[0]`"),
    ("ab\x9f", "got U+009F - at `symbol[2]`"),
    ("\ud800", "got U+D800 - at `symbol[0]`"),
    ("a\udfff", "got U+DFFF - at `symbol[1]`"),
    ("\ud83d\ude80", "got U+D83D - at `symbol[0]`"),
    (None, "Expected `str`, got `NoneType` - at `symbol`"),
    (5, "Expected `str`, got `int` - at `symbol`"),
    (b"AAPL", "Expected `str`, got `bytes` - at `symbol`"),
]


@pytest.mark.parametrize("symbol", NAMES, ids=ascii)
def test_names(symbol: str) -> None:
    check_symbol(symbol)
    manager = small_manager()
    assert manager.add_batch(symbol, [1.0]).symbol == symbol
    assert manager.symbols() == [symbol]
    assert manager.stats(symbol, 1).last == 1.0
    manager.delete(symbol)
    assert len(manager) == 0


@pytest.mark.parametrize(("symbol", "message"), UNFIT_NAMES, ids=lambda value: ascii(value)[:40])
def test_unfit_names(symbol: Any, message: str) -> None:
    manager = small_manager()
    for check in (check_symbol, lambda name: manager.add_batch(name, [1.0])):
        with pytest.raises(InvalidSymbolError) as caught:
            check(symbol)
        assert message in str(caught.value)
    assert len(manager) == 0


def test_names_that_look_alike_are_different_symbols() -> None:
    manager = small_manager(10)
    for number, symbol in enumerate(("\u00e9", "e\u0301", "A", "a", "\u0410", "A "), start=1):
        assert manager.add_batch(symbol, [1.0]) == BatchReceipt(symbol, 1, 1)
        assert len(manager) == number


# from_sequence: batches that can be sent again


@pytest.fixture
def ten() -> SymbolManager:
    """A symbol that holds 0.5, 1.5, … 9.5."""
    manager = small_manager()
    for begin in (0.5, 5.5):
        manager.add_batch("S", [begin + i for i in range(5)], int(begin))
    assert manager["S"].sequence == 10
    return manager


def prices(begin: int, end: int) -> list[float]:
    return [number + 0.5 for number in range(begin, end)]


def stored_or_gone(manager: SymbolManager, batch: list[float], begin: int) -> bool:
    """Whether a batch is known to be stored, or said to be too old to know."""
    try:
        return manager.add_batch("S", batch, begin).added == 0
    except SequenceConflictError as conflict:
        return "no longer held" in str(conflict)


@pytest.mark.parametrize(
    ("begin", "end", "added"),
    [
        (10, 12, 2),  # the next batch
        (5, 10, 0),  # the last one again
        (0, 5, 0),  # the first one again
        (9, 10, 0),
        (3, 7, 0),  # from the middle
        (8, 12, 2),  # overlaps: only the rest is added
        (9, 14, 4),
        (6, 11, 1),
    ],
)
def test_batches_that_fit(ten: SymbolManager, begin: int, end: int, added: int) -> None:
    receipt = ten.add_batch("S", prices(begin, end), begin)
    assert receipt == BatchReceipt("S", added, 10 + added)
    assert ten["S"].prices(0, 10 + added).tolist() == prices(0, 10 + added)
    again = ten.add_batch("S", prices(begin, end), begin)
    assert again == BatchReceipt("S", 0, 10 + added)


@pytest.mark.parametrize(
    ("batch", "from_sequence", "message"),
    [
        ([10.5], 11, "Expected from_sequence of at most 10 for symbol S, got 11"),
        ([0.5], 2**62, "Expected from_sequence of at most 10"),
        ([0.0], 0, "Expected 0.5 as stored for symbol S at sequence 0, got 0.0 - at `values[0]`"),
        ([8.5, 9.0, 10.5], 8, "Expected 9.5 as stored for symbol S at sequence 9, got 9.0"),
        ([5.5, 6.5, 7.5, 8.0, 9.0], 5, "at sequence 8, got 8.0 - at `values[3]`"),
        ([math.nextafter(9.5, 0)], 9, "got 9.499999999999998 - at `values[0]`"),
        ([-9.5], 9, "Expected 9.5"),
        ([0.5], -1, "Expected from_sequence of at least 0"),
    ],
)
def test_batches_that_conflict(
    ten: SymbolManager, batch: list[float], from_sequence: int, message: str
) -> None:
    before = held(ten, "S")
    with pytest.raises(SequenceConflictError) as caught:
        ten.add_batch("S", batch, from_sequence)
    assert message in str(caught.value)
    assert caught.value.sequence == 10
    assert held(ten, "S") == before


def test_zeros_of_other_sign_conflict() -> None:
    manager = small_manager()
    manager.add_batch("S", [0.0, -0.0])
    assert manager.add_batch("S", [0.0, -0.0], 0).added == 0
    with pytest.raises(
        SequenceConflictError, match=r"Expected -0\.0 .* got 0\.0 - at `values\[1\]"
    ):
        manager.add_batch("S", [0.0, 0.0], 0)


@pytest.mark.parametrize("position", [0, 2, 3, 4])
def test_an_unfit_price_is_named_by_its_place_in_the_whole_batch(
    ten: SymbolManager, position: int
) -> None:
    """Before what is stored is compared, and also where it lies behind that."""
    before = held(ten, "S")
    batch = prices(7, 12)
    batch[position] = math.nan
    with pytest.raises(InvalidBatchError, match=rf"values\[{position}\]") as caught:
        ten.add_batch("S", batch, 7)
    assert caught.value.index == position
    assert held(ten, "S") == before


def test_the_first_batch_starts_at_zero() -> None:
    manager = small_manager()
    for from_sequence in (1, 5, 2**62):
        with pytest.raises(SequenceConflictError, match="at most 0 for symbol S") as caught:
            manager.add_batch("S", [1.0], from_sequence)
        assert caught.value.sequence == 0
    assert "S" not in manager
    assert manager.add_batch("S", [1.0], 0) == BatchReceipt("S", 1, 1)


def test_retries_at_every_place_after_the_ring_has_wrapped() -> None:
    """Comparable as far back as the largest window; beyond that, equal or refused, never wrong."""
    manager = small_manager()
    for begin in range(0, 65, 5):
        manager.add_batch("S", prices(begin, begin + 5), begin)
    before = held(manager, "S")
    for begin in range(60):
        if begin >= 65 - LARGEST:
            assert manager.add_batch("S", prices(begin, begin + 5), begin).added == 0
            continue
        assert stored_or_gone(manager, prices(begin, begin + 5), begin)
        with pytest.raises(SequenceConflictError):
            manager.add_batch("S", [-1.0], begin)
    assert held(manager, "S") == before


def test_a_refused_batch_is_never_taken_for_stored() -> None:
    """Half of it has been written into the ring, over prices that are no longer held."""
    manager = small_manager()
    for begin in range(0, 65, 5):
        manager.add_batch("S", prices(begin, begin + 5), begin)
    for _ in range(2):
        with pytest.raises(InvalidBatchError):
            manager.add_batch("S", [-1.0, -2.0, -3.0, -4.0, math.nan])
    for begin in range(65):
        with pytest.raises(SequenceConflictError):
            manager.add_batch("S", [-1.0], begin)
        with pytest.raises(SequenceConflictError):
            manager.add_batch("S", [-2.0, -3.0], begin)
        assert stored_or_gone(manager, prices(begin, min(65, begin + 3)), begin)


# Deleting


def test_a_deleted_symbol_starts_anew(ten: SymbolManager) -> None:
    ten.delete("S")
    assert "S" not in ten
    with pytest.raises(SymbolNotFoundError):
        ten.stats("S", 1)
    with pytest.raises(SymbolNotFoundError):
        ten.delete("S")
    assert ten.add_batch("S", [7.0], 0) == BatchReceipt("S", 1, 1)
    assert ten.stats("S", 1) == (10, 7.0, 7.0, 7.0, 7.0, 0.0, 1, 1)


def test_who_still_holds_a_deleted_symbol_reads_nothing(ten: SymbolManager) -> None:
    stats = ten["S"]
    ten.delete("S")
    assert stats.sequence == 0
    assert math.isnan(stats.stats(1).avg)


def test_close_forgets_everything(ten: SymbolManager) -> None:
    ten.close()
    ten.close()
    assert len(ten) == 0


# State machine

anything = st.one_of(st.floats(-1e150, 1e150, allow_nan=False), st.sampled_from([0.0, -0.0, 0.1]))
symbols = st.sampled_from(["A", "B", "C", "D"])
batches = st.lists(anything, min_size=1, max_size=BATCH_MAX)


class SymbolManagerMachine(RuleBasedStateMachine):
    """Against a dictionary of lists, which keeps every price there ever was."""

    @initialize()
    def create(self) -> None:
        self.manager = small_manager()
        self.model: dict[str, Oracle] = {}

    def added(self, symbol: str, values: list[float], receipt: BatchReceipt) -> None:
        self.model.setdefault(symbol, Oracle()).append(values)
        assert receipt == BatchReceipt(symbol, len(values), len(self.model[symbol]))

    @rule(symbol=symbols, values=batches)
    def add(self, symbol: str, values: list[float]) -> None:
        if symbol not in self.model and len(self.model) == 3:
            with pytest.raises(SymbolLimitError):
                self.manager.add_batch(symbol, values)
        else:
            self.added(symbol, values, self.manager.add_batch(symbol, values))

    @rule(symbol=symbols, values=batches, data=st.data())
    def add_unfit(self, symbol: str, values: list[float], data: st.DataObject) -> None:
        values[data.draw(st.integers(0, len(values) - 1))] = math.inf
        with pytest.raises(InvalidBatchError):
            self.manager.add_batch(symbol, values, data.draw(st.none() | st.integers(0, 40)))

    @rule(symbol=st.sampled_from(["", "\n", "x" * 129]), values=batches)
    def add_to_unfit_symbol(self, symbol: str, values: list[float]) -> None:
        with pytest.raises(InvalidSymbolError):
            self.manager.add_batch(symbol, values)

    @rule(symbol=symbols, back=st.integers(0, 40), fresh=batches, data=st.data())
    def add_again(self, symbol: str, back: int, fresh: list[float], data: st.DataObject) -> None:
        """A batch that starts some prices back, and goes on with new ones."""
        if symbol not in self.model:
            return
        model = self.model[symbol]
        sequence = len(model)
        begin = max(0, sequence - back)
        length = data.draw(st.integers(1, BATCH_MAX))
        values = [*model.prices[begin : begin + length], *fresh][:length]
        rest = values[min(length, sequence - begin) :]
        try:
            receipt = self.manager.add_batch(symbol, values, begin)
        except SequenceConflictError:
            if begin >= sequence - LARGEST:
                raise
            return  # so old that it may be gone
        self.added(symbol, rest, receipt)

    @rule(symbol=symbols, back=st.integers(1, 40), data=st.data())
    def add_other_prices(self, symbol: str, back: int, data: st.DataObject) -> None:
        if symbol not in self.model:
            return
        model = self.model[symbol]
        begin = max(0, len(model) - back)
        values = model.prices[begin : begin + BATCH_MAX]
        index = data.draw(st.integers(0, len(values) - 1))
        values[index] += 1.0 if abs(values[index]) < 1e9 else -values[index]
        with pytest.raises(SequenceConflictError) as caught:
            self.manager.add_batch(symbol, values, begin)
        assert caught.value.sequence == len(model)

    @rule(symbol=symbols, values=batches, gap=st.integers(1, 5))
    def add_behind_a_gap(self, symbol: str, values: list[float], gap: int) -> None:
        sequence = len(self.model[symbol]) if symbol in self.model else 0
        with pytest.raises(SequenceConflictError) as caught:
            self.manager.add_batch(symbol, values, sequence + gap)
        assert caught.value.sequence == sequence

    @rule(symbol=symbols)
    def delete(self, symbol: str) -> None:
        if symbol in self.model:
            self.manager.delete(symbol)
            del self.model[symbol]
        else:
            with pytest.raises(SymbolNotFoundError):
                self.manager.delete(symbol)

    @invariant()
    def same_as_the_model(self) -> None:
        assert self.manager.symbols() == list(self.model)
        assert len(self.manager) == len(self.model)
        for symbol, oracle in self.model.items():
            assert symbol in self.manager
            for length in (1, 5, 10, 12):
                oracle.check(self.manager.window(symbol, length), length)
            assert self.manager.all_stats(symbol) == [self.manager.stats(symbol, 1)]
            assert self.manager[symbol].values(12).tolist() == oracle.prices[-12:]
        for symbol in {"A", "B", "C", "D"} - self.model.keys():
            assert symbol not in self.manager
            with pytest.raises(FdsError):
                self.manager.stats(symbol, 1)

    def teardown(self) -> None:
        if hasattr(self, "manager"):
            self.manager.close()


TestSymbolManagerMachine = SymbolManagerMachine.TestCase


@pytest.mark.parametrize("batch_max", [1, 7, 100, 10_000, 20_000])
@pytest.mark.parametrize("largest_window", [10, 11, 1000, 12_345])
def test_the_last_batch_may_be_sent_again_whatever_the_sizes(
    largest_window: int, batch_max: int
) -> None:
    """A reply that was lost is asked for again at once; then the batch must still be comparable."""
    manager = SymbolManager(largest_window=largest_window, batch_max=batch_max)
    for batch in range(5):
        prices = np.arange(batch_max) + 0.5 * batch
        sequence = batch_max * (batch + 1)
        for added in (batch_max, 0):
            receipt = manager.add_batch("S", prices, batch_max * batch)
            assert receipt == ("S", added, sequence)
