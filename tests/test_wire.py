"""Names of streams, there and back; whatever is no name is refused with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.symbols import SYMBOL_LENGTH_MAX
from financial_data_service.wire import Stream, SubscribedStream, name_of, parse_subscription
from support.stream_names import NAMES, NO_NAMES

LARGEST_WINDOW = 10**8


@pytest.mark.parametrize(("name", "stream", "interval_ms"), NAMES)
def test_a_name_stands_for_a_stream(name: str, stream: Stream, interval_ms: int) -> None:
    subscription = parse_subscription(name, LARGEST_WINDOW)
    assert subscription == SubscribedStream(stream, interval_ms)
    assert parse_subscription(subscription.name, LARGEST_WINDOW) == subscription


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"Expected|Window size"):
        parse_subscription(name, LARGEST_WINDOW)


def test_windows_end_where_the_service_says() -> None:
    assert parse_subscription("stats.A.2", 100).stream.k == 2
    with pytest.raises(ValueError, match=r"\(k=3\) must be between 1 and 2"):
        parse_subscription("stats.A.3", 100)


SYMBOLS = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=SYMBOL_LENGTH_MAX
)


@given(SYMBOLS, st.integers(1, 8), st.integers(0, 60_000))
def test_every_symbol_has_a_name(symbol: str, k: int, interval_ms: int) -> None:
    subscription = SubscribedStream(Stream(symbol, k), interval_ms)
    assert parse_subscription(subscription.name, LARGEST_WINDOW) == subscription
    assert subscription.name.startswith(name_of(Stream(symbol, k)) + "@")
    assert name_of(Stream(symbol, k)).count(".") == 2
