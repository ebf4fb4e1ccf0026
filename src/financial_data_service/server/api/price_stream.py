"""A reply with the last prices of a symbol, sent in pieces in one of four formats.

Nothing is locked: other prices may be appended meanwhile. All pieces belong to the window at the
time of the first. Each piece is copied, and then checked for overwritten prices
(:mod:`~financial_data_service.engine.ring_view`). So all prices that are sent are correct, even if
the connection is closed early. Only one piece is in memory at a time.
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

logger = logging.getLogger("financial_data_service.api")


def pieces(view: RingView, span: Span, piece_max: int) -> Iterator[tuple[int, Prices]]:
    """Yield the prices of a span, oldest first, as checked copies.

    Each copy comes with the number of its first price.

    Raises
    ------
    OverwrittenError
        When newer prices overwrote the next ones.
    SymbolNotFoundError
        When another process has deleted the symbol.
    """
    for begin in range(span.first, span.sequence, piece_max):
        prices = _copy(view, begin, min(span.sequence, begin + piece_max))
        view.check_not_overwritten(begin)
        yield begin, prices


def _copy(view: RingView, begin: int, end: int) -> Prices:
    """Return a copy of prices, which may wrap around the end of the ring."""
    capacity = view.geometry.capacity
    ring_end = begin + capacity - begin % capacity
    if end <= ring_end:
        return view.run(begin, end).copy()
    return np.concatenate((view.run(begin, ring_end), view.run(ring_end, end)))


def prices_response(view: RingView, last: int, kind: type[PriceFormat]) -> Response:
    """Return the reply with the last prices of a symbol. Its first piece is read already.

    Parameters
    ----------
    view : RingView
        The prices.
    last : int
        Number of prices, 1 to the largest window; all of them if there are fewer.
    kind : type of PriceFormat
        The format.

    Raises
    ------
    WindowSizeError
        When `last` is more than the largest window.
    OverwrittenError
        When newer prices overwrote the first piece during every attempt.
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
    """Return the reply. If the first piece holds all prices, the reply is sent as a whole."""
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
    """Prices, sent piece by piece as the client reads them.

    If the rest can no longer be read, the connection is closed without the end that HTTP requires.
    So no client takes a part for the whole.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the reply, or a part of it."""
        try:
            await super().stream_response(send)
        except FdsError as error:
            # Returning here leaves the reply unfinished; the server then closes the connection.
            logger.warning("A reply was broken off: %s", error)


async def _bytes_of(
    written: PriceFormat, first: tuple[int, Prices], rest: Iterator[tuple[int, Prices]]
) -> AsyncIterator[bytes]:
    yield written.begin() + written.piece(*first)
    for piece in rest:
        # Sending to a quick client never waits. Other requests must be served too.
        await asyncio.sleep(0)
        yield written.piece(*piece)
    yield written.end()
