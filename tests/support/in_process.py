"""The application without a server: requests are calls, errors of ours are exceptions."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from fastapi import FastAPI

Result = TypeVar("Result")


class InProcess:
    """A client of an application, which lives from ``with`` to its end.

    (Starlette's own test client warns of the HTTP library that this project uses.)
    """

    def __init__(self, app: FastAPI, root_path: str = "") -> None:
        self.app = app
        transport = httpx.ASGITransport(app, root_path=root_path)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://test")
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._runner.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _start(self) -> None:
        await self._stack.enter_async_context(self.app.router.lifespan_context(self.app))
        await self._stack.enter_async_context(self._client)

    def request(self, method: str, target: str, **options: Any) -> httpx.Response:
        """Return the answer to a request; options are those of httpx."""
        return self.run(self.send(method, target, **options))

    async def send(self, method: str, target: str, **options: Any) -> httpx.Response:
        """Return the answer to a request, in the application's own event loop."""
        return await self._client.request(method, target, **options)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in the application's event loop."""
        return self._runner.run(coroutine)

    def get(self, target: str) -> httpx.Response:
        """Return the answer to GET."""
        return self.request("GET", target)

    def post(self, target: str, **options: Any) -> httpx.Response:
        """Return the answer to POST."""
        return self.request("POST", target, **options)
