"""Errors as replies: every error has a status, and an input is quoted only as JSON can hold it.

``tests/project/test_openapi.py`` compares the replies of every route with the document.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service import errors
from financial_data_service.server.api.error_replies import error_item, status_of

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidBatchError("x"), 422),
        (errors.InvalidSymbolError("x"), 422),
        (errors.WindowSizeError("x"), 422),
        (errors.SymbolLimitError(1), 400),
        (errors.SymbolNotFoundError("x"), 404),
        (errors.SequenceConflictError("x", 1), 409),
        (errors.InsufficientStorageError("x"), 507),
        (errors.SymbolFileError("x", "y"), 503),
        (errors.DataDirectoryError("x"), 503),
        (errors.OverwrittenError("x"), 503),
    ],
)
def test_each_error_has_its_status(error: errors.FdsError, status: int) -> None:
    assert status_of(error) == status


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**63 - 1, 2**63 - 1),
        (2**63, "an integer of 64 bits"),
        (10**5000, "an integer of 16610 bits"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 64 + "…"),
        ("🚀" * 65, "🚀" * 64 + "…"),
        ("\ud800", "?"),
        (b"\xff", "\ufffd"),
        ([1, [2]], "an array of 2"),
        ({"a": 1}, "an object of 1"),
        (object(), "a object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_quoted_of_an_input(value: object, shown: object) -> None:
    item = error_item("kind", ("body", "values", 3), "reason", value)
    assert item == {"type": "kind", "loc": ["body", "values", 3], "msg": "reason", "input": shown}


@given(ANYTHING)
def test_any_input_makes_a_short_item_that_json_can_hold(value: Any) -> None:
    text = json.dumps(error_item("kind", (), "reason", value), allow_nan=False, ensure_ascii=False)
    assert len(text.encode()) < 500
