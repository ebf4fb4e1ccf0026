"""The outbox: texts, then updates, then the end; and room again once a client has read half."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from financial_data_service.server.stream.outbox import TEXTS_MAX, Close, Outbox


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def test_texts_come_before_what_is_noted_and_the_end_before_that() -> None:
    class Source:
        def collect(self) -> list[str]:
            return ["c", "d"]

    async def body() -> None:
        outbox = Outbox()
        outbox.notify(Source())
        outbox.put("a")
        outbox.put("b")
        assert [await outbox.take() for _ in range(4)] == ["a", "b", "c", "d"]
        outbox.notify(Source())
        outbox.put("e")
        outbox.close(1000, "x")
        outbox.close(1001, "too late")
        assert [await outbox.take() for _ in range(2)] == ["e", Close(1000, "x")]

    run(body())


def test_who_waits_for_room_gets_it_when_half_is_taken_or_nobody_takes() -> None:
    async def body() -> None:
        outbox = Outbox()
        for _ in range(TEXTS_MAX):
            await outbox.room()
            outbox.put("x")
        assert not outbox.has_room
        waiting = asyncio.create_task(outbox.room())
        await asyncio.sleep(0)
        for _ in range(TEXTS_MAX // 2):
            assert not waiting.done()
            await outbox.take()
            await asyncio.sleep(0)
        await waiting
        for _ in range(TEXTS_MAX):
            outbox.put("x")
        waiting = asyncio.create_task(outbox.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.abandon()
        await waiting

    run(body())
