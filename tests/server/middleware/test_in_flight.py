"""The limit of requests in flight: which requests count, until when, and which never do."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import StreamingResponse

from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.middleware import KEY, RIGHT, WRONG, headers_of, status_of, wire_of
from support.raw_http import batch, get, post, post_float64


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
                invalid = wire.connect()
                assert invalid.ask(upload[:-16]) == b""
                assert wire.app.state.service.metrics.in_flight == 1
                assert status_of(invalid.ask(b"\xff" * 16)) == 422
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
