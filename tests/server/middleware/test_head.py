"""``HEAD`` as the middleware makes a ``GET`` of it; ``tests/conformance`` compares both lanes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from financial_data_service.server.app import create_app
from financial_data_service.server.middleware.head import HEAD_FLAG, HeadMiddleware
from financial_data_service.settings import Settings
from support.in_process import InProcess


@pytest.mark.parametrize("method", ["HEAD", "GET", "POST"])
def test_the_application_sees_get_and_everything_outside_head(method: str) -> None:
    scope: Scope = {"type": "http", "method": method}
    seen: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        seen.append((scope["method"], HEAD_FLAG in scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"12", "more_body": True})
        await send({"type": "http.response.body", "body": b"3"})

    async def send(message: Any) -> None:
        sent.append((scope["method"], message.get("body"), message.get("more_body")))

    async def receive() -> Any:
        raise AssertionError

    asyncio.run(HeadMiddleware(app)(scope, receive, send))
    is_head = method == "HEAD"
    assert seen == [("GET", True) if is_head else (method, False)]
    bodies = [None, b"", b""] if is_head else [None, b"12", b"3"]
    assert sent == [
        (method, body, more) for body, more in zip(bodies, (None, True, None), strict=True)
    ]
    assert scope["method"] == method, "the log reads it at the end"


def test_head_counts_as_get() -> None:
    with InProcess(create_app(Settings())) as client:
        for _ in range(3):
            assert client.request("HEAD", "/symbols").status_code == 200
        text = client.get("/metrics").text
    line = 'fds_requests_total{lane="slow",method="GET",route="/symbols",status="200"} 3.0'
    assert line in text
