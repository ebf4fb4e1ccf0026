"""What both ends say alike: media types, the API key's shape, the default URL, stream names."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from financial_data_service.prices import check_symbol
from financial_data_service.windows import check_exponent

__all__ = [
    "ARROW_TYPE",
    "DEFAULT_INTERVAL_MS",
    "DEFAULT_URL",
    "FLOAT64_TYPE",
    "INTERVAL_MS_MAX",
    "JSON_TYPE",
    "Stream",
    "Subscription",
    "name_of",
    "parse_subscription",
]

DEFAULT_INTERVAL_MS = 100
INTERVAL_MS_MAX = 60_000


# --- Names of streams


class Stream(NamedTuple):
    """What is watched: one window of one symbol, or of all symbols (None)."""

    symbol: str | None
    k: int


class Subscription(NamedTuple):
    """A stream, and how often at most it is told, in milliseconds; 0 is every batch."""

    stream: Stream
    interval_ms: int

    @property
    def name(self) -> str:
        """The name with its interval, as it is listed."""
        return f"{name_of(self.stream)}@{self.interval_ms}ms"


_NAME = re.compile(
    r"stats\.(?P<symbol>\*|[^.@*]+)\.(?P<k>0|[1-9][0-9]{0,3})(?:@(?P<interval>[0-9]{1,6})ms)?"
)
_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_ENCODED = str.maketrans({character: f"%{ord(character):02X}" for character in ".@*%"})
_NAME_SHOWN_MAX = 64  # characters of a name that are quoted


def name_of(stream: Stream) -> str:
    """Return the name of a stream, without an interval; what would part it is percent-encoded."""
    symbol = "*" if stream.symbol is None else stream.symbol.translate(_ENCODED)
    return f"stats.{symbol}.{stream.k}"


def parse_subscription(name: str, largest_window: int) -> Subscription:
    """Return what a name stands for.

    Raises
    ------
    ValueError
        When it is no name of a stream; the message says what was expected.
    """
    match = _NAME.fullmatch(name)
    if match is None or _ESCAPE.search(name):
        raise ValueError(
            "Expected a stream `stats.<symbol>.<k>` or `stats.<symbol>.<k>@<interval>ms`, the "
            f"symbol `*` or percent-encoded where it holds one of `.@*%`, got `{_shown(name)}`"
        )
    symbol = None if match["symbol"] == "*" else _decoded(match["symbol"])
    k = int(match["k"])
    check_exponent(k, largest_window)
    interval_ms = DEFAULT_INTERVAL_MS if match["interval"] is None else int(match["interval"])
    if interval_ms > INTERVAL_MS_MAX:
        raise ValueError(f"Expected an interval of at most {INTERVAL_MS_MAX} ms, got {interval_ms}")
    return Subscription(Stream(symbol, k), interval_ms)


def _decoded(symbol: str) -> str:
    try:
        decoded = unquote(symbol, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"Expected UTF-8 behind `%`, got `{_shown(symbol)}`") from None
    check_symbol(decoded)
    return decoded


def _shown(text: str) -> str:
    return text if len(text) <= _NAME_SHOWN_MAX else text[:_NAME_SHOWN_MAX] + "…"


FLOAT64_TYPE = "application/octet-stream"
ARROW_TYPE = "application/vnd.apache.arrow.stream"
JSON_TYPE = "application/json"

DEFAULT_URL = "http://127.0.0.1:8000"

# What a service may be given as its key. Its settings have it too: the client does not load them.
API_KEY = re.compile(r"[!-~]{16,256}")
