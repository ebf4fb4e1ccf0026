"""Every route in process, with the default limits: each answer, happy or not, is of the shape that
the documentation's models give it, key for key.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import BaseModel

from financial_data_service import __version__
from financial_data_service.engine.layout import DELETED, WORD_COUNT
from financial_data_service.engine.ring_view import RingView
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.api import schemas
from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from financial_data_service.verify import windows
from support.data_directories import fill, spoil
from support.in_process import InProcess

PRICES = [189.5, 189.7, 189.6]
STATISTICS = {
    "min": 189.5,
    "max": 189.7,
    "last": 189.6,
    "avg": 189.6,
    "var": 0.006666666666665909,
    "values": 3,
}


@pytest.fixture
def client() -> Iterator[InProcess]:
    with InProcess(create_app(Settings())) as client:
        yield client


def add(client: InProcess, symbol: str, values: list[float], **more: Any) -> httpx.Response:
    return client.post("/add_batch/", json={"symbol": symbol, "values": values, **more})


def checked(model: type[BaseModel], response: httpx.Response, status: int = 200) -> Any:
    """The JSON of a reply, which the model must know wholly: no key more, none less."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = json.loads(response.content)
    parsed = model.model_validate_json(response.content, strict=True)
    assert parsed.model_dump(mode="json") == content
    return content


def refused(response: httpx.Response, status: int) -> Any:
    """What a refusal says."""
    return checked(schemas.ErrorReply, response, status)["detail"]


def test_add_batch(client: InProcess) -> None:
    assert checked(schemas.AddBatchReply, add(client, "AAPL", PRICES), 201) == {
        "status": "success",
        "message": "Added batch for symbol: AAPL",
        "symbol": "AAPL",
        "added": 3,
        "sequence": 3,
    }


def test_add_batch_without_the_last_slash(client: InProcess) -> None:
    response = client.post("/add_batch", json={"symbol": "AAPL", "values": PRICES})
    assert checked(schemas.AddBatchReply, response, 201)["sequence"] == 3


def test_add_batch_that_is_stored_already(client: InProcess) -> None:
    add(client, "AAPL", PRICES)
    response = add(client, "AAPL", PRICES, from_sequence=0)
    assert checked(schemas.AddBatchReply, response, 200) == {
        "status": "success",
        "message": "Batch already stored for symbol: AAPL",
        "symbol": "AAPL",
        "added": 0,
        "sequence": 3,
    }


def test_add_batch_that_conflicts(client: InProcess) -> None:
    add(client, "AAPL", PRICES)
    response = add(client, "AAPL", [1.0], from_sequence=5)
    assert checked(schemas.ConflictReply, response, 409) == {
        "detail": "Expected from_sequence of at most 3 for symbol AAPL, got 5: the prices between "
        "are missing",
        "sequence": 3,
    }
    response = add(client, "AAPL", [1.0], from_sequence=1)
    assert checked(schemas.ConflictReply, response, 409)["sequence"] == 3


def test_add_batch_of_an_eleventh_symbol(client: InProcess) -> None:
    for i in range(10):
        assert add(client, f"S{i}", [1.0]).status_code == 201
    detail = refused(add(client, "S10", [1.0]), 400)
    assert detail == "Maximum number of symbols (10) reached"


def test_the_limit_of_symbols_is_a_setting() -> None:
    with InProcess(create_app(Settings(max_symbols=1))) as client:
        assert add(client, "A", [1.0]).status_code == 201
        assert refused(add(client, "B", [1.0]), 400) == "Maximum number of symbols (1) reached"


def test_the_limits_of_a_batch_are_settings() -> None:
    with InProcess(create_app(Settings(batch_max=2, body_max_bytes=1024))) as client:
        assert add(client, "A", [1.0, 2.0]).status_code == 201
        response = add(client, "A", [1.0, 2.0, 3.0])
        (error,) = checked(schemas.InvalidRequestReply, response, 422)["detail"]
        assert error["msg"] == "Expected 1 to 2 prices, got 3 - at `values`"
        detail = refused(add(client, "A" * 2000, [1.0]), 413)
        assert detail == "Expected a body of 1024 bytes at most; send fewer values in a batch"


def test_add_batch_that_is_too_large_or_no_json(client: InProcess) -> None:
    response = client.post("/add_batch/", content=b" " * 2_097_153, headers={"Content-Type": "a"})
    assert refused(response, 415) == "Expected `Content-Type: application/json`, got `a`"
    response = client.post(
        "/add_batch/", content=b" " * 2_097_153, headers={"Content-Type": "application/json"}
    )
    assert refused(response, 413).startswith("Expected a body of 2097152 bytes at most")


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({"symbol": "AAPL", "values": []}, [["body", "values"]]),
        ({"symbol": "AAPL", "values": [1.0] * 10_001}, [["body", "values"]]),
        ({"symbol": "AAPL", "values": [1.0, "2"]}, [["body", "values", 1]]),
        ({"symbol": "AAPL", "values": [1.0, 1e151]}, [["body", "values", 1]]),
        ({"symbol": "", "values": [1.0]}, [["body", "symbol"]]),
        ({"symbol": "AAPL"}, [["body", "values"]]),
        ({}, [["body", "symbol"], ["body", "values"]]),
        ([], [["body"]]),
        ({"symbol": "AAPL", "values": [1.0], "from_sequence": -1}, [["body", "from_sequence"]]),
    ],
)
def test_add_batch_that_is_unfit(client: InProcess, body: Any, places: list[Any]) -> None:
    response = client.post("/add_batch/", json=body)
    errors = checked(schemas.InvalidRequestReply, response, 422)["detail"]
    assert [error["loc"] for error in errors] == places
    assert client.get("/symbols").json()["symbols"] == []


def test_window_in_both_forms(client: InProcess) -> None:
    add(client, "AAPL", PRICES)
    for k in range(1, 9):
        expected = {"symbol": "AAPL", "k": k, "window": 10**k, **STATISTICS, "sequence": 3}
        for target in (
            f"/stats/AAPL/{k}",
            f"/stats/?symbol=AAPL&k={k}",
            f"/stats?symbol=AAPL&k={k}",
        ):
            assert checked(schemas.StatsReply, client.get(target)) == expected


def test_any_window(client: InProcess) -> None:
    add(client, "AAPL", PRICES)
    for target in ("/stats/AAPL?last=2", "/stats/?symbol=AAPL&last=2"):
        reply = checked(schemas.StatsReply, client.get(target))
        assert (reply["k"], reply["window"], reply["values"], reply["min"]) == (None, 2, 2, 189.6)
    reply = checked(schemas.StatsReply, client.get("/stats/AAPL?last=100000000"))
    assert (reply["window"], reply["values"]) == (10**8, 3)


def test_all_windows(client: InProcess) -> None:
    add(client, "AAPL", PRICES)
    windows = [{"k": k, "window": 10**k, **STATISTICS} for k in range(1, 9)]
    for target in ("/stats/AAPL", "/stats/?symbol=AAPL"):
        reply = checked(schemas.SymbolStatsReply, client.get(target))
        assert reply == {"symbol": "AAPL", "sequence": 3, "stats": windows}


def test_all_symbols(client: InProcess) -> None:
    assert checked(schemas.AllStatsReply, client.get("/stats/")) == {"symbols": []}
    add(client, "AAPL", PRICES)
    add(client, "BTC/USDT", [1.0])
    reply = checked(schemas.AllStatsReply, client.get("/stats/"))
    assert [entry["symbol"] for entry in reply["symbols"]] == ["AAPL", "BTC/USDT"]
    assert reply["symbols"][0] == client.get("/stats/AAPL").json()
    assert client.get("/stats").json() == reply
    reply = checked(schemas.AllStatsReply, client.get("/stats/?k=3"))
    assert [[w["k"] for w in entry["stats"]] for entry in reply["symbols"]] == [[3], [3]]


@pytest.mark.parametrize("k", [0, 9, -1])
def test_window_that_is_not_kept(client: InProcess, k: int) -> None:
    add(client, "AAPL", PRICES)
    for target in (
        f"/stats/AAPL/{k}",
        f"/stats/?symbol=AAPL&k={k}",
        f"/stats/?k={k}",
        f"/verify/AAPL/{k}",
    ):
        detail = refused(client.get(target), 422)
        assert detail == f"Window size exponent (k={k}) must be between 1 and 8"


@pytest.mark.parametrize("last", [0, 100_000_001, -1])
def test_length_that_is_not_kept(client: InProcess, last: int) -> None:
    add(client, "AAPL", PRICES)
    detail = refused(client.get(f"/stats/AAPL?last={last}"), 422)
    assert detail == f"Window size (last={last}) must be between 1 and 100000000"


def test_window_that_is_no_number(client: InProcess) -> None:
    for target in ("/stats/AAPL/x", "/stats/AAPL?last=x", "/stats/?k=x", "/verify/AAPL/x"):
        (error,) = checked(schemas.InvalidRequestReply, client.get(target), 422)["detail"]
        assert error["input"] == "x"


def test_query_that_asks_for_too_much(client: InProcess) -> None:
    add(client, "AAPL", PRICES)
    detail = refused(client.get("/stats/AAPL?k=1&last=1"), 422)
    assert detail == "Expected either k or last, got both (k=1, last=1)"
    detail = refused(client.get("/stats/?last=1"), 422)
    assert detail == "Expected a symbol together with last=1, got none"


@pytest.mark.parametrize("symbol", ["X", "BTC/USDT", "\N{ROCKET}", "a b", "%41"])
def test_symbol_that_is_not_there(client: InProcess, symbol: str) -> None:
    encoded = quote(symbol, safe="")
    for response in (
        client.get(f"/stats/{encoded}/1"),
        client.get(f"/stats/{encoded}"),
        client.get(f"/stats/{encoded}?last=1"),
        client.get(f"/stats/?symbol={encoded}"),
        client.get(f"/stats/?symbol={encoded}&k=1"),
        client.get(f"/verify/{encoded}/1"),
        client.request("DELETE", f"/symbols/{encoded}"),
    ):
        assert refused(response, 404) == f"Symbol {symbol} not found"


def test_symbol_that_cannot_be(client: InProcess) -> None:
    for response, place in (
        (client.get("/stats/A%00/1"), "path"),
        (client.get("/stats/A%2F%00/1"), "path"),
        (client.get("/stats/A%00"), "path"),
        (client.get("/stats/?symbol=A%00&k=1"), "query"),
        (client.get("/verify/A%00/1"), "path"),
        (client.request("DELETE", "/symbols/A%00"), "path"),
    ):
        (error,) = checked(schemas.InvalidRequestReply, response, 422)["detail"]
        assert (error["type"], error["loc"]) == ("invalid_symbol", [place, "symbol"])


NUMBERS = {field: STATISTICS[field] for field in ("min", "max", "last", "avg", "var")}


def test_verify(client: InProcess) -> None:
    add(client, "BTC/USDT", PRICES)
    for k in range(1, 9):
        assert checked(schemas.VerifyReply, client.get(f"/verify/BTC%2FUSDT/{k}")) == {
            "symbol": "BTC/USDT",
            "k": k,
            "window": 10**k,
            "values": 3,
            "sequence": 3,
            "equal": True,
            "served": NUMBERS,
            "recomputed": NUMBERS | {"var": pytest.approx(NUMBERS["var"], rel=1e-15)},
        }


def ring_of(client: InProcess, symbol: str) -> Any:
    return client.app.state.service.manager[symbol].ring


def test_verify_finds_what_has_changed() -> None:
    """A summary says another maximum than the prices below it: it is served, and found out."""
    with InProcess(create_app(Settings(largest_window=1000))) as client:
        prices = [float(price) for price in range(1, 513)]
        add(client, "A", prices)
        ring = ring_of(client, "A")
        maxima = ring.geometry.offsets[1] + (ring.geometry.capacity >> 7)
        ring.region[maxima + 1] = 1e6
        reply = checked(schemas.VerifyReply, client.get("/verify/A/3"))
        assert not reply["equal"]
        assert (reply["served"]["max"], reply["recomputed"]["max"]) == (1e6, 512.0)
        assert reply["recomputed"]["var"] == (512**2 - 1) / 12
        assert checked(schemas.VerifyReply, client.get("/verify/A/2"))["equal"]


@pytest.mark.parametrize("damage", [math.nan, math.inf, 1e300, -1e151])
def test_verify_of_what_is_no_price(damage: float) -> None:
    with InProcess(create_app(Settings(largest_window=1000))) as client:
        add(client, "A", PRICES)
        ring = ring_of(client, "A")
        ring.region[ring.geometry.offsets[0] + 1] = damage
        reply = checked(schemas.VerifyReply, client.get("/verify/A/1"))
        assert not reply["equal"]
        assert reply["recomputed"]["avg"] is None
        assert reply["recomputed"]["last"] == PRICES[-1]


def test_verify_of_a_window_that_is_overwritten_all_the_time(
    client: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, "A", PRICES)
    ring = ring_of(client, "A")

    def overtaken(held: RingView, begin: int, end: int) -> Any:
        ring.header[WORD_COUNT] += ring.geometry.capacity
        return add_up(held, begin, end)

    add_up = windows._add_up
    monkeypatch.setattr(windows, "_add_up", overtaken)
    detail = refused(client.get("/verify/A/1"), 503)
    assert re.fullmatch(
        r"Prices [\d,]+ to [\d,]+ of symbol A were overwritten by newer ones before they were read",
        detail,
    )


def test_others_are_answered_while_a_window_is_recomputed(
    client: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, "A", PRICES)
    add(client, "B", PRICES)
    started, may_end = threading.Event(), threading.Event()
    symbols = []

    def slow(held: RingView, length: int) -> windows.WindowCheck:
        symbols.append(held.symbol)
        started.set()
        assert may_end.wait(30)
        return windows.check_window(held, length)

    monkeypatch.setattr("financial_data_service.server.api.routes.check_window", slow)

    async def ask() -> list[httpx.Response]:
        first = asyncio.create_task(client.send("GET", "/verify/A/1"))
        assert await asyncio.to_thread(started.wait, 30)
        second = asyncio.create_task(client.send("GET", "/verify/B/2"))
        other = await client.send("GET", "/stats/A/1")
        deleted = await client.send("DELETE", "/symbols/A")
        assert symbols == ["A"], "one at a time"
        assert not first.done()
        may_end.set()
        return [other, deleted, await first, await second]

    other, deleted, *verified = client.run(ask())
    assert (other.status_code, deleted.status_code) == (200, 200)
    # As of before the deletion, when it was asked for.
    assert [checked(schemas.VerifyReply, each)["equal"] for each in verified] == [True, True]


def test_symbols(client: InProcess) -> None:
    add(client, "AAPL", PRICES)
    assert checked(schemas.SymbolsReply, client.get("/symbols")) == {
        "symbols": [{"symbol": "AAPL", "sequence": 3, "values": 3}],
        "max_symbols": 10,
        "largest_window": 100_000_000,
        "batch_max": 10_000,
    }


def test_delete(client: InProcess) -> None:
    add(client, "AAPL", PRICES)
    add(client, "BTC/USDT", PRICES)
    assert checked(schemas.DeleteReply, client.request("DELETE", "/symbols/BTC%2FUSDT")) == {
        "status": "success",
        "message": "Deleted symbol: BTC/USDT",
    }
    assert [entry["symbol"] for entry in client.get("/symbols").json()["symbols"]] == ["AAPL"]
    # Its next batch starts from nothing.
    assert add(client, "BTC/USDT", [1.0], from_sequence=0).json()["sequence"] == 1


def test_sequence_counts_what_has_left_the_largest_window_too() -> None:
    with InProcess(create_app(Settings(largest_window=10))) as client:
        for i in range(50):
            reply = add(client, "A", [float(i)] * 7, from_sequence=7 * i)
            assert reply.json()["sequence"] == 7 * (i + 1)
        reply = checked(schemas.StatsReply, client.get("/stats/A/1"))
        assert (reply["sequence"], reply["values"], reply["min"]) == (350, 10, 48.0)
        detail = refused(client.get("/stats/A/2"), 422)
        assert detail == "Window size exponent (k=2) must be between 1 and 1"


def test_health(client: InProcess) -> None:
    for target in ("/livez", "/readyz"):
        assert checked(schemas.HealthReply, client.get(target)) == {"status": "ok"}


def test_readiness_names_the_files_that_are_refused(
    client: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SymbolManager, "refused", {"A.ring": "damaged", "B.ring": "cut off"})
    refused = [{"file": "A.ring", "reason": "damaged"}, {"file": "B.ring", "reason": "cut off"}]
    expected = {"status": "degraded", "refused": refused}
    assert checked(schemas.DegradedReply, client.get("/readyz")) == expected
    assert checked(schemas.HealthReply, client.get("/livez")) == {"status": "ok"}


def test_a_refused_file_is_said_and_the_other_symbols_go_on(tmp_path: Path) -> None:
    data_dir = fill(tmp_path / "data", {"AAPL": PRICES, "BTC/USDT": PRICES})
    spoil(data_dir / "AAPL.ring")
    settings = Settings(data_dir=data_dir, largest_window=1000, batch_max=100)
    with InProcess(create_app(settings)) as client:
        # The file of the other symbol is of another fanout than the service's.
        reply = checked(schemas.DegradedReply, client.get("/readyz"))
        reasons = {entry["file"]: entry["reason"] for entry in reply["refused"]}
        assert "is damaged" in reasons["AAPL.ring"]
        assert "fanout" in reasons["BTC%2FUSDT.ring"]
        add(client, "NEW", PRICES)
        for symbol, reason in (("AAPL", "damaged"), ("BTC%2FUSDT", "fanout")):
            for target in (f"/stats/{symbol}/1", f"/stats/{symbol}", f"/verify/{symbol}/1"):
                assert reason in refused(client.get(target), 503)
        assert "damaged" in refused(add(client, "AAPL", PRICES), 503)
        assert checked(schemas.VerifyReply, client.get("/verify/NEW/1"))["equal"]
        assert [entry["symbol"] for entry in client.get("/symbols").json()["symbols"]] == ["NEW"]
        assert [entry["symbol"] for entry in client.get("/stats/").json()["symbols"]] == ["NEW"]


def test_a_symbol_that_another_process_deletes_meanwhile(
    client: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its count turns to -1 once it has been looked up: it is not there, and left out of lists."""
    add(client, "A", PRICES)
    add(client, "B", PRICES)
    running_stats = client.app.state.service.manager["A"]
    monkeypatch.setattr(SymbolManager, "get", lambda manager, symbol: {**manager._symbols}[symbol])
    running_stats.ring.header[WORD_COUNT] = DELETED
    for target in ("/stats/A/1", "/stats/A?last=3", "/stats/A", "/verify/A/1"):
        assert refused(client.get(target), 404) == "Symbol A not found"
    assert [entry["symbol"] for entry in client.get("/stats/").json()["symbols"]] == ["B"]
    assert [entry["symbol"] for entry in client.get("/symbols").json()["symbols"]] == ["B"]


def test_front_page_leads_to_the_documentation(client: InProcess) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert '<a href="docs">' in response.text


def test_what_is_not_there(client: InProcess) -> None:
    assert refused(client.get("/nope"), 404) == "Not Found"
    response = client.request("PUT", "/stats/AAPL/1")
    assert refused(response, 405) == "Method Not Allowed"
    assert response.headers["allow"] == "GET"


def test_version(client: InProcess) -> None:
    assert client.get("/openapi.json").json()["info"]["version"] == __version__


def test_each_application_has_symbols_of_its_own() -> None:
    settings = Settings(largest_window=1000)
    with InProcess(create_app(settings)) as one, InProcess(create_app(settings)) as other:
        add(one, "A", [1.0])
        assert other.get("/stats/A/1").status_code == 404


def test_behind_a_proxy_with_a_prefix() -> None:
    app = create_app(Settings(root_path="/prices"))
    with InProcess(app, root_path="/prices") as client:
        assert '<base href="/prices/">' in client.get("/").text
        assert "/prices/openapi.json" in client.get("/docs").text
        add(client, "A/B", [1.0])
        assert client.get("/stats/A%2FB/1").json()["symbol"] == "A/B"
