"""Who may ask, and how many at once: API key, origins, limit of requests, CORS, ids of requests.

Most is asked of the protocol at the end of a wire, in both lanes; what a socket or several workers
could change is asked of the real service. WebSockets are refused by the application itself before
anything accepts them, so they are asked without a server as well.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse
from starlette.types import Message

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.app import create_app
from financial_data_service.server.connection.head_cache import FastLane
from financial_data_service.server.middleware.api_key import ApiKey
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.raw_http import batch, get, post, post_float64
from support.service_process import LIGHT, running
from support.stream_client import handshake as websocket_handshake
from support.wire import Wire

KEY = "a-key-of-24-characters-x"
ORIGIN = "https://desk.example.com"

RIGHT = (
    *(f"X-API-Key: {KEY}", f"Authorization: Bearer {KEY}", f"authorization: bearer  {KEY}"),
    *(f"X-API-Key: \t {KEY} \t", f"Authorization: Bearer {KEY} \t"),
)
WRONG = (
    *(f"X-API-Key: {KEY}x", f"X-API-Key: {KEY[:-1]}", "X-API-Key:", "X-API-Key: \xff\xfe"),
    *(f"Authorization: Basic {KEY}", f"Authorization: {KEY}", "Authorization: Bearer"),
    f"Cookie: api_key={KEY}",
)


@contextmanager
def wire_of(*, fast_lane: bool = True, **settings: Any) -> Iterator[Wire]:
    with Wire(fast_lane=fast_lane, **settings) as wire:
        wire.manager.add_batch("S", [1.0])
        yield wire


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def headers_of(reply: bytes) -> dict[str, str]:
    lines = reply.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


# --- API key


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


def handshake(
    app: FastAPI,
    path: str,
    *headers: tuple[str, str],
    query: str = "",
    extensions: tuple[str, ...] = ("websocket.http.response",),
) -> list[Any]:
    """Return what the application says to a WebSocket, which the client closes at once."""
    said: list[Any] = []

    async def run() -> None:
        heard: Iterator[Message] = iter(
            [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
        )

        async def receive() -> Message:
            return next(heard)

        async def send(message: Message) -> None:
            said.append(message)

        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (b"host", b"prices.example.com:8000"),
                *((name.encode(), value.encode()) for name, value in headers),
            ],
            "client": ("192.0.2.1", 1),
            "server": ("192.0.2.2", 2),
            "subprotocols": [],
            "extensions": {name: {} for name in extensions},
            "state": {},
        }
        await app(scope, receive, send)

    asyncio.run(run())
    return said


def refusal(said: list[Any]) -> tuple[int, dict[bytes, bytes], str]:
    """Status, headers and reason of a handshake that was refused."""
    head, body = said
    assert head["type"] == "websocket.http.response.start"
    assert body["type"] == "websocket.http.response.body"
    return head["status"], dict(head["headers"]), json.loads(body["body"])["detail"]


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

    def test_are_told_their_id_when_they_are_refused(self) -> None:
        app = create_app(Settings(largest_window=1000, api_key=KEY))  # type: ignore[arg-type]
        for header, status in ((("x-api-key", "x"), 401), (("origin", "https://evil"), 403)):
            said = handshake(app, "/stream", ("x-request-id", "an-id"), header)
            assert refusal(said)[:1] == (status,)
            assert refusal(said)[1][b"x-request-id"] == b"an-id"

    def test_are_closed_where_a_server_takes_no_reply(self) -> None:
        app = create_app(Settings(largest_window=1000, api_key=KEY))  # type: ignore[arg-type]
        said = handshake(app, "/stream", extensions=())
        assert said == [{"type": "websocket.close", "code": 1008}]

    @pytest.mark.parametrize(
        ("origin", "is_allowed"),
        [
            ("http://prices.example.com:8000", True),
            ("https://prices.example.com:8000", True),  # through a proxy
            (ORIGIN, True),
            ("http://prices.example.com", False),
            ("https://evil.example.com", False),
            ("http://evil.example.com/prices.example.com:8000", False),
            ("http://prices.example.com:8000.evil.example.com", False),
            ("http://x@prices.example.com:8000", False),
            ("null", False),
            ("", False),
            ("http://[", False),
        ],
    )
    def test_are_not_for_pages_of_strangers(self, origin: str, is_allowed: bool) -> None:
        app = create_app(Settings(largest_window=1000, cors_origins=(ORIGIN,)))
        said = handshake(app, "/stream", ("origin", origin))
        assert (said[0]["type"] == "websocket.accept") == is_allowed
        if not is_allowed:
            status, _, detail = refusal(said)
            assert status == 403
            assert detail.startswith("Expected a page of this service")

    def test_are_for_every_page_if_so_set(self) -> None:
        app = create_app(Settings(largest_window=1000, cors_origins=("*",)))
        said = handshake(app, "/stream", ("origin", "https://evil.example.com"))
        assert said[0]["type"] == "websocket.accept"


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


def test_the_document_says_what_needs_the_key() -> None:
    with InProcess(create_app(Settings(largest_window=1000, api_key=KEY))) as client:  # type: ignore[arg-type]
        document = client.get("/openapi.json").json()
        assert client.get("/openapi.json").json() == document
    assert set(document["components"]["securitySchemes"]) == {"ApiKey", "Bearer"}
    assert document["security"] == [{"ApiKey": []}, {"Bearer": []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_open = path in ("/livez", "/readyz")
            assert (operation.get("security") == []) == is_open
            assert ("401" in operation["responses"]) == (not is_open)
    with InProcess(create_app(Settings(largest_window=1000))) as client:
        document = client.get("/openapi.json").json()
    assert "security" not in document
    assert "securitySchemes" not in document.get("components", {})


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


# --- Requests under way


def test_too_many_at_once_are_told_to_come_again() -> None:
    with wire_of(in_flight_max=2) as wire:
        waiting = [wire.connect() for _ in range(2)]
        request = post(batch("S", [1.0]), "X-Request-ID: slow")  # Which is for the slow lane.
        for connection in waiting:
            connection.send(request[:-1])
            assert connection.receive() == b""
        other = wire.connect()
        for _ in range(2):
            reply = other.ask(request)
            assert status_of(reply) == 429
            assert headers_of(reply)["retry-after"] == "1"
            assert b'{"detail":"Expected 2 requests under way at most; ask again later"}' in reply
        assert not other.is_closed
        # Probes and Prometheus are answered, and so is the fast lane, which has none under way.
        assert status_of(other.ask(get("/livez"))) == 200
        assert status_of(other.ask(get("/readyz"))) == 200
        assert status_of(other.ask(get("/metrics"))) == 200
        assert status_of(other.ask(get("/stats/S/1"))) == 200
        assert status_of(other.ask(get("/symbols"))) == 429
        for connection in waiting:
            assert status_of(connection.ask(request[-1:])) == 201
        assert status_of(other.ask(request)) == 201
        assert wire.app.state.service.metrics.in_flight == 0


@pytest.mark.parametrize("fast_lane", [False, True])
class TestSlowUploads:
    UPLOADS = (post(batch("S", [1.0, 2.0])), post_float64("S", [1.0, 2.0]))

    def test_take_a_place_each(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane, in_flight_max=2) as wire:
            slow = [wire.connect() for _ in self.UPLOADS]
            for connection, upload in zip(slow, self.UPLOADS, strict=True):
                assert connection.ask(upload[:-9]) == b""
                assert connection.ask(upload[-9:-5]) == b""
            assert wire.app.state.service.metrics.in_flight == 2
            for upload in self.UPLOADS:
                other = wire.connect()
                reply = other.ask(upload[:-5])
                assert status_of(reply) == 429
                assert headers_of(reply)["retry-after"] == "1"
                assert other.ask(upload[-5:]) == b""
                assert not other.is_closed
            for connection, upload in zip(slow, self.UPLOADS, strict=True):
                assert status_of(connection.ask(upload[-5:])) == 201
            assert wire.app.state.service.metrics.in_flight == 0
            assert wire.manager["S"].sequence == 5
            assert status_of(other.ask(self.UPLOADS[0][:-1]) + other.ask(b"}")) == 201

    def test_give_it_back_when_they_end_otherwise(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane, in_flight_max=1) as wire:
            for upload in self.UPLOADS:
                gone = wire.connect()
                gone.ask(upload[:-1])
                assert wire.app.state.service.metrics.in_flight == 1
                gone.protocol.connection_lost(None)
                gone.receive()
                unfit = wire.connect()
                assert unfit.ask(upload[:-16]) == b""
                assert wire.app.state.service.metrics.in_flight == 1
                assert status_of(unfit.ask(b"\xff" * 16)) == 422
                assert wire.app.state.service.metrics.in_flight == 0

    def test_take_none_once_they_are_here(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane, in_flight_max=1) as wire:
            connection = wire.connect()
            for upload in self.UPLOADS * 3:
                assert status_of(connection.ask(upload)) == 201
            assert wire.app.state.service.metrics.in_flight == 0


def test_a_whole_batch_of_the_fast_lane_needs_no_place() -> None:
    with wire_of(in_flight_max=1) as wire:
        upload = post(batch("S", [1.0]))
        slow = wire.connect()
        slow.ask(upload[:-1])
        assert status_of(wire.connect().ask(upload)) == 201
        assert status_of(slow.ask(upload[-1:])) == 201


def test_a_request_that_is_broken_off_gives_its_place_back() -> None:
    with wire_of(in_flight_max=1) as wire:
        broken = wire.connect()
        broken.send(post(batch("S", [1.0]), "X-Request-ID: slow")[:-1])
        broken.receive()
        assert wire.app.state.service.metrics.in_flight == 1
        broken.protocol.connection_lost(None)
        other = wire.connect()
        assert status_of(other.ask(get("/symbols"))) == 200


def test_who_has_no_key_takes_no_place() -> None:
    with wire_of(in_flight_max=1, api_key=KEY) as wire:
        stranger = wire.connect()
        request = post(batch("S", [1.0]), WRONG[0])
        stranger.send(request[:-1])
        assert status_of(stranger.receive()) == 401
        assert status_of(wire.connect().ask(get("/symbols", RIGHT[0]))) == 200


def test_an_event_stream_takes_no_place_once_it_has_begun() -> None:
    app = create_app(Settings(largest_window=1000, in_flight_max=1))

    async def events() -> Any:
        for number in range(3):
            yield f"data: {number} {app.state.service.metrics.in_flight}\n\n"

    async def endpoint() -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    app.router.add_api_route("/numbers", endpoint)
    with InProcess(app) as client:
        assert client.get("/numbers").text == "data: 0 0\n\ndata: 1 0\n\ndata: 2 0\n\n"
        assert app.state.service.metrics.in_flight == 0


# --- CORS


@pytest.mark.parametrize("fast_lane", [False, True])
class TestCors:
    def test_is_off(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane) as wire:
            reply = wire.connect().ask(get("/stats/S/1", f"Origin: {ORIGIN}"))
            assert status_of(reply) == 200
            assert not [name for name in headers_of(reply) if name.startswith("access-control")]

    @pytest.mark.parametrize("target", ["/stats/S/1", "/symbols", "/stats/X/1"])
    def test_lets_a_page_read_what_it_is_answered(self, fast_lane: bool, target: str) -> None:
        with wire_of(fast_lane=fast_lane, cors_origins=(ORIGIN,)) as wire:
            connection = wire.connect()
            for _ in range(2):
                headers = headers_of(connection.ask(get(target, f"Origin: {ORIGIN}")))
                assert headers["access-control-allow-origin"] == ORIGIN
                assert headers["vary"] == "Origin"
                assert "X-Request-ID" in headers["access-control-expose-headers"]
                headers = headers_of(connection.ask(get(target, "Origin: https://evil.example")))
                assert "access-control-allow-origin" not in headers
                assert "access-control-allow-origin" not in headers_of(connection.ask(get(target)))

    def test_lets_a_page_read_that_it_was_refused(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane, cors_origins=(ORIGIN,), api_key=KEY) as wire:
            reply = wire.connect().ask(get("/stats/S/1", f"Origin: {ORIGIN}"))
            assert status_of(reply) == 401
            assert headers_of(reply)["access-control-allow-origin"] == ORIGIN

    @pytest.mark.parametrize(
        ("method", "target"),
        [("GET", "/stats/S/1"), ("POST", "/add_batch/"), ("DELETE", "/symbols/S")],
    )
    def test_answers_a_preflight_without_a_key(
        self, fast_lane: bool, method: str, target: str
    ) -> None:
        asked = (
            *(f"Origin: {ORIGIN}", f"Access-Control-Request-Method: {method}"),
            "Access-Control-Request-Headers: x-api-key, content-type, authorization",
        )
        with wire_of(fast_lane=fast_lane, cors_origins=(ORIGIN,), api_key=KEY) as wire:
            connection = wire.connect()
            reply = connection.ask(get(target, *asked, method="OPTIONS"))
            assert status_of(reply) == 200
            headers = headers_of(reply)
            assert headers["access-control-allow-origin"] == ORIGIN
            assert method in headers["access-control-allow-methods"]
            assert "X-API-Key" in headers["access-control-allow-headers"]
            assert "access-control-allow-credentials" not in headers
            strange = ("Origin: https://evil.example", *asked[1:])
            assert status_of(connection.ask(get(target, *strange, method="OPTIONS"))) == 400

    def test_may_be_on_for_all(self, fast_lane: bool) -> None:
        with wire_of(fast_lane=fast_lane, cors_origins=("*",)) as wire:
            reply = wire.connect().ask(get("/stats/S/1", "Origin: https://anyone.example"))
            assert headers_of(reply)["access-control-allow-origin"] == "*"


# --- Ids


class TestRequestId:
    @pytest.mark.parametrize("request_id", ["a", "4bf92f3577b34da6-a/b+c=:._", "x" * 128])
    def test_a_fit_one_is_given_back(self, request_id: str) -> None:
        with wire_of() as wire:
            for target in ("/stats/S/1", "/symbols", "/nowhere"):
                reply = wire.connect().ask(get(target, f"X-Request-ID: {request_id}"))
                assert headers_of(reply)["x-request-id"] == request_id

    @pytest.mark.parametrize(
        "request_id", ["x" * 129, "a b", 'a"b', "a]b", "a\tb", "é", "\x7f", "a{b}", "<script>", ""]
    )
    def test_one_that_could_pass_for_something_else_in_a_log_is_replaced(
        self, request_id: str
    ) -> None:
        with wire_of() as wire:
            reply = wire.connect().ask(get("/symbols", f"X-Request-ID: {request_id}"))
            if status_of(reply) == 400:  # The parser does not take it.
                return
            assert re.fullmatch("[0-9a-f]{32}", headers_of(reply)["x-request-id"])

    def test_white_space_around_it_is_no_part_of_it(self) -> None:
        with wire_of() as wire:
            reply = wire.connect().ask(get("/symbols", "X-Request-ID:  an-id \t"))
            assert headers_of(reply)["x-request-id"] == "an-id"

    def test_nobody_asked_for_one(self) -> None:
        with wire_of() as wire:
            connection = wire.connect()
            for target in ("/stats/S/1", "/symbols"):
                assert "x-request-id" not in headers_of(connection.ask(get(target)))

    def test_what_is_logged_has_one(self) -> None:
        with wire_of(access_log=True) as wire:
            headers = [headers_of(wire.connect().ask(get("/symbols"))) for _ in range(2)]
            assert headers[0]["x-request-id"] != headers[1]["x-request-id"]
