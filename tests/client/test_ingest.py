"""Streamed batches: what was not answered is sent again, and every price is stored once.

A server of a few lines breaks off between two answers, refuses handshakes, and answers half of what
was sent.
"""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

import financial_data_service as fds
from financial_data_service import AsyncClient
from financial_data_service.client import Receipt, Retries
from financial_data_service.client.ingest import Frames
from support.scripted_streams import QUICK, Handler, run, scripted, telling


class TestFrames:
    def frames(self, is_asked: bool = True) -> Frames:
        frames = Frames("A", 10, is_asked, "ws://model/ingest/A")
        for size in (2, 3, 1):
            frames.put(np.ones(size))
        return frames

    def test_all_is_sent_again_that_was_not_answered(self) -> None:
        frames = self.frames()
        assert [len(frames.next() or b"") for _ in range(4)] == [16, 24, 8, 0]
        frames.answered('{"sequence":12,"added":2}')
        assert frames.receipt == Receipt("A", 2, 12)
        frames.begin_anew()
        assert [len(frames.next() or b"") for _ in range(3)] == [24, 8, 0]
        frames.answered('{"sequence":16,"added":0}')  # It was stored, the answer lost.
        frames.answered('{"sequence":16,"added":1}')
        assert frames.receipt == Receipt("A", 6, 16)
        assert len(frames) == 0

    def test_the_same_prices_of_another_are_a_conflict(self) -> None:
        frames = self.frames()
        frames.next()
        with pytest.raises(fds.SequenceConflictError, match="nobody else"):
            frames.answered('{"sequence":12,"added":1}')

    def test_a_place_given_may_be_filled(self) -> None:
        frames = self.frames(is_asked=False)
        frames.next()
        frames.answered('{"sequence":16,"added":0}')
        assert frames.receipt == Receipt("A", 0, 12)

    @pytest.mark.parametrize(
        ("message", "kind"),
        [
            ('{"error":{"code":409,"msg":"they differ"},"sequence":4}', fds.SequenceConflictError),
            ('{"error":{"code":503,"msg":"no file"}}', fds.ServiceUnavailableError),
            ('{"error":{"code":422,"msg":"no price"}}', fds.ServiceError),
            ("hello", fds.ServiceError),
        ],
    )
    def test_refusals(self, message: str, kind: type[Exception]) -> None:
        with pytest.raises(kind):
            self.frames().answered(message)


class Intake:
    """The other end of a way in: it stores, and breaks off as often as it is told to.

    Parameters
    ----------
    breaks : sequence of int
        After how many frames of each connection it breaks off; of the last one its answer is lost.
    """

    def __init__(self, *breaks: int) -> None:
        self.prices: list[float] = []
        self.breaks = list(breaks)
        self.repeated = 0

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        position = int(connection.request.path.partition("from_sequence=")[2])
        frames_max = self.breaks.pop(0) if self.breaks else 10**9
        async for frame in connection:
            values = np.frombuffer(bytes(frame), "<f8").tolist()  # type: ignore[arg-type]
            known = self.prices[position : position + len(values)]
            assert position <= len(self.prices)
            assert known == values[: len(known)]
            self.prices += values[len(known) :]
            self.repeated += len(known)
            position += len(values)
            frames_max -= 1
            if frames_max <= 0:
                connection.transport.abort()
                return
            answer = {"sequence": len(self.prices), "added": len(values) - len(known)}
            await connection.send(json.dumps(answer))


class TestIngest:
    def client(self, url: str) -> AsyncClient:
        client = AsyncClient(url, retries=QUICK)
        client._session.limits = fds.client.Limits(10, 10**8, 4)
        return client

    @pytest.mark.parametrize("breaks", [(), (1,), (3, 1, 1, 7), (1, 503, 2)])
    def test_what_was_not_answered_is_sent_again_and_stored_once(
        self, breaks: tuple[int, ...]
    ) -> None:
        async def main() -> None:
            intake = Intake(*(count for count in breaks if count != 503))
            handlers = [503 if count == 503 else intake for count in breaks]
            async with scripted(*handlers, intake) as (url, connections):
                async with self.client(url).ingest("A", from_sequence=0) as ingest:
                    for begin in range(0, 100, 10):
                        await ingest.send(range(begin, begin + 10))
                    assert await ingest.flush() == ingest.receipt
                assert intake.prices == list(range(100))
                assert ingest.receipt.sequence == 100
                assert (intake.repeated > 0) == (len(connections) > 1) == bool(breaks)

        run(main)

    def test_batches_do_not_wait_for_answers(self) -> None:
        async def main() -> None:
            arrived: list[str | bytes] = []
            enough = asyncio.Event()

            async def never_answer(connection: ServerConnection) -> None:
                while True:
                    arrived.append(await connection.recv())
                    if len(arrived) == 64:
                        enough.set()

            async with scripted(never_answer) as (url, _):
                sending = asyncio.create_task(self.send_all(self.client(url)))
                await enough.wait()
                await asyncio.sleep(0.02)
                assert len(arrived) == 64  # More are not handed over without an answer.
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending

        run(main)

    async def send_all(self, client: AsyncClient) -> None:
        async with client.ingest("A", from_sequence=0) as ingest:
            await ingest.send(np.ones(400))

    def test_a_service_that_stays_away(self) -> None:
        async def main() -> None:
            intake = Intake(3)
            async with scripted(intake, 503) as (url, _):
                client = self.client(url)
                client._session.retries = Retries(count=3, pause_seconds=0.001)
                with pytest.raises(fds.ServiceUnavailableError) as info:
                    await self.send_all(client)
                assert info.value.receipt == Receipt("A", 8, 8)

        run(main)

    def test_a_refused_handshake_says_how_long_to_wait(self) -> None:
        async def main() -> None:
            async with scripted(503, Intake(), retry_after="1") as (url, _):
                started = time.monotonic()
                await self.send_all(self.client(url))
                assert time.monotonic() - started >= 1

        run(main)

    def test_outside_its_block(self) -> None:
        async def main() -> None:
            async with scripted(Intake()) as (url, _):
                ingest = self.client(url).ingest("A", from_sequence=0)
                for use in (lambda: ingest.send([1.0]), ingest.flush):
                    with pytest.raises(ValueError, match="async with client"):
                        await use()
                with pytest.raises(ValueError, match="async with client"):
                    _ = ingest.receipt
                async with ingest:
                    await ingest.send([1.0])
                assert ingest.receipt == Receipt("A", 1, 1)
                for use in (lambda: ingest.send([1.0]), ingest.flush):
                    with pytest.raises(ValueError, match="async with client"):
                        await asyncio.wait_for(use(), 5)

        run(main)

    @pytest.mark.parametrize("ending", [401, telling(then=1008), telling(then=4413)])
    def test_a_final_refusal(self, ending: Handler | int) -> None:
        async def main() -> None:
            async with scripted(ending) as (url, _):
                with pytest.raises(fds.ServiceError):
                    await self.send_all(self.client(url))

        run(main)
