"""CORS, which the stack adds if it is set: which replies a page of another site may read."""

from __future__ import annotations

import pytest

from support.middleware import KEY, ORIGIN, headers_of, status_of, wire_of
from support.raw_http import get


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
