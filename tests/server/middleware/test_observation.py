"""Ids of requests: a valid one is returned, any other is replaced, and what is logged has one."""

from __future__ import annotations

import re

import pytest

from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from support.middleware import KEY, handshake, headers_of, refusal, status_of, wire_of
from support.raw_http import get


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


class TestWebSockets:
    def test_are_told_their_id_when_they_are_refused(self) -> None:
        app = create_app(Settings(largest_window=1000, api_key=KEY))  # type: ignore[arg-type]
        for header, status in ((("x-api-key", "x"), 401), (("origin", "https://evil"), 403)):
            said = handshake(app, "/stream", ("x-request-id", "an-id"), header)
            assert refusal(said)[:1] == (status,)
            assert refusal(said)[1][b"x-request-id"] == b"an-id"
