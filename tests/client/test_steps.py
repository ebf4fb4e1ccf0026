"""Paths of requests: each symbol is one segment, however it is spelled."""

from __future__ import annotations

import pytest

from financial_data_service.client.steps import path_of


class TestOptions:
    @pytest.mark.parametrize(
        ("symbol", "path"),
        [
            ("BTC/USDT", "/stats/BTC%2FUSDT"),
            ("..", "/stats/%2E%2E"),
            (".", "/stats/%2E"),
            ("BRK.A", "/stats/BRK.A"),
            ("ü%?#&+ ", "/stats/%C3%BC%25%3F%23%26%2B%20"),
        ],
    )
    def test_symbols_in_paths(self, symbol: str, path: str) -> None:
        assert path_of("stats", symbol) == path
