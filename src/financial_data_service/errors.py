"""Every error a user can meet.

One base class, so that ``except FdsError`` catches all of them; each is also the builtin a Python
programmer would expect. Messages say what was expected, what came, and where. The mapping to HTTP
status codes is in :mod:`financial_data_service.server.api.error_replies`, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from financial_data_service.client.results import Receipt

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
        # Pickled by message and attributes: what __init__ takes is not what an error is made of.
        return _restore, (type(self), self.args, vars(self))


def _restore(
    kind: type[FdsError], arguments: tuple[Any, ...], attributes: dict[str, Any]
) -> FdsError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments  # An OSError with an __init__ of its own leaves them to it.
    vars(error).update(attributes)
    return error


class InvalidBatchError(FdsError, ValueError):
    """A batch of prices is empty, too long, or holds something that is not a price.

    Nothing of the batch has been stored.

    Parameters
    ----------
    message : str
        What was expected, what came, and where.
    index : int or None
        Position of the first unfit price, when one price is to blame.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class InvalidSymbolError(FdsError, ValueError):
    """A symbol is empty, too long, or holds a control character or a lone surrogate."""


class WindowSizeError(FdsError, ValueError):
    """A window is asked for that the service does not keep."""


class SymbolNotFoundError(FdsError, LookupError):
    """No batch has ever been added for this symbol, or it was deleted."""

    def __init__(self, symbol: str) -> None:
        super().__init__(f"Symbol {symbol} not found")


class SymbolLimitError(FdsError, ValueError):
    """A new symbol would exceed the number of symbols the service may keep.

    Parameters
    ----------
    max_symbols : int
        How many there may be.
    refused : int
        Files among them that cannot be served, and so are in no list of symbols.
    """

    def __init__(self, max_symbols: int, refused: int = 0) -> None:
        among = f"; {refused} of them cannot be served, see /readyz" if refused else ""
        super().__init__(f"Maximum number of symbols ({max_symbols}) reached{among}")


class InsufficientStorageError(FdsError, OSError):
    """The system has no room for a symbol's prices."""


class DataDirectoryError(FdsError, OSError):
    """A data directory cannot be used as a whole: not a directory, another's, or in use."""


class SymbolFileError(FdsError, OSError):
    """The file of one symbol cannot be used; other symbols can.

    Parameters
    ----------
    path : str
        The file.
    reason : str
        What was expected of it, and what it is.
    is_passing : bool
        Nothing is wrong with the file: the same may succeed a moment later.
    """

    def __init__(self, path: str, reason: str, *, is_passing: bool = False) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.is_passing = is_passing


class OverwrittenError(FdsError, RuntimeError):
    """Prices were overwritten by newer ones before they could be read to the end."""


class SequenceConflictError(FdsError, ValueError):
    """A batch sent with ``from_sequence`` does not fit what is stored.

    Parameters
    ----------
    message : str
        What differs, or how wide the gap is.
    sequence : int
        Number of prices ever appended to the symbol: where the next batch starts.
    """

    def __init__(self, message: str, sequence: int) -> None:
        super().__init__(message)
        self.sequence = sequence


class ServiceError(FdsError, OSError):
    """A service across the wire did not do what a client asked of it.

    Where this package has an error for the reason, it is that one too: a symbol that is not there
    is a ``ServiceError`` and a :class:`SymbolNotFoundError`.

    Parameters
    ----------
    detail : str
        The service's own reason, or what became of the connection.
    status : int or None
        HTTP status of the reply; None when there was none.
    url : str
        What was asked, without credentials.

    Attributes
    ----------
    receipt : Receipt or None
        What a call in several steps had been acknowledged of before it failed: all prices before
        ``receipt.sequence`` are stored. None when nothing was.
    """

    def __init__(self, detail: str, status: int | None = None, url: str = "") -> None:
        # Not super(): next may be a class which makes its message of other things.
        FdsError.__init__(self, detail if status is None else f"{detail} ({status} from {url})")
        self.detail = detail
        self.status = status
        self.url = url
        self.receipt: Receipt | None = None


class ServiceUnavailableError(ServiceError, ConnectionError):
    """A service cannot be reached, or not now, and went on so while it was asked again."""


class UnconfirmedError(ServiceUnavailableError):
    """The reply to a change was lost: it may have been made or not.

    It is not asked for again, since that could make it twice.
    """


class UnauthorizedError(ServiceError, PermissionError):
    """A service wants an API key, or another one."""
