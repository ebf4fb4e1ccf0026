"""WebSockets are opened by pages of this service and of allowed origins, and by no others.

The application refuses them before anything accepts them, so no server is needed.
"""

from __future__ import annotations

import pytest

from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from support.middleware import ORIGIN, handshake, refusal


class TestWebSockets:
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
