"""Heads and replies that the fast lane keeps: bounded, of these very bytes, and never stale.

A protocol with the fast lane and one without are asked the same, without a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from financial_data_service.server.connection import head_cache
from support.raw_http import batch, get, post, post_chunked
from support.wire import Wire

BODY = batch("S", [1.0, 2.5])
QUERY = get("/stats/S/1")


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as wire:
        yield wire


@pytest.fixture
def slow_wire() -> Iterator[Wire]:
    with Wire(fast_lane=False) as wire:
        yield wire


def test_known_heads_are_bounded(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_cache, "KNOWN_HEADS_MAX", 8)
    known = wire.lane.known
    wire.manager.add_batch("S", [1.0])
    connection = wire.connect()
    expected = connection.ask(QUERY)
    for trace_id in range(50):
        for request in (get("/stats/S/1", f"X-Trace: {trace_id}"), QUERY):
            assert connection.ask(request) == expected
            assert len(known) <= 8
        assert connection.ask(get("/livez", f"X-Trace: {trace_id}")).endswith(b"}")
        assert len(known) <= 8
    assert head_cache.KNOWN_HEAD_BYTES_MAX * 4096 == 8 * 2**20


def test_long_heads_are_never_kept(wire: Wire) -> None:
    wire.manager.add_batch("S", [1.0])
    connection = wire.connect()
    expected = connection.ask(QUERY)
    known = wire.lane.known
    for size in (head_cache.KNOWN_HEAD_BYTES_MAX, 10_000, 60_000):
        for request in (get("/stats/S/1", f"X: {'x' * size}"), get(f"/stats/{'S' * size}/1")):
            for _ in range(2):
                connection.ask(request)
    assert connection.ask(get("/stats/S/1", f"X: {'x' * 3000}")) == expected
    assert list(known) == [QUERY]


def test_a_verdict_is_of_these_very_bytes(wire: Wire) -> None:
    wire.manager.add_batch("S", [1.0])
    wire.manager.add_batch("s", [2.0])
    connection = wire.connect()
    for _ in range(2):
        assert b'"symbol":"S"' in connection.ask(QUERY)
        assert b'"symbol":"s"' in connection.ask(QUERY.replace(b"/S/", b"/s/"))
        assert b"connection: close" not in connection.ask(get("/stats/S/1", "Connection: x"))
    assert b"connection: close" in connection.ask(get("/stats/S/1", "Connection: close"))
    assert connection.is_closed


def test_a_kept_reply_is_never_stale(wire: Wire, slow_wire: Wire) -> None:
    """Whatever happened meanwhile, the reply equals a newly computed one."""
    happenings: list[Callable[[Wire], object]] = [
        lambda each: each.manager.add_batch("S", [1.0, 2.0]),
        lambda each: None,
        lambda each: each.connect().ask(post(BODY)),
        lambda each: each.connect().ask(post_chunked([BODY])),
        lambda each: each.set_date(b"later"),
        lambda each: each.connect().ask(get("/symbols/S", method="DELETE")),
        lambda each: each.connect().ask(post(batch("S", [7.0, 8.0]))),
        lambda each: each.manager.delete("S"),
        # As many prices as before, in a new ring.
        lambda each: each.manager.add_batch("S", [9.0, 8.0]),
        lambda each: each.set_date(b"now"),
        lambda each: each.connect().ask(post(batch("S", [9.0, 8.0], 0))),
    ]
    queries = [QUERY, get("/stats/S/2"), get("/stats/?symbol=S&k=1")]
    fast, slow = wire.connect(), slow_wire.connect()
    said = set()
    for happen in happenings:
        happen(wire)
        happen(slow_wire)
        for query in queries:
            expected = slow.ask(query)
            for _ in range(2):
                assert fast.ask(query) == expected
        assert fast.ask(b"".join(queries)) == slow.ask(b"".join(queries))
        said.add(fast.ask(QUERY))
    assert len(said) == 8


def test_a_reply_is_kept_while_nothing_changes(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.manager.add_batch("S", [1.0])
    connections = [wire.connect(), wire.connect()]
    expected = connections[0].ask(QUERY)
    monkeypatch.delattr("financial_data_service.server.api.replies.stats")
    assert [connection.ask(QUERY) for connection in connections] == [expected] * 2
