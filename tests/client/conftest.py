"""The fixture that makes each call through both clients."""

from __future__ import annotations

import pytest

from support.client_calls import Call, async_call, sync_call


@pytest.fixture(params=[sync_call, async_call], ids=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Call:
    called: Call = request.param
    return called
