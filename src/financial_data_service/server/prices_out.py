"""The last prices of a symbol, on their way out: in pieces, in one of four formats.

Nothing is locked: while prices are read others may be written. All pieces are of the window as it
was when the first was read. Each is copied, and then it is made sure that newer prices have not
come round to its slots meanwhile (:mod:`~financial_data_service.storage.held`); so what is sent is
right, to the last piece or up to a point at which the connection is broken off. There is one piece
in memory at a time, whatever is asked for.
"""

from __future__ import annotations

import asyncio
import io
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Send

from financial_data_service.errors import FdsError, OverwrittenError, WindowSizeError
from financial_data_service.server.replies import encode
from financial_data_service.storage.held import Held

__all__ = ["FORMATS", "PriceFormat", "PriceStream", "Span", "pieces", "prices_response"]

Prices = npt.NDArray[np.float64]

TRIES = 5
"""How often the first piece is read anew because a writer went over it."""

logger = logging.getLogger("uvicorn.error")


class Span(NamedTuple):
    """Which prices of a symbol: numbers ``first`` to ``sequence``, counted from 0, the first ever.

    Attributes
    ----------
    symbol : str
        Whose.
    first : int
        How many prices came before them.
    sequence : int
        Prices ever appended, these included.
    """

    symbol: str
    first: int
    sequence: int

    @property
    def length(self) -> int:
        """Number of prices."""
        return self.sequence - self.first


class PriceFormat(ABC):
    """How prices are written; one object for each reply.

    Attributes
    ----------
    media_type : str
        As it is asked for and declared.
    piece_max : int
        Prices to a piece: what the event loop writes in about a millisecond.
    """

    media_type: ClassVar[str]
    piece_max: ClassVar[int]

    def __init__(self, span: Span) -> None:
        self.span = span

    @abstractmethod
    def piece(self, first: int, prices: Prices) -> bytes:
        """Return a piece, of which the first price has number `first`."""

    def begin(self) -> bytes:
        """Return what comes before the first piece."""
        return b""

    def end(self) -> bytes:
        """Return what comes after the last piece."""
        return b""

    def content_length(self) -> int | None:
        """Return the length of the whole in bytes, where it is known beforehand."""
        return None


class JsonFormat(PriceFormat):
    """``{"symbol": …, "sequence": …, "first": …, "values": […]}``; numbers read back to the bit."""

    media_type = "application/json"
    piece_max = 4096

    def begin(self) -> bytes:
        """Return everything up to the array's bracket."""
        symbol, first, sequence = self.span
        head = encode({"symbol": symbol, "sequence": sequence, "first": first})
        return head[:-1] + b',"values":['

    def piece(self, first: int, prices: Prices) -> bytes:
        """Return numbers parted by commas."""
        comma = b"" if first == self.span.first else b","
        return comma + encode(prices.tolist())[1:-1]

    def end(self) -> bytes:
        """Return the brackets that close."""
        return b"]}"


class CsvFormat(PriceFormat):
    """``sequence,price``, a line to a price; numbers read back to the bit."""

    media_type = "text/csv"
    piece_max = 2048

    def begin(self) -> bytes:
        """Return the line of names."""
        return b"sequence,price\n"

    def piece(self, first: int, prices: Prices) -> bytes:
        """Return lines."""
        # A JSON array of pairs is lines of CSV but for what stands between them.
        pairs = encode(list(enumerate(prices.tolist(), first)))
        return pairs[2:-2].replace(b"],[", b"\n") + b"\n"


class Float64Format(PriceFormat):
    """Little-endian float64, one after the other and nothing else."""

    media_type = "application/octet-stream"
    piece_max = 32768

    def piece(self, first: int, prices: Prices) -> bytes:
        """Return the bytes of the prices."""
        return prices.astype("<f8", copy=False).tobytes()

    def content_length(self) -> int:
        """Return 8 bytes a price."""
        return 8 * self.span.length


class ArrowFormat(PriceFormat):
    """An Arrow IPC stream of columns ``sequence`` (int64) and ``price`` (float64)."""

    media_type = "application/vnd.apache.arrow.stream"
    piece_max = 16384

    def __init__(self, span: Span) -> None:
        # Loaded by the first who asks for Arrow: a service comes up without it.
        import nanoarrow
        from nanoarrow.ipc import StreamWriter

        super().__init__(span)
        self._arrow: Any = nanoarrow
        self._schema = nanoarrow.c_schema(
            nanoarrow.struct(
                {
                    "sequence": nanoarrow.int64(nullable=False),
                    "price": nanoarrow.float64(nullable=False),
                }
            )
        )
        self._out = io.BytesIO()
        self._writer: Any = StreamWriter.from_writable(self._out)

    def piece(self, first: int, prices: Prices) -> bytes:
        """Return a record batch, the first with the schema before it."""
        count, na = len(prices), self._arrow
        sequences = np.arange(first, first + count, dtype=np.int64)
        columns = [
            na.c_array_from_buffers(na.int64(), count, [None, sequences]),
            na.c_array_from_buffers(na.float64(), count, [None, prices]),
        ]
        self._writer.write_stream(
            na.c_array_from_buffers(self._schema, count, [None], children=columns)
        )
        return self._taken()

    def end(self) -> bytes:
        """Return the mark of the end."""
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        written = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return written


FORMATS: dict[str, type[PriceFormat]] = {
    "json": JsonFormat,
    "csv": CsvFormat,
    "float64": Float64Format,
    "arrow": ArrowFormat,
}
"""By the name that ``?format=`` takes, the one that is preferred first."""


def pieces(held: Held, span: Span, piece_max: int) -> Iterator[tuple[int, Prices]]:
    """Yield the prices of a span, oldest first, as copies that are right; with their numbers.

    Raises
    ------
    OverwrittenError
        When newer ones have come round to those that are next.
    SymbolNotFoundError
        When another process has deleted the symbol.
    """
    for begin in range(span.first, span.sequence, piece_max):
        prices = _copy(held, begin, min(span.sequence, begin + piece_max))
        held.must_hold(begin)
        yield begin, prices


def _copy(held: Held, begin: int, end: int) -> Prices:
    """Return a copy of prices, which may go round the ring's end."""
    capacity = held.geometry.capacity
    ring_end = begin + capacity - begin % capacity
    if end <= ring_end:
        return held.run(begin, end).copy()
    return np.concatenate((held.run(begin, ring_end), held.run(ring_end, end)))


def prices_response(held: Held, last: int, kind: type[PriceFormat]) -> Response:
    """Return the reply with the last prices of a symbol; its first piece has been read.

    Parameters
    ----------
    held : Held
        The prices.
    last : int
        How many are asked for: 1 to the largest window; while fewer have come, all.
    kind : type of PriceFormat
        How they are to be written.

    Raises
    ------
    WindowSizeError
        When so many are never kept.
    OverwrittenError
        When newer prices came faster than the first piece could be copied.
    SymbolNotFoundError
        When the symbol was deleted.
    """
    largest_window = held.geometry.largest_window
    if not 1 <= last <= largest_window:
        raise WindowSizeError(f"Window size (last={last}) must be between 1 and {largest_window}")
    for remaining in range(TRIES - 1, -1, -1):
        sequence = held.sequence
        span = Span(held.symbol, max(0, sequence - last), sequence)
        written = kind(span)
        rest = pieces(held, span, kind.piece_max)
        try:
            first = next(rest)
        except OverwrittenError:
            if not remaining:
                raise
        else:
            return _response(written, first, rest)
    raise AssertionError("unreachable")


def _response(
    written: PriceFormat, first: tuple[int, Prices], rest: Iterator[tuple[int, Prices]]
) -> Response:
    """Return the reply: as a whole where one piece is all."""
    span = written.span
    headers = {"X-First": str(span.first), "X-Sequence": str(span.sequence), "Vary": "Accept"}
    if len(first[1]) == span.length:
        content = written.begin() + written.piece(*first) + written.end()
        return Response(content, headers=headers, media_type=written.media_type)
    length = written.content_length()
    if length is not None:
        headers["Content-Length"] = str(length)
    return PriceStream(
        _bytes_of(written, first, rest), headers=headers, media_type=written.media_type
    )


class PriceStream(StreamingResponse):
    """Prices, sent piece by piece as the client takes them.

    When the rest can no longer be read, the connection is broken off without the end that HTTP
    asks for: no client takes for whole what is not.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the reply, or a part of it."""
        try:
            await super().stream_response(send)
        except FdsError as error:
            # To return here is to leave the reply unfinished; the server then closes.
            logger.warning("A reply was broken off: %s", error)


async def _bytes_of(
    written: PriceFormat, first: tuple[int, Prices], rest: Iterator[tuple[int, Prices]]
) -> AsyncIterator[bytes]:
    yield written.begin() + written.piece(*first)
    for piece in rest:
        # To send does not wait while the client is quick; others are to be served as well.
        await asyncio.sleep(0)
        yield written.piece(*piece)
    yield written.end()
