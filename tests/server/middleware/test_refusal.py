"""A refusal by the middleware: a reply in the shape of all others, or a denied handshake."""

from __future__ import annotations

from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from support.middleware import KEY, handshake


class TestWebSockets:
    def test_are_closed_where_a_server_takes_no_reply(self) -> None:
        app = create_app(Settings(largest_window=1000, api_key=KEY))  # type: ignore[arg-type]
        said = handshake(app, "/stream", extensions=())
        assert said == [{"type": "websocket.close", "code": 1008}]
