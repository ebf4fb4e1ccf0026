"""Every error that a user can meet.

``except FdsError`` catches all of them. Each is also a subclass of the builtin exception that a
Python programmer would expect. Messages say what was expected, what was found, and where. The
mapping to HTTP status codes is in :mod:`financial_data_service.server.api.error_replies`.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "DataDirectoryError",
    "FdsError",
    "InsufficientStorageError",
    "InvalidBatchError",
    "InvalidSymbolError",
    "OverwrittenError",
    "SequenceConflictError",
    "ServiceError",
    "ServiceUnavailableError",
    "SymbolFileError",
    "SymbolLimitError",
    "SymbolNotFoundError",
    "UnauthorizedError",
    "UnconfirmedError",
    "WindowSizeError",
]


class FdsError(Exception):
    """Base class of all errors raised by this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled by message and attributes: the arguments of __init__ are not those of the message.
        return _restore, (type(self), self.args, vars(self))


def _restore(
    kind: type[FdsError], arguments: tuple[Any, ...], attributes: dict[str, Any]
) -> FdsError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments  # OSError.__new__ leaves them empty for a subclass with an __init__.
    vars(error).update(attributes)
    return error


class InvalidBatchError(FdsError, ValueError):
    """A batch of prices is empty, too long, or holds a value that is not a price.

    Nothing of the batch has been stored.

    Parameters
    ----------
    message : str
        What was expected, what was found, and where.
    index : int or None
        Position of the first invalid price, if a single price is the reason.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class InvalidSymbolError(FdsError, ValueError):
    """A symbol is empty, too long, or holds a control character or a lone surrogate."""


class WindowSizeError(FdsError, ValueError):
    """The window is longer than the service keeps, or shorter than one price."""


class SymbolNotFoundError(FdsError, LookupError):
    """No batch was ever added to the symbol, or the symbol was deleted."""

    def __init__(self, symbol: str) -> None:
        super().__init__(f"Symbol {symbol} not found")


class SymbolLimitError(FdsError, ValueError):
    """A new symbol would exceed the maximum number of symbols.

    Parameters
    ----------
    max_symbols : int
        The maximum.
    refused : int
        Number of files that count although they cannot be served. No list of symbols shows them.
    """

    def __init__(self, max_symbols: int, refused: int = 0) -> None:
        among = f"; {refused} of them cannot be served, see /readyz" if refused else ""
        super().__init__(f"Maximum number of symbols ({max_symbols}) reached{among}")


class InsufficientStorageError(FdsError, OSError):
    """The system has not enough memory or disk space for the prices."""


class DataDirectoryError(FdsError, OSError):
    """A data directory cannot be used: not a directory, of another format, or in use."""


class SymbolFileError(FdsError, OSError):
    """The file of one symbol cannot be used; other symbols can.

    Parameters
    ----------
    path : str
        The file.
    reason : str
        What was expected, and what was found.
    is_passing : bool
        Whether the file is sound and the same call may succeed a moment later.
    """

    def __init__(self, path: str, reason: str, *, is_passing: bool = False) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.is_passing = is_passing


class OverwrittenError(FdsError, RuntimeError):
    """Newer prices overwrote the requested ones before they were read completely."""


class SequenceConflictError(FdsError, ValueError):
    """A batch sent with ``from_sequence`` contradicts the stored prices, or leaves a gap.

    Parameters
    ----------
    message : str
        Which price differs, or how wide the gap is.
    sequence : int
        Number of prices ever appended to the symbol: the ``from_sequence`` of the next batch.
    """

    def __init__(self, message: str, sequence: int) -> None:
        super().__init__(message)
        self.sequence = sequence


class ServiceError(FdsError, OSError):
    """A client's request to a service failed.

    If this package has an error for the reason, the error is an instance of it too: a missing
    symbol is a ``ServiceError`` and a :class:`SymbolNotFoundError`.

    Parameters
    ----------
    detail : str
        The reason that the service gave, or what happened to the connection.
    status : int or None
        HTTP status of the reply. None if there was no reply.
    url : str
        The requested URL, without credentials.

    Attributes
    ----------
    receipt : financial_data_service.client.Receipt or None
        The prices that a call in several steps had stored before it failed: all prices before
        ``receipt.sequence``. None if none were.
    """

    def __init__(self, detail: str, status: int | None = None, url: str = "") -> None:
        # Not super(): the next class may build its message from other arguments.
        FdsError.__init__(self, detail if status is None else f"{detail} ({status} from {url})")
        self.detail = detail
        self.status = status
        self.url = url
        self.receipt: Any = None  # a class of the client, which this module must not import


class ServiceUnavailableError(ServiceError, ConnectionError):
    """The service could not be reached, or was not ready, and all retries failed too."""


class UnconfirmedError(ServiceUnavailableError):
    """The reply to a change was lost: the change may have been made or not.

    The client does not retry, because a retry could make the change twice.
    """


class UnauthorizedError(ServiceError, PermissionError):
    """The service requires an API key, or another one than the client sent."""
