"""Questions: one window is asked for by `k` or by `last`."""

from __future__ import annotations

import pytest

import financial_data_service as fds
from support.client_calls import Call
from support.client_model import ModelService


class TestErrors:
    @pytest.mark.parametrize("options", [{}, {"k": 1, "last": 2}])
    def test_one_window_is_asked_for_one_way(self, call: Call, options: dict[str, int]) -> None:
        with pytest.raises(fds.WindowSizeError, match="Expected either k or last"):
            call(ModelService(), "stats", "A", **options)
