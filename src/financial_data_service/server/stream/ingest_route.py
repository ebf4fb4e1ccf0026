"""``WS /ingest/{symbol}``: a batch of prices per binary frame, each frame with a reply.

A frame is stored as a whole or not at all, like a batch of ``POST /add_batch/``. ``from_sequence``
is the sequence of the first frame. Each further frame continues from the end of the frame before.
After a lost connection, a client resends the frames that got no reply. Prices that are already
stored are compared and not added again.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, HTTPException, Path, WebSocket

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import (
    FdsError,
    InvalidBatchError,
    SequenceConflictError,
)
from financial_data_service.server.api.error_replies import error_item, status_of
from financial_data_service.server.api.symbol_path import whole_symbol
from financial_data_service.server.stream.channel import deny, run_connection
from financial_data_service.server.stream.handshake import API_KEY, invalid_query, invalid_symbol
from financial_data_service.server.stream.hub import Hub
from financial_data_service.server.stream.lifecycle import CloseCode
from financial_data_service.server.stream.outbox import Outbox
from financial_data_service.server.stream.session import error_message
from financial_data_service.server.stream.subscribe_route import RETRY_AFTER, full
from financial_data_service.settings import Settings

__all__ = ["Intake", "add_ingest_route"]

PRICE_BYTES = 8

_encode = msgspec.json.Encoder().encode


class Intake:
    """The frames of one connection, in order.

    Parameters
    ----------
    manager : SymbolManager
        Stores the prices.
    symbol : str
        The symbol of the prices.
    from_sequence : int, optional
        Number of prices appended to the symbol before the first frame.
    """

    def __init__(
        self, manager: SymbolManager, symbol: str, from_sequence: int | None = None
    ) -> None:
        self._manager = manager
        self._symbol = symbol
        self._position = from_sequence

    def receive(self, frame: str | bytes) -> tuple[str, int | None]:
        """Store a frame; return the reply and, if the connection is to close, the code.

        O(n). After an error no further frame may follow.
        """
        if isinstance(frame, str):
            return _refused(415, "Expected binary, got text", CloseCode.UNSUPPORTED)
        bytes_max = PRICE_BYTES * self._manager.batch_max
        if len(frame) > bytes_max:
            message = f"Expected a frame of {bytes_max} bytes at most, got {len(frame)}"
            return _refused(413, message, CloseCode.TOO_LARGE)
        if len(frame) % PRICE_BYTES:
            message = f"Expected whole doubles of 8 bytes, got {len(frame)} bytes"
            return _refused(422, message, CloseCode.UNFIT_DATA)
        try:
            return self._store(frame), None
        except InvalidBatchError as error:
            return _refused(422, str(error), CloseCode.UNFIT_DATA)
        except SequenceConflictError as error:
            return _refused(409, str(error), CloseCode.OF_ERROR + 409, {"sequence": error.sequence})
        except FdsError as error:
            status = status_of(error)
            return _refused(status, str(error), CloseCode.OF_ERROR + status)

    def _store(self, frame: bytes) -> str:
        prices = np.frombuffer(frame, "<f8")
        receipt = self._manager.add_batch(self._symbol, prices, self._position)
        if self._position is not None:
            self._position += prices.size
        return _encode({"sequence": receipt.sequence, "added": receipt.added}).decode()


def _refused(
    status: int, message: str, close_code: int, more: dict[str, Any] | None = None
) -> tuple[str, int]:
    return error_message(status, message, **(more or {})), close_code


def add_ingest_route(
    router: APIRouter, settings: Settings, manager: SymbolManager, hub: Hub
) -> None:
    """Add ``/ingest/{symbol}``, which needs a WebSocket."""

    @router.websocket("/ingest/{symbol}")
    async def ingest(websocket: WebSocket, symbol: Annotated[str, Path()]) -> None:
        """Store the frames of a client until either side closes."""
        given = websocket.query_params.get("from_sequence")
        invalid = (
            invalid_symbol(websocket, symbol)
            or invalid_query(websocket, "from_sequence", API_KEY)
            or _invalid_sequence(given)
        )
        if invalid is not None:
            await deny(websocket, 422, [invalid])
            return
        symbol = whole_symbol(websocket, symbol)
        if hub.is_full:
            await deny(websocket, 503, full(settings), retry_after=RETRY_AFTER)
            return
        intake = Intake(manager, symbol, None if given is None else int(given))
        outbox = Outbox()

        def handle(frame: str | bytes) -> None:
            text, close_code = intake.receive(frame)
            outbox.put(text)
            if close_code is not None:
                outbox.close(close_code, "see the error")

        hub.register_ingest(outbox)
        try:
            await run_connection(websocket, outbox, handle)
        finally:
            hub.remove_ingest(outbox)

    @router.get("/ingest/{symbol}", include_in_schema=False)
    async def ingest_without_websocket() -> None:
        """Answer a request without a WebSocket with what is missing."""
        raise HTTPException(
            426,
            "Expected a WebSocket handshake; single batches go to POST /add_batch/",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )


def _invalid_sequence(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 2**63:
        return None
    expected = "Expected a whole number from 0 to 2^63 - 1"
    return error_item("invalid_sequence", ("query", "from_sequence"), expected, text)
