"""Keys of a query: an unknown or repeated one is named, a value never is.

``tests/conformance/test_addresses.py`` asks the same of every route.
"""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.server.api.query_keys import errors_of

KEYS = st.sampled_from(["k", "last", "K", "from_sequenc", "é", "a b", ""])


@pytest.mark.parametrize(
    ("query", "known", "found"),
    [
        (b"", ["k"], []),
        (b"k=1", ["k"], []),
        (b"k=", ["k"], []),
        (b"k", ["k"], []),
        (b"last=1&k=2", ["k", "last"], []),
        (b"%6B=1", ["k"], []),
        (b"k=1&k=1", ["k"], [("query_key_twice", "Expected `k` once, got it 2 times")]),
        (b"k=1&%6b=1&k", ["k"], [("query_key_twice", "Expected `k` once, got it 3 times")]),
        (b"x=1", [], [("query_key_unknown", "Expected no query, got `x`")]),
        (b"K=1", ["k"], [("query_key_unknown", "Expected no query key but `k`, got `K`")]),
        (
            b"x=1&x=2",
            ["k", "last"],
            [("query_key_unknown", "Expected no query key but `k` or `last`, got `x`")],
        ),
    ],
)
def test_what_is_wrong_with_a_query(
    query: bytes, known: list[str], found: list[tuple[str, str]]
) -> None:
    assert [(each["type"], each["msg"]) for each in errors_of(query, known)] == found


@given(st.lists(KEYS, max_size=6))
def test_a_query_is_right_if_each_key_is_known_and_there_once(keys: list[str]) -> None:
    query = urlencode([(key, "v") for key in keys]).encode()
    is_right = set(keys) <= {"k", "last"} and len(set(keys)) == len(keys)
    errors = errors_of(query, ["k", "last"])
    assert (not errors) == is_right
    wrong = {key for key in keys if key not in ("k", "last") or keys.count(key) > 1}
    assert {error["loc"] for error in errors} == {("query", key) for key in wrong}


def test_no_value_is_quoted_and_errors_are_few_and_short() -> None:
    secret = "a-key-of-24-characters-x"
    query = "&".join(f"{'x' * 1000}{number}={secret}" for number in range(100))
    errors = errors_of(query.encode(), ["api_key"])
    assert len(errors) == 8
    assert secret not in repr(errors)
    assert len(repr(errors)) < 3000
    assert secret not in repr(errors_of(f"api_key={secret}&api_key={secret}".encode(), ["api_key"]))
