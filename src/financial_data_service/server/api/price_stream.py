"""The last prices of a symbol, on their way out: in pieces, in one of four formats.

Nothing is locked: while prices are read others may be written. All pieces are of the window as it
was when the first was read. Each is copied, and then it is made sure that newer prices have not
come round to its slots meanwhile (:mod:`~financial_data_service.engine.ring_view`); so what is
sent is
right, to the last piece or up to a point at which the connection is broken off. There is one piece
in memory at a time, whatever is asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import numpy as np
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Send

from financial_data_service.engine.ring_view import RingView
from financial_data_service.errors import FdsError
from financial_data_service.server.formats.price_formats import PriceFormat, Prices, Span
from financial_data_service.windows import check_length

__all__ = ["PriceStream", "pieces", "prices_response"]

logger = logging.getLogger("uvicorn.error")


def pieces(view: RingView, span: Span, piece_max: int) -> Iterator[tuple[int, Prices]]:
    """Yield the prices of a span, oldest first, as copies that are right; with their numbers.

    Raises
    ------
    OverwrittenError
        When newer ones have come round to those that are next.
    SymbolNotFoundError
        When another process has deleted the symbol.
    """
    for begin in range(span.first, span.sequence, piece_max):
        prices = _copy(view, begin, min(span.sequence, begin + piece_max))
        view.check_not_overwritten(begin)
        yield begin, prices


def _copy(view: RingView, begin: int, end: int) -> Prices:
    """Return a copy of prices, which may go round the ring's end."""
    capacity = view.geometry.capacity
    ring_end = begin + capacity - begin % capacity
    if end <= ring_end:
        return view.run(begin, end).copy()
    return np.concatenate((view.run(begin, ring_end), view.run(ring_end, end)))


def prices_response(view: RingView, last: int, kind: type[PriceFormat]) -> Response:
    """Return the reply with the last prices of a symbol; its first piece has been read.

    Parameters
    ----------
    view : RingView
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
    check_length(last, view.geometry.largest_window)

    def begin(sequence: int) -> Response:
        """Return the reply once its first piece is read."""
        span = Span(view.symbol, max(0, sequence - last), sequence)
        written = kind(span)
        rest = pieces(view, span, kind.piece_max)
        return _response(written, next(rest), rest)

    return view.read_newest(begin)


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
