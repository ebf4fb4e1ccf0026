"""Every error of the package has the base classes, the message and the attributes it documents.

The tests of each module check what raises them.
"""

from __future__ import annotations

import inspect
import pickle

import pytest

import financial_data_service
from financial_data_service import errors
from financial_data_service.errors import (
    DataDirectoryError,
    FdsError,
    InsufficientStorageError,
    InvalidBatchError,
    InvalidSymbolError,
    OverwrittenError,
    SequenceConflictError,
    ServiceError,
    ServiceUnavailableError,
    SymbolFileError,
    SymbolLimitError,
    SymbolNotFoundError,
    UnauthorizedError,
    UnconfirmedError,
    WindowSizeError,
)

KIN: dict[type[FdsError], type[Exception]] = {
    InvalidBatchError: ValueError,
    InvalidSymbolError: ValueError,
    WindowSizeError: ValueError,
    SymbolLimitError: ValueError,
    SequenceConflictError: ValueError,
    SymbolNotFoundError: LookupError,
    InsufficientStorageError: OSError,
    DataDirectoryError: OSError,
    SymbolFileError: OSError,
    OverwrittenError: RuntimeError,
    ServiceError: OSError,
    ServiceUnavailableError: ConnectionError,
    UnconfirmedError: ConnectionError,
    UnauthorizedError: PermissionError,
}


def classes() -> set[type[FdsError]]:
    members = [member for member in vars(errors).values() if inspect.isclass(member)]
    return {member for member in members if issubclass(member, FdsError)} - {FdsError}


@pytest.mark.parametrize(("error", "builtin"), KIN.items())
def test_every_error_is_also_a_builtin(error: type[FdsError], builtin: type[Exception]) -> None:
    assert issubclass(error, FdsError)
    assert issubclass(error, builtin)
    assert error.__doc__


def test_no_error_is_without_kin() -> None:
    for error in classes():
        assert issubclass(error, (ValueError, LookupError, OSError, TypeError, RuntimeError))


def test_every_error_is_listed_and_public() -> None:
    assert set(errors.__all__) == {error.__name__ for error in classes()} | {"FdsError"}
    assert set(KIN) <= classes()
    for name in errors.__all__:
        assert getattr(financial_data_service, name) is getattr(errors, name)
        assert name in financial_data_service.__all__


def test_messages_are_what_users_of_the_api_know() -> None:
    assert str(SymbolNotFoundError("AAPL")) == "Symbol AAPL not found"
    assert str(SymbolLimitError(10)) == "Maximum number of symbols (10) reached"
    assert str(SymbolLimitError(10, 3)) == (
        "Maximum number of symbols (10) reached; 3 of them cannot be served, see /readyz"
    )


def test_what_errors_carry() -> None:
    assert SequenceConflictError("differs", 7).sequence == 7
    assert InvalidBatchError("invalid", 3).index == 3
    assert InvalidBatchError("empty").index is None
    refused = SymbolFileError("A.ring", "cut short")
    assert (refused.path, refused.reason) == ("A.ring", "cut short")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SymbolNotFoundError("A"), "Symbol A not found"),
        (SymbolLimitError(10), "Maximum number of symbols (10) reached"),
        (SequenceConflictError("differs", 7), "differs"),
        (InvalidBatchError("invalid", 3), "invalid"),
        (InvalidSymbolError("invalid"), "invalid"),
        (WindowSizeError("invalid"), "invalid"),
        (InsufficientStorageError("full"), "full"),
        (DataDirectoryError("in use"), "in use"),
        (SymbolFileError("A.ring", "cut short"), "A.ring: cut short"),
        (OverwrittenError("gone"), "gone"),
        (ServiceError("no", 418, "GET /tea"), "no (418 from GET /tea)"),
        (ServiceUnavailableError("away"), "away"),
        (UnconfirmedError("in doubt"), "in doubt"),
        (UnauthorizedError("who?", 401, "GET /"), "who? (401 from GET /)"),
    ],
    ids=repr,
)
def test_errors_cross_processes(error: FdsError, message: str) -> None:
    """Pickled and back, as process pools and clusters do it: kind, message and attributes."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error) == message
    assert vars(copy) == vars(error)
