"""The API key: requests with it are answered, others get 401 and learn how to send it.

Most tests run the protocol without sockets, in both lanes; one runs the real service with one and
with two workers. WebSockets are refused by the application before anything accepts them, so those
tests need no server.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.app import create_app
from financial_data_service.server.connection.head_cache import FastLane
from financial_data_service.server.middleware.api_key import ApiKey
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.middleware import (
    KEY,
    RIGHT,
    WRONG,
    handshake,
    headers_of,
    refusal,
    status_of,
    wire_of,
)
from support.raw_http import batch, get, post
from support.service_process import LIGHT, running
from support.stream_client import handshake as websocket_handshake


@pytest.mark.parametrize("fast_lane", [False, True])
class TestApiKey:
    @pytest.mark.parametrize("header", RIGHT)
    def test_who_has_it_is_answered(self, fast_lane: bool, header: str) -> None:
        with wire_of(fast_lane=fast_lane, api_key=KEY) as wire:
            connection = wire.connect()
            for _ in range(3):
                assert status_of(connection.ask(get("/stats/S/1", header))) == 200
                assert status_of(connection.ask(post(batch("S", [1.0]), header))) == 201
                assert status_of(connection.ask(get("/metrics", header))) == 200

    @pytest.mark.parametrize("header", [*WRONG, "X-Nothing: 1"])
    def test_who_does_not_is_refused(self, fast_lane: bool, header: str) -> None:
        with wire_of(fast_lane=fast_lane, api_key=KEY) as wire:
            connection = wire.connect()
            for _ in range(3):
                for request in (
                    *(get("/stats/S/1", header), post(batch("S", [1.0]), header)),
                    *(get("/symbols", header), get("/metrics", header), get("/nowhere", header)),
                    get("/stats/S/1?api_key=" + KEY, header),
                ):
                    reply = connection.ask(request)
                    assert status_of(reply) == 401
                    assert headers_of(reply)["www-authenticate"].startswith("Bearer ")
                    detail = json.loads(reply.partition(b"\r\n\r\n")[2])["detail"]
                    assert detail.startswith("Expected the API key as `X-API-Key: …`")
                    assert KEY not in detail
            assert wire.manager["S"].sequence == 1

    @pytest.mark.parametrize(
        "target",
        [
            *("/livez", "/readyz", "/", "/docs", "/redoc", "/openapi.json", "/asyncapi.yaml"),
            "/docs-assets/x",
        ],
    )
    def test_what_shows_no_prices_needs_none(self, fast_lane: bool, target: str) -> None:
        with wire_of(fast_lane=fast_lane, api_key=KEY) as wire:
            assert status_of(wire.connect().ask(get(target))) != 401

    @pytest.mark.parametrize(
        "target",
        [
            *("//livez", "/livez/../symbols", "/docs-assets/../symbols", "/docs-assets/%2e%2e/x"),
            *("/static/..%2fsymbols", "/docs%2F..%2Fsymbols", "/LIVEZ", "/livez;/symbols"),
        ],
    )
    def test_no_spelling_of_a_path_gets_at_prices(self, fast_lane: bool, target: str) -> None:
        with wire_of(fast_lane=fast_lane, api_key=KEY) as wire:
            reply = wire.connect().ask(get(target))
            assert status_of(reply) in (401, 404)
            assert b"max_symbols" not in reply

    def test_a_path_of_a_proxy_changes_nothing(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane, api_key=KEY, root_path="/prices") as wire:
            connection = wire.connect()
            assert status_of(connection.ask(get("/livez"))) == 200
            assert status_of(connection.ask(get("/symbols"))) == 401
            assert status_of(connection.ask(get("/stats/S/1"))) == 401
            assert status_of(connection.ask(get("/stats/S/1", RIGHT[0]))) == 200

    def test_a_refusal_is_counted_for_no_route(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane, api_key=KEY) as wire:
            connection = wire.connect()
            connection.ask(get("/stats/S/1"))
            connection.ask(post(batch("S", [1.0]), WRONG[0]))
            labels = b'lane="slow",method="other",route="unmatched",status="401"'
            metrics = connection.ask(get("/metrics", RIGHT[0]))
            assert b"fds_requests_total{%b} 2.0" % labels in metrics

    def test_a_connection_goes_on_behind_a_refusal(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane, api_key=KEY) as wire:
            connection = wire.connect()
            refused = post(batch("S", [1.0] * 5000), WRONG[0])
            replies = connection.ask(refused + get("/stats/S/1", RIGHT[0]))
            assert re.findall(rb"HTTP/1.1 (\d+)", replies) == [b"401", b"200"]
            assert not connection.is_closed


def test_a_head_with_the_right_key_is_known_and_one_with_another_never() -> None:
    manager = SymbolManager(largest_window=1000)
    lane = FastLane(manager, Settings(api_key=KEY, largest_window=1000))  # type: ignore[arg-type]
    for header in (*WRONG, "X-Nothing: 1"):
        assert lane.classify(get("/stats/S/1", header)) is None
    assert lane.classify(b"GET /\r\n\r\n") is None
    assert lane.known == {}
    for header in RIGHT:
        head = get("/stats/S/1", header)
        assert lane.classify(head) is lane.known[head] is not None


def test_one_right_key_among_several_will_do() -> None:
    key = ApiKey(Settings(api_key=KEY).api_key)  # type: ignore[arg-type]
    right = KEY.encode()
    assert key.admits([b"x", right], [])
    assert key.admits([], [b"Basic x", b"Bearer " + right])
    assert not key.admits([b"x"], [right])
    assert not key.admits([], [])


class TestWebSockets:
    @pytest.mark.parametrize(
        ("path", "before"), [("/stream", ""), ("/ingest/S", ""), ("/ingest/S", "from_sequence=0&")]
    )
    def test_need_the_key(self, path: str, before: str) -> None:
        app = create_app(Settings(largest_window=1000, api_key=KEY))  # type: ignore[arg-type]
        for said, got in (
            (handshake(app, path), "none"),
            (handshake(app, path, ("x-api-key", KEY[:-1])), "another"),
            (handshake(app, path, query=f"{before}api_key={KEY}x"), "another"),
            (handshake(app, path, query=f"{before}api_key="), "none"),
        ):
            status, replied, detail = refusal(said)
            assert status == 401
            assert replied[b"www-authenticate"].startswith(b"Bearer ")
            assert replied[b"content-type"] == b"application/json"
            assert detail.endswith(f"`Authorization: Bearer …` or `?api_key=…`, got {got}")
        for answer in (
            handshake(app, path, ("x-api-key", KEY)),
            handshake(app, path, ("authorization", f"Bearer {KEY}")),
            handshake(app, path, query=f"{before}api_key={KEY}"),
        ):
            assert answer[0]["type"] == "websocket.accept"

    @pytest.mark.parametrize("path", ["/livez", "/", "/docs-assets/x"])
    def test_need_the_key_wherever_they_knock(self, path: str) -> None:
        app = create_app(Settings(largest_window=1000, api_key=KEY))  # type: ignore[arg-type]
        assert refusal(handshake(app, path))[0] == 401


def test_event_streams_may_have_the_key_in_the_query() -> None:
    with InProcess(create_app(Settings(largest_window=1000, api_key=KEY))) as client:  # type: ignore[arg-type]
        documented = client.get("/openapi.json").json()["paths"]["/stats/{symbol}/{k}/events"]
        refused = documented["get"]["responses"]["401"]["content"]["application/json"]
        for query, got in (("", "none"), ("?api_key=x" + KEY, "another"), ("?api_key=", "none")):
            reply = client.get(f"/stats/X/1/events{query}")
            expected = refused["example"]["detail"].replace("none", got)
            assert (reply.status_code, reply.json()["detail"]) == (401, expected)
            assert expected.endswith(f" or `?api_key=…`, got {got}")
        # Elsewhere the query carries no key, right or wrong, and none is asked for there.
        detail = client.get(f"/stats/X/1?api_key={KEY}").json()["detail"]
        assert detail.endswith("`X-API-Key: …` or `Authorization: Bearer …`, got none")
        assert client.get(f"/stats/X/1/events?api_key={KEY}").status_code == 404


@pytest.mark.parametrize("root_path", ["", "/prices"])
def test_an_encoded_slash_makes_no_event_stream_of_another_path(root_path: str) -> None:
    with wire_of(api_key=KEY, root_path=root_path) as wire:
        connection = wire.connect()
        for target, status in {
            "/stats/BTC%2FUSDT/3/events": 404,
            "/stats/BTC%2fUSDT/3/events": 404,
            "/stats/BTC/3/events": 404,
            "/stats/x%2F3%2Fevents": 401,
            "/stats/x%2F3/events": 401,
            "/stats/BTC/USDT/3/events": 401,
        }.items():
            reply = connection.ask(get(f"{target}?api_key={KEY}"))
            assert status_of(reply) == status, target
            assert status_of(connection.ask(get(f"{target}?api_key={KEY}x"))) == 401


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_asks_for_the_key_and_never_tells_it(tmp_path: Path, workers: str) -> None:
    flags = (*LIGHT, "--workers", workers, "--access-log", "--log-level", "trace")
    with running(tmp_path, flags, FDS_API_KEY=KEY, FDS_LOG_FORMAT="json") as service:
        for _ in range(4):
            refused = service.ask(websocket_handshake("/stream", "X-Request-ID: an-id"))
            assert (refused.status, refused.headers["x-request-id"]) == (401, "an-id")
            assert service.ask(post(batch("S", [1.0]))).status == 401
            assert service.ask(post(batch("S", [1.0]), RIGHT[0])).status == 201
            assert service.ask(get("/stats/S/1", RIGHT[1])).status == 200
            assert service.ask(get(f"/stats/S/1?api_key={KEY}")).status == 401
            assert service.ask(get(f"/{KEY}?x={KEY}&API_KEY=guess&y=1")).status == 401
        assert service.ask(get("/livez")).status == 200
    log = service.log.read_text()
    assert KEY not in log
    assert "guess" not in log
    assert log.count('"path": "/stats/S/1?api_key=***"') == 4
