"""Prices sent as a stream: ``WS /ingest/{symbol}`` kept connected, batches without waiting.

A batch is sent at once, and kept until its reply. If the connection breaks, the client reconnects
at the sequence of the last reply and resends all batches without a reply. The service compares the
prices that are already stored. So each batch is stored exactly once and in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect

from financial_data_service.client.adding import PIECE_MAX, as_float64
from financial_data_service.client.connection import Connection
from financial_data_service.client.failures import conflict, not_our_service, refusal
from financial_data_service.client.results import Receipt
from financial_data_service.client.retries import Retries, Tries
from financial_data_service.client.steps import Reply, path_of
from financial_data_service.client.subscription import FAILURES, asked_pause, final_error
from financial_data_service.errors import ServiceError, ServiceUnavailableError
from financial_data_service.prices import LITTLE_ENDIAN

__all__ = ["AsyncIngest", "Frames"]

UNANSWERED_MAX = 64
"""Maximum number of batches without a reply.

It is large enough to hide the round-trip time, and small enough to resend.
"""


@dataclass
class Frame:
    """A batch that was sent or waits to be sent."""

    content: bytes
    count: int
    is_repeated: bool = False


class _IngestReply(msgspec.Struct):
    sequence: int = 0
    added: int = 0
    error: dict[str, Any] | None = None


class Frames:
    """The frames of one symbol that have no reply yet. It does no input or output.

    Invariant: all prices before `position` are stored, the waiting frames follow it without a gap,
    and the first `sent` of them were sent on the current connection.

    Parameters
    ----------
    symbol : str
        The symbol of the prices.
    position : int
        Number of prices appended to the symbol before the first frame.
    is_asked : bool
        True if `position` came from the service, False if the caller gave it. If it came from the
        service, prices that are already stored there must be from this stream.
    url : str
        For error messages.
    """

    def __init__(self, symbol: str, position: int, is_asked: bool, url: str) -> None:
        self.symbol, self.position, self.url = symbol, position, url
        self.added = 0
        self.sent = 0
        self._is_asked = is_asked
        self._waiting: deque[Frame] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def receipt(self) -> Receipt:
        """The acknowledged prices."""
        return Receipt(self.symbol, self.added, self.position)

    def put(self, prices: npt.NDArray[np.float64]) -> None:
        """Append prices to those that wait."""
        content = prices.astype(LITTLE_ENDIAN, copy=False).tobytes()
        self._waiting.append(Frame(content, prices.size))

    def next(self) -> bytes | None:
        """Return the next frame to send and mark it as sent, or return None."""
        if self.sent == len(self._waiting):
            return None
        self.sent += 1
        return self._waiting[self.sent - 1].content

    def begin_anew(self) -> None:
        """Send all frames without a reply again, on another connection."""
        for index in range(self.sent):
            self._waiting[index].is_repeated = True
        self.sent = 0

    def answered(self, message: str | bytes) -> None:
        """Handle the reply to the oldest frame.

        Raises
        ------
        ServiceError
            When the service refuses the frame.
        """
        try:
            answer = msgspec.json.decode(message, type=_IngestReply)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise not_our_service(self.url) from None
        if answer.error is not None:
            raise self._refused(answer)
        frame = self._waiting.popleft()
        self.sent -= 1
        if answer.added < frame.count and self._is_asked and not frame.is_repeated:
            raise self._blamed(
                conflict(
                    f"Expected nobody else to add prices to {self.symbol} meanwhile, but the same "
                    f"were there from sequence {self.position} on",
                    answer.sequence,
                    self.url,
                )
            )
        # If the service gave the position, prices that were already stored were added by an earlier
        # attempt with this frame.
        self.added += frame.count if self._is_asked else answer.added
        self.position += frame.count

    def _refused(self, answer: _IngestReply) -> ServiceError:
        assert answer.error is not None
        body = {"detail": str(answer.error.get("msg")), "sequence": answer.sequence}
        reply = Reply(int(answer.error.get("code", 0)), {}, msgspec.json.encode(body))
        return self._blamed(refusal(reply, self.url))

    def _blamed(self, error: ServiceError) -> ServiceError:
        error.receipt = self.receipt
        return error


class AsyncIngest:
    """A stream for adding prices to one symbol; made by :meth:`AsyncClient.ingest`.

    Use it with ``async with``; the end of the block waits for all replies. Only one task may use
    it.

    Parameters
    ----------
    connection, retries
        Of the client.
    begin : callable
        Awaited, returns the first sequence and the maximum batch of the service.
    """

    _frames: Frames
    _batch_max: int
    _is_open = False

    def __init__(
        self,
        connection: Connection,
        retries: Retries,
        begin: Callable[[], Awaitable[tuple[Frames, int]]],
    ) -> None:
        self._connection = connection
        self._retries = retries
        self._begin = begin
        self._failure: BaseException | None = None
        self._changed = asyncio.Event()
        self._to_send = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def receipt(self) -> Receipt:
        """The prices acknowledged so far."""
        if self._keeper is None:
            raise self._outside()
        return self._frames.receipt

    async def __aenter__(self) -> Self:
        self._frames, batch_max = await self._begin()
        self._batch_max = min(batch_max, PIECE_MAX)
        self._keeper = asyncio.create_task(self._keep())
        self._is_open = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            assert self._keeper is not None
            self._is_open = False
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper

    async def send(self, values: npt.ArrayLike) -> None:
        """Send prices, oldest first. It waits only while 64 batches have no reply.

        Parameters
        ----------
        values : as for :meth:`Client.add_batch`
            1 or more prices.

        Raises
        ------
        InvalidBatchError
            When a price is invalid. Then none of the prices is sent.
        ValueError
            Outside the block of ``async with``.
        ServiceError
            When an earlier batch was refused, or all retries failed. All prices before
            ``receipt.sequence`` are stored.
        """
        self._must_be_open()
        prices = as_float64(values)
        for begin in range(0, prices.size, self._batch_max):
            await self._until(lambda: len(self._frames) < UNANSWERED_MAX)
            self._frames.put(prices[begin : begin + self._batch_max])
            self._to_send.set()

    async def flush(self) -> Receipt:
        """Wait for the replies to all batches. Errors as for :meth:`send`."""
        self._must_be_open()
        await self._until(lambda: not self._frames)
        return self.receipt

    def _must_be_open(self) -> None:
        if not self._is_open:
            raise self._outside()

    def _outside(self) -> ValueError:
        return ValueError("Expected to be used in `async with client.ingest(…) as ingest:`")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    async def _keep(self) -> None:
        try:
            await self._stay_connected()
        except Exception as failure:  # noqa: BLE001 - raised by the next send
            self._failure = failure
            self._changed.set()

    async def _stay_connected(self) -> None:
        tries = Tries(self._retries)
        while True:
            position = self._frames.position
            try:
                await self._converse()
            except ServiceError:  # An OSError too, but not a failure of the connection.
                raise
            except FAILURES as failure:
                if self._frames.position > position:  # Progress restarts the schedule.
                    tries = Tries(self._retries)
                self._frames.begin_anew()
                await asyncio.sleep(self._pause_after(failure, tries))

    def _pause_after(self, failure: Exception, tries: Tries) -> float:
        url = self._frames.url
        error = final_error(failure, url)
        pause = None if error else tries.next_pause(at_least=asked_pause(failure))
        if pause is not None:
            return pause
        error = error or ServiceUnavailableError(f"Cannot reach {url} ({failure}).", None, url)
        error.receipt = self.receipt
        raise error from failure

    async def _converse(self) -> None:
        target = path_of("ingest", self._frames.symbol, from_sequence=self._frames.position)
        address = self._connection.websocket_url(target)
        async with connect(address, **self._connection.websocket_options()) as socket:
            sender = asyncio.create_task(self._send_all(socket))
            try:
                while True:
                    self._frames.answered(await socket.recv())
                    self._changed.set()
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    async def _send_all(self, socket: ClientConnection) -> None:
        while True:
            frame = self._frames.next()
            if frame is None:
                self._to_send.clear()
                await self._to_send.wait()
            else:
                await socket.send(frame)
