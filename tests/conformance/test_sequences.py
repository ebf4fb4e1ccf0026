"""Symbols, their limit, and ``from_sequence``: a retry never stores a price twice."""

from __future__ import annotations

import pytest

from support.raw_http import batch, get, post
from support.service_process import Service

STORED = [1.0, 2.0, 3.5]


def receipt(symbol: str, added: int, sequence: int) -> dict[str, object]:
    said = "Added batch" if added else "Batch already stored"
    return {
        "status": "success",
        "message": f"{said} for symbol: {symbol}",
        "symbol": symbol,
        "added": added,
        "sequence": sequence,
    }


@pytest.mark.parametrize(
    ("from_sequence", "values", "added"),
    [
        (0, [1.0, 2.0, 3.5], 0),
        (0, [1.0], 0),
        (1, [2.0, 3.5], 0),
        (2, [3.5], 0),
        (3, [9.0], 1),
        (0, [1.0, 2.0, 3.5, 9.0], 1),
        (2, [3.5, 9.0, 8.0], 2),
        (1, [2.0, 3.5, 3.5], 1),
    ],
)
def test_what_is_stored_already_is_not_stored_again(
    service: Service, from_sequence: int, values: list[float], added: int
) -> None:
    assert service.add(batch("S", STORED, 0)).json() == receipt("S", 3, 3)
    reply = service.add(batch("S", values, from_sequence))
    assert reply.status == (201 if added else 200)
    assert reply.json() == receipt("S", added, 3 + added)
    # Now all of it is there, and once more changes nothing.
    again = service.add(batch("S", values, from_sequence))
    assert (again.status, again.json()) == (200, receipt("S", 0, 3 + added))
    assert service.get("/stats/S/1")["values"] == 3 + added
    assert service.get("/stats/S/1")["last"] == (values[-1] if added else 3.5)


@pytest.mark.parametrize(
    ("from_sequence", "values", "detail"),
    [
        (
            4,
            [1.0],
            "Expected from_sequence of at most 3 for symbol S, got 4: the prices between are "
            "missing",
        ),
        (
            10**30,
            [1.0],
            f"Expected from_sequence of at most 3 for symbol S, got {10**30}: the prices "
            "between are missing",
        ),
        (
            0,
            [1.0, 2.0, 3.0, 9.0],
            "Expected 3.5 as stored for symbol S at sequence 2, got 3.0 - at `values[2]`",
        ),
        (2, [1.0], "Expected 3.5 as stored for symbol S at sequence 2, got 1.0 - at `values[0]`"),
    ],
)
def test_what_does_not_fit_is_a_conflict(
    service: Service, from_sequence: int, values: list[float], detail: str
) -> None:
    service.add(batch("S", STORED))
    before = service.state()
    with service.connect() as connection:
        reply = connection.ask(post(batch("S", values, from_sequence)))
        assert (reply.status, reply.json()) == (409, {"detail": detail, "sequence": 3})
        assert connection.is_usable()
    assert service.state() == before


def test_zero_and_minus_zero_differ(service: Service) -> None:
    service.add(batch("S", [0.0]))
    reply = service.add(batch("S", [-0.0], 0))
    assert reply.status == 409
    assert reply.json()["detail"] == (
        "Expected 0.0 as stored for symbol S at sequence 0, got -0.0 - at `values[0]`"
    )


@pytest.mark.parametrize(
    "body",
    [
        b'{"symbol":"S","values":[1,2,3.5],"from_sequence":9,"from_sequence":0}',
        b'{"from_sequence":null,"symbol":"S","values":[1,2,3.5],"from_sequence":0}',
        b'{"symbol":"T","from_sequence":0,"symbol":"S","values":[1,2,3.5]}',
        b'{"symbol":"S","values":[1,2,3.5],"from\\u005fsequence":-0}',
    ],
)
def test_from_sequence_counts_in_any_company(service: Service, body: bytes) -> None:
    service.add(batch("S", STORED))
    reply = service.add(body)
    assert (reply.status, reply.json()) == (200, receipt("S", 0, 3))


def test_a_retried_batch_is_checked_whole(service: Service) -> None:
    service.add(batch("S", STORED))
    reply = service.add(b'{"symbol":"S","values":[1,2,3.5,1e400],"from_sequence":0}')
    assert reply.status == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "values", 3]
    assert service.get("/stats/S/1")["sequence"] == 3


def test_a_new_symbol_starts_at_zero(service: Service) -> None:
    reply = service.add(batch("S", [1.0], 1))
    assert (reply.status, reply.json()) == (
        409,
        {
            "detail": "Expected from_sequence of at most 0 for symbol S, got 1: the prices between "
            "are missing",
            "sequence": 0,
        },
    )
    assert service.get("/symbols")["symbols"] == []
    assert service.add(batch("S", [1.0], 0)).json() == receipt("S", 1, 1)


def test_what_is_held_no_longer_cannot_be_compared(service: Service) -> None:
    """The ring of the largest window, 100,000 prices, and some slack."""
    prices = [float(i) for i in range(10_000)]
    for begin in range(0, 200_000, 10_000):
        assert service.add(batch("S", prices, begin)).status == 201
    # The largest window can always be compared; how much more is the ring's affair.
    assert service.add(batch("S", prices, 190_000)).status == 200
    assert service.add(batch("S", prices, 100_000)).status == 200
    reply = service.add(batch("S", prices, 0))
    assert reply.status == 409
    assert reply.json()["sequence"] == 200_000
    assert reply.json()["detail"].endswith(
        "got 0: older prices are no longer held and cannot be compared"
    )
    assert service.get("/symbols")["symbols"] == [
        {"symbol": "S", "sequence": 200_000, "values": 100_000}
    ]


def test_ten_symbols_and_no_more_until_one_goes(service: Service) -> None:
    names = [f"S{i}" for i in range(10)]
    for name in names:
        assert service.add(batch(name, [1.0])).status == 201
    before = service.state()
    with service.connect() as connection:
        reply = connection.ask(post(batch("S10", [1.0])))
        assert reply.status == 400
        assert reply.json() == {"detail": "Maximum number of symbols (10) reached"}
        assert connection.is_usable()
    assert service.ask(get("/stats/S10/1")).status == 404
    assert service.state() == before
    assert service.add(batch("S3", [2.0])).json() == receipt("S3", 1, 2)

    assert service.ask(get("/symbols/S4", method="DELETE")).status == 200
    assert service.add(batch("S10", [1.0])).json() == receipt("S10", 1, 1)
    assert service.add(batch("S11", [1.0])).status == 400
    listed = [entry["symbol"] for entry in service.get("/symbols")["symbols"]]
    assert listed == [name for name in names if name != "S4"] + ["S10"]


def test_the_list_of_symbols_and_limits(service: Service) -> None:
    service.add(batch("B", [1.0, 2.0]))
    service.add(batch("A", [1.0]))
    assert service.get("/symbols") == {
        "symbols": [
            {"symbol": "B", "sequence": 2, "values": 2},
            {"symbol": "A", "sequence": 1, "values": 1},
        ],
        "max_symbols": 10,
        "largest_window": 100_000,
        "batch_max": 10_000,
    }


def test_a_symbol_that_comes_back_starts_anew(service: Service) -> None:
    for price in (1.0, 2.0, 3.0):
        assert service.add(batch("S", [price], 0)).json() == receipt("S", 1, 1)
        # Asked twice: an answer that was kept from the symbol's former life would show.
        for _ in range(2):
            assert service.get("/stats/S/1")["last"] == price
        assert service.ask(get("/symbols/S", method="DELETE")).status == 200
        assert service.ask(get("/stats/S/1")).status == 404


def test_nothing_there_yet(service: Service) -> None:
    assert service.get("/stats/") == {"symbols": []}
    assert service.get("/stats/?k=5") == {"symbols": []}
    assert service.get("/symbols")["symbols"] == []
    reply = service.ask(get("/symbols/S", method="DELETE"))
    assert (reply.status, reply.json()) == (404, {"detail": "Symbol S not found"})
