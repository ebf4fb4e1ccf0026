"""What service and client must agree on: media types, API keys, the default URL, stream names.

A name in this module is part of the protocol: changing it breaks clients.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from financial_data_service.symbols import check_symbol
from financial_data_service.windows import check_exponent

__all__ = [
    "API_KEY",
    "ARROW_TYPE",
    "DEFAULT_INTERVAL_MS",
    "DEFAULT_URL",
    "FLOAT64_TYPE",
    "INTERVAL_MS_MAX",
    "JSON_TYPE",
    "Stream",
    "SubscribedStream",
    "name_of",
    "parse_subscription",
]

FLOAT64_TYPE = "application/octet-stream"
ARROW_TYPE = "application/vnd.apache.arrow.stream"
JSON_TYPE = "application/json"

DEFAULT_URL = "http://127.0.0.1:8000"

# Printable ASCII without spaces, which a header can hold without quoting. Short keys can be
# guessed.
API_KEY = re.compile(r"[!-~]{16,256}")

DEFAULT_INTERVAL_MS = 100
INTERVAL_MS_MAX = 60_000


# --- Names of streams


class Stream(NamedTuple):
    """One window of one symbol, or of all symbols if `symbol` is None."""

    symbol: str | None
    k: int


class SubscribedStream(NamedTuple):
    """A stream and the shortest interval between its updates, in ms; 0 means every batch."""

    stream: Stream
    interval_ms: int

    @property
    def name(self) -> str:
        """The name of the stream with its interval, as ``LIST_SUBSCRIPTIONS`` shows it."""
        return f"{name_of(self.stream)}@{self.interval_ms}ms"


_NAME = re.compile(
    r"stats\.(?P<symbol>\*|[^.@*]+)\.(?P<k>0|[1-9][0-9]{0,3})(?:@(?P<interval>[0-9]{1,6})ms)?"
)
_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_ENCODED = str.maketrans({character: f"%{ord(character):02X}" for character in ".@*%"})
_NAME_SHOWN_MAX = 64  # characters of a name that are quoted


def name_of(stream: Stream) -> str:
    """Return the name of a stream without its interval, with separators percent-encoded."""
    symbol = "*" if stream.symbol is None else stream.symbol.translate(_ENCODED)
    return f"stats.{symbol}.{stream.k}"


def parse_subscription(name: str, largest_window: int) -> SubscribedStream:
    """Parse the name of a stream, with or without an interval.

    Raises
    ------
    ValueError
        When it is not the name of a stream. The message says what was expected.
    """
    match = _NAME.fullmatch(name)
    if match is None or _ESCAPE.search(name):
        raise ValueError(
            "Expected a stream `stats.<symbol>.<k>` or `stats.<symbol>.<k>@<interval>ms`, the "
            f"symbol `*` or percent-encoded where it holds one of `.@*%`, got `{shorten(name)}`"
        )
    symbol = None if match["symbol"] == "*" else _decoded(match["symbol"])
    k = int(match["k"])
    check_exponent(k, largest_window)
    interval_ms = DEFAULT_INTERVAL_MS if match["interval"] is None else int(match["interval"])
    if interval_ms > INTERVAL_MS_MAX:
        raise ValueError(f"Expected an interval of at most {INTERVAL_MS_MAX} ms, got {interval_ms}")
    return SubscribedStream(Stream(symbol, k), interval_ms)


def _decoded(symbol: str) -> str:
    try:
        decoded = unquote(symbol, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"Expected UTF-8 behind `%`, got `{shorten(symbol)}`") from None
    check_symbol(decoded)
    return decoded


def shorten(text: str) -> str:
    return text if len(text) <= _NAME_SHOWN_MAX else text[:_NAME_SHOWN_MAX] + "…"
