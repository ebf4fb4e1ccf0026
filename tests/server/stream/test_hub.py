"""The hub without sockets and without a clock: which updates each client gets, and when.

A model without feeds and topics gets the same subscriptions, appends, deletions and times. Only the
test moves the clock, and only the test lets the hub look for changes.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.stream import hub as hub_module
from financial_data_service.server.stream.feeds import Subscriber
from financial_data_service.server.stream.hub import Hub
from financial_data_service.server.stream.outbox import TEXTS_MAX, Close, Outbox
from financial_data_service.server.stream.session import Kind, update_message
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.windows import WindowStats
from financial_data_service.wire import Stream, SubscribedStream, parse_subscription

WINDOW = 1000


class Client:
    """A client of a hub, which takes its texts when the test says so."""

    def __init__(self, place: Place, present: Callable[..., str]) -> None:
        self._place = place
        self.outbox = Outbox()
        self.subscriber: Subscriber = place.hub.join(self.outbox, present)

    def subscribe(self, name: str) -> None:
        self._place.run(
            lambda: self._place.hub.subscribe(self.subscriber, parse_subscription(name, WINDOW))
        )

    def change_interval(self, name: str) -> None:
        subscription = parse_subscription(name, WINDOW)
        self._place.run(lambda: self._place.hub.change_interval(self.subscriber, subscription))

    def unsubscribe(self, name: str) -> None:
        subscription = parse_subscription(name, WINDOW)
        self._place.run(lambda: self._place.hub.unsubscribe(self.subscriber, subscription))

    def leave(self) -> None:
        self._place.run(lambda: self._place.hub.leave(self.subscriber))

    def take(self, texts_max: float = math.inf) -> list[Any]:
        """All that there is, or so much of it, as it came."""
        texts: list[Any] = self._place.run(lambda: self._take(texts_max))
        return texts

    def told(self) -> list[tuple[str, str, Any]]:
        """The same, in short: stream, event, sequence."""
        return [(each["stream"], each["event"], each.get("sequence")) for each in self.take()]

    def _take(self, texts_max: float) -> list[Any]:
        texts: list[Any] = []
        while len(texts) < texts_max:
            step = self.outbox.take()
            try:
                step.send(None)
            except StopIteration as end:
                if isinstance(end.value, Close):
                    return [*texts, end.value]
                texts.append(json.loads(end.value))
            else:
                step.close()  # It would wait.
                break
        return texts


class QuietHub(Hub):
    """A hub whose timer never goes off: it looks when the test says so."""

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(3600.0 + seconds, self._on_time)


class Place:
    """A hub, its symbols, a loop that never turns, and a clock."""

    def __init__(self, manager: SymbolManager | None = None) -> None:
        self.manager = SymbolManager(10, WINDOW) if manager is None else manager
        self.now = 1000.0
        self.hub = QuietHub(self.manager, clock=lambda: self.now)
        self._runner = asyncio.Runner()

    def run(self, step: Callable[[], Any]) -> Any:
        async def within() -> Any:
            return step()

        return self._runner.run(within())

    def client(self, present: Callable[..., str] = update_message) -> Client:
        return Client(self, present)

    def look(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.run(self.hub.look)

    def add(self, symbol: str, *prices: float) -> int:
        return int(self.run(lambda: self.manager.add_batch(symbol, list(prices)).sequence))

    def close(self) -> None:
        self._runner.close()
        self.manager.close()


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


# --- One client


def test_a_snapshot_and_then_changes(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0, 2.0)
    client.subscribe("stats.A.1")
    assert client.told() == [("stats.A.1", "snapshot", 2)]
    place.look(1.0)
    assert client.told() == []
    place.add("A", 3.0)
    place.look()
    (update,) = client.take()
    stats = place.manager.stats("A", 1)
    assert update == {
        "stream": "stats.A.1",
        "symbol": "A",
        "k": 1,
        "window": 10,
        **stats._asdict(),
        "event": "update",
    }


def test_an_interval_holds_back_and_the_newest_wins(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1@100ms")
    assert client.told() == [("stats.A.1", "snapshot", 1)]
    for _ in range(9):
        place.add("A", 1.0)
        place.look(0.01)
    assert client.told() == []
    place.look(0.0101)
    assert client.told() == [("stats.A.1", "update", 10)]
    place.look(0.2)
    assert client.told() == []
    place.add("A", 1.0)
    place.look()  # The interval is long over.
    assert client.told() == [("stats.A.1", "update", 11)]
    assert place.hub.dropped_updates == 0


def test_windows_subscribed_to_one_by_one_come_together(place: Place) -> None:
    """With the first update; none of them is told earlier than its interval allows."""
    client = place.client()
    place.add("A", 1.0)
    for moment, k in ((0.0, 1), (0.004, 2), (0.016, 3)):
        place.now += moment
        client.subscribe(f"stats.A.{k}@100ms")
        client.take()
    place.add("A", 1.0)
    place.look(0.0801)
    assert client.told() == [("stats.A.1", "update", 2)]
    place.add("A", 1.0)
    place.look(0.0999)
    assert client.told() == []
    for sequence in (3, 4):
        place.look(0.0002)
        assert client.told() == [(f"stats.A.{k}", "update", sequence) for k in (1, 2, 3)]
        place.add("A", 1.0)
        place.look(0.1)


def test_a_window_that_had_nothing_to_say_waits_with_the_others(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1@100ms")
    client.subscribe("stats.A.2@60000ms")
    client.take()
    place.add("A", 1.0)
    for _ in range(2):
        place.look(0.15)
        client.take()
    client.change_interval("stats.A.2@100ms")
    place.look()
    assert client.told() == [("stats.A.2", "update", 2)]
    place.add("A", 1.0)
    place.look(0.05)
    assert client.told() == []
    place.look(0.0501)
    assert client.told() == [(f"stats.A.{k}", "update", 3) for k in (1, 2)]


def test_snapshots_asked_for_again_and_again_hold_up_no_other_window(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1@100ms")
    client.take()
    told = []
    for _ in range(10):
        place.add("A", 1.0)
        place.look(0.051)
        client.subscribe("stats.A.2@100ms")
        told += [each for each in client.told() if each[0] == "stats.A.1"]
        client.unsubscribe("stats.A.2")
    assert len(told) == 5


@pytest.mark.parametrize(
    "names",
    [
        [f"stats.{symbol}.{k}@100ms" for symbol in "ABC" for k in (1, 2, 3)],
        [f"stats.*.{k}@100ms" for k in (1, 2, 3)],
        [*(f"stats.*.{k}@100ms" for k in (1, 2, 3)), "stats.A.2@250ms", "stats.B.1@100ms"],
    ],
    ids=["explicit", "wildcard", "both"],
)
@pytest.mark.parametrize("texts", [1, 4, 7])
def test_windows_of_a_symbol_are_as_of_one_price_for_who_takes_in_pieces(
    place: Place, names: list[str], texts: int
) -> None:
    """Fewer texts at a time than there are windows, while prices come; another client drives it."""
    told_at: dict[tuple[str, int], float] = {}

    def present(symbol: str, k: int, kind: Kind, answer: WindowStats | None) -> str:
        assert place.now - told_at.get((symbol, k), 0.0) > 0.0999
        told_at[symbol, k] = place.now
        return update_message(symbol, k, kind, answer)

    other, client = place.client(), place.client(present)
    other.subscribe("stats.A.1@0ms")
    for name in names:
        client.subscribe(name)
    told: list[Any] = []
    for step in range(600):
        for symbol in "ABC"[: 1 + step % 3]:
            place.add(symbol, 1.0)
        place.look(0.007 + step % 5 / 1000)
        other.take()
        told += client.take(texts)
    assert len(told) > 300
    # The updates of a symbol follow each other, all at the same sequence.
    rows = [list(row) for _, row in groupby(told, lambda each: (each["symbol"], each["sequence"]))]
    assert {len(row) for row in rows[:-1]} == {3}
    # The sooner a client takes, the more it is told: an interval is not lengthened by the others.
    assert texts == 1 or len(rows) > 3 * 5.4 / 0.12


def test_every_batch_without_a_look(place: Place) -> None:
    client = place.client()
    client.subscribe("stats.A.1@0ms")
    for _ in range(5):
        place.add("A", 1.0, 2.0)
    assert client.told() == [
        ("stats.A.1", "snapshot", 2),
        *(("stats.A.1", "update", sequence) for sequence in (4, 6, 8, 10)),
    ]
    place.look(1.0)
    assert client.told() == []


def test_who_does_not_take_gets_the_newest_and_the_rest_is_counted(place: Place) -> None:
    slow, quick = place.client(), place.client()
    place.add("A", 1.0)
    for client in (slow, quick):
        client.subscribe("stats.A.1@1ms")
        client.subscribe("stats.A.2@1ms")
        assert [event for _, event, _ in client.told()] == ["snapshot"] * 2
    for i in range(10):
        place.add("A", 1.0)
        place.look(0.01)
        assert [sequence for *_, sequence in quick.told()] == [i + 2] * 2
    assert place.hub.dropped_updates == 0
    assert [sequence for *_, sequence in slow.told()] == [11, 11]
    assert place.hub.dropped_updates == 2 * 9


def test_a_client_that_wants_every_batch_and_takes_none_fills_no_memory(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1@0ms")
    for _ in range(3 * TEXTS_MAX):
        place.add("A", 1.0)
    told = [sequence for *_, sequence in client.told()]
    assert len(told) <= TEXTS_MAX + 1
    assert told == sorted(set(told))
    assert told[-1] == 3 * TEXTS_MAX + 1
    # What was not told was counted, but for the note that there is something.
    assert place.hub.dropped_updates == 3 * TEXTS_MAX + 1 - len(told)
    place.add("A", 1.0)
    assert client.told() == [("stats.A.1", "update", 3 * TEXTS_MAX + 2)]


def test_what_is_dropped_with_its_client_is_counted(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1@1ms")
    for _ in range(5):
        place.add("A", 1.0)
        place.look(0.01)
    client.leave()
    assert place.hub.dropped_updates == 5


def test_a_symbol_that_does_not_exist_yet(place: Place) -> None:
    client = place.client()
    client.subscribe("stats.A.1")
    place.look(1.0)
    assert client.told() == []
    place.add("A", 1.0)
    assert client.told() == [("stats.A.1", "snapshot", 1)]


def test_deleted_and_created_again(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0, 2.0)
    client.subscribe("stats.A.1@0ms")
    client.subscribe("stats.A.2@60000ms")
    client.take()
    place.manager.delete("A")
    place.look()
    assert client.told() == [("stats.A.1", "deleted", None), ("stats.A.2", "deleted", None)]
    place.look(1.0)
    assert client.told() == []
    place.add("A", 1.0)
    assert client.told() == [("stats.A.1", "snapshot", 1), ("stats.A.2", "snapshot", 1)]


@pytest.mark.parametrize("prices", [1, 2, 3])
def test_deleted_and_created_again_between_two_looks(place: Place, prices: int) -> None:
    client = place.client()
    place.add("A", 1.0, 2.0)
    client.subscribe("stats.A.1")
    client.take()
    place.manager.delete("A")
    place.add("A", *[9.0] * prices)
    place.look()
    assert client.told() == [("stats.A.1", "deleted", None), ("stats.A.1", "snapshot", prices)]


def test_deleted_before_anything_was_told(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1")
    client.subscribe("stats.*.2")
    place.manager.delete("A")
    place.look()
    assert client.told() == []
    place.add("A", 1.0)
    place.look(1.0)
    assert sorted(client.told()) == [("stats.A.1", "snapshot", 1), ("stats.A.2", "snapshot", 1)]


# --- All symbols


def test_all_symbols_those_to_come_included(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.*.2")
    assert client.told() == [("stats.A.2", "snapshot", 1)]
    place.add("B.b", 1.0)
    assert client.told() == [("stats.B%2Eb.2", "snapshot", 1)]
    place.manager.delete("A")
    place.look()
    assert client.told() == [("stats.A.2", "deleted", None)]
    assert {symbol for symbol, _ in client.subscriber.feeds} == {"B.b"}
    place.add("A", 1.0)
    assert client.told() == [("stats.A.2", "snapshot", 1)]
    client.unsubscribe("stats.*.2")
    place.add("A", 1.0)
    place.look(1.0)
    assert client.told() == []
    assert not client.subscriber.feeds


def test_a_second_client_of_all_takes_nothing_from_the_first(place: Place) -> None:
    clients = [place.client() for _ in range(2)]
    clients[0].subscribe("stats.*.1")
    place.manager.listener = None  # another process's append
    place.add("A", 1.0)
    clients[1].subscribe("stats.*.1")
    for client in clients:
        assert client.told() == [("stats.A.1", "snapshot", 1)]


def test_one_and_all_are_told_once_at_the_shorter_interval(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.*.1@60000ms")
    assert len(client.told()) == 1
    client.subscribe("stats.A.1@50ms")
    assert client.told() == [("stats.A.1", "snapshot", 1)]  # It was asked for once more.
    place.add("A", 1.0)
    place.look(0.06)
    assert client.told() == [("stats.A.1", "update", 2)]
    client.unsubscribe("stats.A.1")
    place.add("A", 1.0)
    place.look(0.06)
    assert client.told() == []
    place.look(60.0)
    assert client.told() == [("stats.A.1", "update", 3)]


@pytest.mark.parametrize("interval", [0, 100])
@pytest.mark.parametrize("names", [["A", "*"], ["*", "A"]])
def test_one_and_all_are_told_one_snapshot_of_what_comes_later(
    place: Place, names: list[str], interval: int
) -> None:
    client = place.client()
    for name in names:
        client.subscribe(f"stats.{name}.1@{interval}ms")
    place.add("A", 1.0)
    assert client.told() == [("stats.A.1", "snapshot", 1)]
    place.look(1.0)
    assert client.told() == []
    place.add("A", 1.0)
    place.look()
    assert client.told() == [("stats.A.1", "update", 2)]


def test_all_after_one_that_was_told_begin_no_snapshot_anew(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1@60000ms")
    assert client.told() == [("stats.A.1", "snapshot", 1)]
    client.subscribe("stats.*.1@50ms")
    place.add("A", 1.0)
    place.look(0.06)
    assert client.told() == [("stats.A.1", "update", 2)]
    client.unsubscribe("stats.A.1")
    place.add("A", 1.0)
    place.look(0.06)
    assert client.told() == [("stats.A.1", "update", 3)]


def test_another_interval_counts_from_the_last_update(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1@60000ms")
    client.take()
    place.add("A", 1.0)
    place.look(1.0)
    assert client.told() == []
    client.change_interval("stats.A.1@500ms")
    place.look()
    assert client.told() == [("stats.A.1", "update", 2)]
    client.change_interval("stats.A.1@0ms")
    place.look()
    place.add("A", 1.0)
    assert client.told() == [("stats.A.1", "update", 3)]


# --- Cost


def test_a_window_is_computed_and_encoded_once_for_all(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def present(*arguments: Any) -> str:
        encoded.append(1)
        return update_message(*arguments)

    place.add("A", 1.0)
    clients = [place.client(present) for _ in range(50)]
    for client in clients:
        client.subscribe("stats.A.1@0ms")
        assert len(client.take()) == 1
    assert len(encoded) == 1
    computed: list[int] = []
    stats = place.manager["A"]
    compute = stats.windows_as_of

    def counted(lengths: Iterable[int]) -> list[WindowStats]:
        wanted = list(lengths)
        computed.extend(wanted)
        return compute(wanted)

    monkeypatch.setattr(stats, "windows_as_of", counted)
    place.add("A", 1.0)
    assert all(len(client.take()) == 1 for client in clients)
    assert (len(encoded), len(computed)) == (2, 1)


def test_nothing_runs_while_nobody_is_subscribed(place: Place) -> None:
    def is_running() -> bool:
        return place.manager.listener is not None or place.hub._timer is not None

    client = place.client()
    assert not is_running()
    assert place.hub.subscribers == 0
    for name in ("stats.A.1", "stats.*.1"):
        client.subscribe(name)
        assert is_running()
        assert place.hub.subscribers == 1
        client.unsubscribe(name)
        assert not is_running()
        assert place.hub.subscribers == 0
        client.subscribe(name)
        client.leave()
        client.leave()
        assert not is_running()
        client = place.client()
    assert not place.hub._watches
    assert not place.hub._wildcards


def test_coming_and_going_leaves_nothing_behind(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    for _ in range(1000):
        client.subscribe("stats.A.1@60000ms")
        client.take()
        client.unsubscribe("stats.A.1")
    assert len(place.hub._delivery._intervals) < 100
    assert not place.hub._watches


def test_the_end(place: Place) -> None:
    client = place.client()
    place.add("A", 1.0)
    client.subscribe("stats.A.1")
    place.run(place.hub.stop)
    assert client.take() == [Close(1001, "the server stops")]
    assert place.hub.is_full
    assert place.manager.listener is None


# --- Other processes


def test_what_another_process_does_is_seen_at_a_look(tmp_path: Any) -> None:
    geometry = Geometry(WINDOW)
    ours, theirs = (SymbolManager(store=DirectoryStore(tmp_path, geometry)) for _ in range(2))
    ours.open()
    theirs.open()
    place = Place(ours)
    client = place.client()
    client.subscribe("stats.A.1@0ms")
    client.subscribe("stats.*.2@0ms")
    assert client.told() == []
    theirs.add_batch("A", [1.0, 2.0])
    place.look(hub_module.ABSENT_SECONDS)
    assert sorted(client.told()) == [("stats.A.1", "snapshot", 2), ("stats.A.2", "snapshot", 2)]
    theirs.add_batch("A", [3.0])
    theirs.add_batch("A", [4.0])
    place.look()
    assert client.told() == [("stats.A.1", "update", 4), ("stats.A.2", "update", 4)]
    ours.add_batch("A", [5.0])
    theirs.delete("A")
    place.look()
    assert client.told()[-2:] == [("stats.A.1", "deleted", None), ("stats.A.2", "deleted", None)]
    theirs.add_batch("A", [6.0])
    place.look(hub_module.ABSENT_SECONDS)
    assert sorted(client.told()) == [("stats.A.1", "snapshot", 1), ("stats.A.2", "snapshot", 1)]
    place.close()
    theirs.close()


# --- A model of it all


NAMES = ["A", "B"]
KS = [1, 2]
INTERVALS = [0, 10, 100]
STREAMS = st.builds(
    SubscribedStream,
    st.builds(Stream, st.sampled_from([*NAMES, None]), st.sampled_from(KS)),
    st.sampled_from(INTERVALS),
)


class HubModel(RuleBasedStateMachine):
    """What a client is told, checked against what it could know.

    The model keeps for each client its subscriptions, and for each window the last it was told. It
    is told nothing it did not ask for, nothing twice, everything in order and as it was; and once
    all intervals are over it knows what there is to know.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = Place()
        self.clients = [self.place.client() for _ in range(2)]
        self.subscribed: list[dict[Stream, int]] = [{}, {}]
        self.knows: list[dict[tuple[str, int], int]] = [{}, {}]
        # Known from a stream that has been dropped, while another one covers the same window. The
        # client cannot know whether the other one has reported the window yet.
        self.doubtful: list[set[tuple[str, int]]] = [set(), set()]
        self.told_at: list[dict[tuple[str, int], float]] = [{}, {}]
        # All that was ever true: life of the symbol, k, sequence → statistics.
        self.prices: dict[str, list[float]] = {}
        self.true: dict[str, dict[tuple[int, int], Any]] = {name: {} for name in NAMES}
        self.count = 0

    def teardown(self) -> None:
        self.place.close()

    @rule(who=st.integers(0, 1), subscription=STREAMS)
    def subscribe(self, who: int, subscription: SubscribedStream) -> None:
        client, subscribed = self.clients[who], self.subscribed[who]
        self.take(who)
        if subscription.stream not in subscribed:
            client.subscribe(subscription.name)
            for symbol in self.place.manager.symbols():
                stream = subscription.stream
                if stream.symbol in (None, symbol):
                    # A snapshot, unless all symbols were watched and this one told already.
                    self.knows[who].pop((symbol, stream.k), None) if stream.symbol else None
        elif subscribed[subscription.stream] != subscription.interval_ms:
            client.change_interval(subscription.name)
        subscribed[subscription.stream] = subscription.interval_ms

    @precondition(lambda self: any(self.subscribed))
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from([i for i in (0, 1) if self.subscribed[i]]))
        stream = data.draw(st.sampled_from(sorted(self.subscribed[who], key=str)))
        self.take(who)  # What was put before the answer is sent before it.
        del self.subscribed[who][stream]
        self.clients[who].unsubscribe(SubscribedStream(stream, 0).name)
        for symbol, k in list(self.knows[who]):
            if not self.interval(who, symbol, k):
                del self.knows[who][symbol, k]
            elif stream.k == k and stream.symbol in (symbol, None):
                self.doubtful[who].add((symbol, k))
        assert len(self.clients[who].subscriber.feeds) <= len(NAMES) * len(KS)

    @rule(symbol=st.sampled_from(NAMES), count=st.integers(1, 3))
    def add(self, symbol: str, count: int) -> None:
        prices = [float(self.count + i) for i in range(count)]
        self.count += count
        self.place.add(symbol, *prices)
        held = self.prices.setdefault(symbol, [])
        held += prices
        for k in KS:
            self.true[symbol][k, len(held)] = np.array(held[-(10**k) :])

    @precondition(lambda self: self.prices)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        symbol = data.draw(st.sampled_from(sorted(self.prices)))
        # What was said and not taken is of a life that ends.
        for who in (0, 1):
            self.take(who)
        self.place.manager.delete(symbol)
        del self.prices[symbol]
        self.true[symbol].clear()
        self.place.look()
        for who in (0, 1):
            ended = {(each["symbol"], each["k"]) for each in self.deleted(who)}
            expected = {window for window in self.knows[who] if window[0] == symbol}
            assert expected - self.doubtful[who] <= ended <= expected
            self.doubtful[who] -= expected
            for window in expected:
                del self.knows[who][window]

    def deleted(self, who: int) -> list[Any]:
        told = self.clients[who].take()
        ends = []
        for each in told:
            if each["event"] == "deleted":
                ends.append(each | {"k": int(each["stream"].rpartition(".")[2])})
            else:
                self.check(who, each)
        return ends

    @rule(milliseconds=st.sampled_from([1, 10, 50, 100]))
    def pass_time(self, milliseconds: int) -> None:
        self.place.look(milliseconds / 1000)

    @rule(who=st.integers(0, 1))
    def take(self, who: int) -> None:
        for each in self.clients[who].take():
            assert each["event"] != "deleted"
            self.check(who, each)

    @rule(who=st.integers(0, 1))
    def know_all_in_the_end(self, who: int) -> None:
        self.place.look(0.2)
        self.take(who)
        expected = {
            (symbol, k): len(held)
            for symbol, held in self.prices.items()
            for k in KS
            if self.interval(who, symbol, k)
        }
        assert self.knows[who] == expected

    def interval(self, who: int, symbol: str, k: int) -> list[int]:
        subscribed = self.subscribed[who]
        streams = Stream(symbol, k), Stream(None, k)
        return [subscribed[stream] for stream in streams if stream in subscribed]

    def check(self, who: int, each: Any) -> None:
        window = each["symbol"], each["k"]
        assert self.interval(who, *window)
        known = self.knows[who].get(window)
        if each["event"] == "snapshot":
            assert known is None or each["sequence"] >= known
        else:
            assert known is not None
            assert each["sequence"] > known
        self.knows[who][window] = each["sequence"]
        prices = self.true[each["symbol"]][each["k"], each["sequence"]]
        assert each["min"] == prices.min()
        assert each["max"] == prices.max()
        assert each["last"] == prices[-1]
        assert each["avg"] == prices.mean()  # small whole numbers: exact
        assert each["values"] == len(prices)

    @invariant()
    def subscribers_are_counted(self) -> None:
        assert self.place.hub.subscribers == sum(map(bool, self.subscribed))


HubModel.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
test_the_hub_against_a_model = HubModel.TestCase
