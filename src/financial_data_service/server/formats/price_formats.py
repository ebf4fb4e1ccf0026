"""The last prices of a symbol as JSON, CSV, float64 or an Arrow stream."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service.server.formats.json_encoder import encode

__all__ = ["FORMATS", "PriceFormat", "Span"]

Prices = npt.NDArray[np.float64]


class Span(NamedTuple):
    """A range of prices of a symbol: numbers ``first`` to ``sequence``, counted from 0.

    Attributes
    ----------
    symbol : str
        The symbol.
    first : int
        Number of prices before them.
    sequence : int
        Number of prices ever appended, these included.
    """

    symbol: str
    first: int
    sequence: int

    @property
    def length(self) -> int:
        """Number of prices."""
        return self.sequence - self.first


class PriceFormat(ABC):
    """A format for prices; one object per reply.

    Attributes
    ----------
    media_type : str
        The media type in requests and replies.
    piece_max : int
        Number of prices per piece. The event loop encodes a piece in about a millisecond.
    """

    media_type: ClassVar[str]
    piece_max: ClassVar[int]

    def __init__(self, span: Span) -> None:
        self.span = span

    @abstractmethod
    def piece(self, first: int, prices: Prices) -> bytes:
        """Return a piece whose first price has number `first`."""

    def begin(self) -> bytes:
        """Return the bytes before the first piece."""
        return b""

    def end(self) -> bytes:
        """Return the bytes after the last piece."""
        return b""

    def content_length(self) -> int | None:
        """Return the total length in bytes, or None if it is not known beforehand."""
        return None


class JsonFormat(PriceFormat):
    """``{"symbol": …, "sequence": …, "first": …, "values": […]}``; numbers read back exactly."""

    media_type = "application/json"
    piece_max = 4096

    def begin(self) -> bytes:
        """Return everything up to the bracket of the array."""
        symbol, first, sequence = self.span
        head = encode({"symbol": symbol, "sequence": sequence, "first": first})
        return head[:-1] + b',"values":['

    def piece(self, first: int, prices: Prices) -> bytes:
        """Return numbers separated by commas."""
        comma = b"" if first == self.span.first else b","
        return comma + encode(prices.tolist())[1:-1]

    def end(self) -> bytes:
        """Return the closing brackets."""
        return b"]}"


class CsvFormat(PriceFormat):
    """``sequence,price``, one line per price; numbers read back exactly."""

    media_type = "text/csv"
    piece_max = 2048

    def begin(self) -> bytes:
        """Return the header line."""
        return b"sequence,price\n"

    def piece(self, first: int, prices: Prices) -> bytes:
        """Return lines."""
        # Encode a JSON array of pairs, then replace its separators to get CSV.
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
        """Return 8 bytes per price."""
        return 8 * self.span.length


class ArrowFormat(PriceFormat):
    """An Arrow IPC stream of columns ``sequence`` (int64) and ``price`` (float64)."""

    media_type = "application/vnd.apache.arrow.stream"
    piece_max = 16384

    def __init__(self, span: Span) -> None:
        # Imported at the first request for Arrow, to keep the start of the service short.
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
        """Return a record batch; the first one after the schema."""
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
        """Return the end-of-stream marker."""
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
"""The formats, by their name in ``?format=``. The preferred format comes first."""
