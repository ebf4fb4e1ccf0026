"""Every call of the clients as a plan: which requests, what their replies mean, what then.

One for both clients; see :mod:`~financial_data_service.client.requests`.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from financial_data_service import errors
from financial_data_service.client import failures
from financial_data_service.client.requests import (
    FLOAT64,
    Lost,
    Outcome,
    Pause,
    Plan,
    Reply,
    Request,
)
from financial_data_service.client.requests import path_of as path
from financial_data_service.client.results import (
    Check,
    Limits,
    Prices,
    Readiness,
    Receipt,
    RefusedFile,
    Stats,
    Symbol,
    Table,
)
from financial_data_service.client.retries import (
    NEVER,
    Retries,
    Tries,
    is_untouched,
    may_repeat,
    retry_after,
)
from financial_data_service.errors import InvalidBatchError, ServiceError, WindowSizeError
from financial_data_service.prices import as_prices, check_prices, check_symbol, unfit_price

__all__ = ["LITTLE_ENDIAN", "PIECE_MAX", "Session", "as_float64", "begin_ingest", "exchange"]

Result = TypeVar("Result")

# A service may take more at once, but a mebibyte a request is as fast, and below the usual limits
# of bodies, its own and those of proxies.
PIECE_MAX = 100_000

READY_PAUSE_SECONDS = 0.2

# A window of 10**8 prices may first have to be read from a slow disk, behind others that wait.
VERIFY_SECONDS = 300.0

LITTLE_ENDIAN = np.dtype("<f8")


@dataclass
class Session:
    """What a client knows of its service.

    Threads may share it: each attribute is replaced as a whole, and losing a race costs a request.

    Attributes
    ----------
    url : str
        Of the service, without credentials and without a slash at the end.
    has_answered : bool
        Whether there has ever been a reply.
    limits : Limits or None
        Of the service, once they were asked for.
    """

    url: str
    retries: Retries = field(default_factory=Retries)
    has_answered: bool = False
    limits: Limits | None = None


class Answer(NamedTuple):
    """A good reply.

    Attributes
    ----------
    is_repeated : bool
        Whether an earlier try of the same request may have been carried out, its reply lost.
    """

    reply: Reply
    is_repeated: bool


def exchange(session: Session, request: Request, retries: Retries | None = None) -> Plan[Answer]:
    """Send a request, again where that can do no harm, until there is a good reply.

    Raises
    ------
    ServiceError
        Of the kind that fits the last reply, or the lack of one.
    """
    tries = Tries(retries or session.retries)
    url = f"{request.method} {session.url}{request.target}"
    is_repeated = False
    outcome = None
    while True:
        before, outcome = outcome, (yield request)
        assert outcome is not None
        session.has_answered |= isinstance(outcome, Reply)
        if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
            return Answer(outcome, is_repeated)
        is_useless = _is_address_wrong(session, outcome, before)
        pause = None if is_useless else _pause(request, outcome, tries)
        is_in_doubt = not is_untouched(outcome)
        if pause is None:
            if isinstance(outcome, Lost) and not session.has_answered:
                outcome = replace(outcome, detail=failures.never_heard(outcome, session.url))
            raise _failure(request, outcome, url, is_in_doubt=is_in_doubt)
        is_repeated |= is_in_doubt
        yield Pause(pause)


def _is_address_wrong(session: Session, outcome: Reply | Lost, before: Outcome) -> bool:
    """Whether it rather is the address that is wrong than the service that is away.

    So it is while nothing has ever been answered, if the first connection is refused, or if two in
    a row are broken off without a word of HTTP. One may have been a service that was killed.
    """
    if session.has_answered or isinstance(outcome, Reply):
        return False
    if outcome.is_mute:
        return isinstance(before, Lost) and before.is_mute
    return before is None and not outcome.is_sent


def _pause(request: Request, outcome: Reply | Lost, tries: Tries) -> float | None:
    if not may_repeat(request, outcome):
        return None
    at_least = retry_after(outcome.headers) if isinstance(outcome, Reply) else 0.0
    return tries.next_pause(at_least)


def _failure(
    request: Request, outcome: Reply | Lost, url: str, *, is_in_doubt: bool
) -> ServiceError:
    may_be_done = is_in_doubt and not request.is_repeatable
    if isinstance(outcome, Lost):
        return failures.lost(outcome, url, is_in_doubt=may_be_done)
    error = failures.refusal(outcome, url)
    if may_be_done and isinstance(error, errors.ServiceUnavailableError):
        doubt = f"{error.detail}. The request may have been carried out or not."
        return errors.UnconfirmedError(doubt, outcome.status, url)
    return error


def _decoded(session: Session, reply: Reply, kind: type[Result]) -> Result:
    try:
        return msgspec.json.decode(reply.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise failures.stranger(session.url, reply.status) from None


def _get(session: Session, target: str, kind: type[Result]) -> Plan[Result]:
    answer = yield from exchange(session, Request("GET", target))
    return _decoded(session, answer.reply, kind)


# --- Adding -----------------------------------------------------------------------------------


def as_float64(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return prices as a float64 array, checked as the service would check them.

    Raises
    ------
    InvalidBatchError
        When there are none, or one of them is not a price.
    """
    prices = as_prices(values, None)
    try:
        check_prices(prices)
    except InvalidBatchError as error:
        if error.index is None or not _is_null(values, error.index):
            raise
        raise unfit_price(error.index, "null") from None
    return prices


def _is_null(values: Any, index: int) -> bool:
    """Whether nothing is in a place of a Series or an Arrow array; NumPy makes NaN of it."""
    try:
        value = values.iloc[index] if hasattr(values, "iloc") else values[index]
    except (LookupError, TypeError):  # All that is known of it is that NumPy can read it.
        return False
    # pandas has a type of its own for it, polars None, and Arrow scalars that say so.
    is_valid = getattr(value, "is_valid", True)
    return value is None or type(value).__name__ == "NAType" or is_valid is False


def add_batch(
    session: Session,
    symbol: str,
    values: npt.ArrayLike,
    from_sequence: int | None,
    exclusive: bool,
) -> Plan[Receipt]:
    """Add prices in as many requests as they need, each repeated only where that is harmless."""
    check_symbol(symbol)
    prices = as_float64(values)
    start = _checked_start(from_sequence, exclusive)
    is_appended = start is None
    limits = session.limits or (yield from get_limits(session))
    if is_appended and exclusive:
        start = yield from get_sequence(session, symbol)
    # Of a place that the caller names nothing is known yet; of one asked for, all before it.
    receipt = Receipt(symbol, 0, start) if is_appended and start is not None else None
    size = min(limits.batch_max, PIECE_MAX)
    for offset in range(0, prices.size, size):
        piece = prices[offset : offset + size]
        try:
            place = None if start is None else start + offset
            step = yield from _add_piece(session, symbol, piece, place, is_appended)
            added = step.added + (receipt.added if receipt else 0)
            receipt = Receipt(symbol, added, step.sequence)
        except ServiceError as error:
            error.receipt = receipt
            session.limits = None  # Perhaps it is another service by now, with other limits.
            raise
    assert receipt is not None  # There is no batch without a price.
    return receipt


def _checked_start(from_sequence: int | None, exclusive: bool) -> int | None:
    if from_sequence is None:
        return None
    if not exclusive:
        raise ValueError(
            f"Expected either from_sequence or exclusive=False, got both ({from_sequence=}): "
            "a place of their own is what prices get that nobody else adds to"
        )
    start = operator.index(from_sequence)
    if start < 0:
        raise ValueError(f"Expected from_sequence of 0 or more, got {start}")
    return start


def get_sequence(session: Session, symbol: str) -> Plan[int]:
    """Return the number of prices ever appended to a symbol."""
    try:
        # A query, since a symbol in it is never mistaken for part of the path by a proxy.
        state = yield from _get(session, path("stats", "", symbol=symbol, last=1), Stats)
    except errors.SymbolNotFoundError:
        return 0
    return state.sequence


def begin_ingest(session: Session, symbol: str, from_sequence: int | None) -> Plan[tuple[int, int]]:
    """Return where streamed prices go, and how many the service takes at once."""
    check_symbol(symbol)
    start = _checked_start(from_sequence, True)
    limits = session.limits or (yield from get_limits(session))
    if start is None:
        start = yield from get_sequence(session, symbol)
    return start, limits.batch_max


def _add_piece(
    session: Session,
    symbol: str,
    prices: npt.NDArray[np.float64],
    from_sequence: int | None,
    is_appended: bool,
) -> Plan[Receipt]:
    target = path("add_batch", symbol, from_sequence=from_sequence)
    content = prices.astype(LITTLE_ENDIAN, copy=False).tobytes()
    request = Request("POST", target, content, is_repeatable=from_sequence is not None)
    answer = yield from exchange(session, request)
    receipt = _decoded(session, answer.reply, Receipt)
    known = prices.size - receipt.added
    if is_appended and known and not answer.is_repeated:
        raise failures.conflict(
            f"Expected nobody else to add prices to {symbol} meanwhile, but the same {known} were "
            f"there from sequence {from_sequence} on: exclusive=False adds among others",
            receipt.sequence,
            f"{session.url}{target}",
        )
    # Of a symbol that others add to, the sequence behind these prices is known for just these.
    end = receipt.sequence if from_sequence is None else from_sequence + prices.size
    # Known prices of a place that was asked for are those of an earlier try, its reply lost.
    return Receipt(symbol, prices.size if is_appended else receipt.added, end)


# --- Asking -----------------------------------------------------------------------------------


class _SymbolsReply(msgspec.Struct):
    symbols: list[Symbol]
    max_symbols: int
    largest_window: int
    batch_max: int


class _Window(msgspec.Struct):
    k: int | None
    window: int
    min: float
    max: float
    last: float
    avg: float
    var: float
    values: int


class _SymbolStats(msgspec.Struct):
    symbol: str
    sequence: int
    stats: list[_Window]


class _AllStats(msgspec.Struct):
    symbols: list[_SymbolStats]


def stats(session: Session, symbol: str, k: int | None, last: int | None) -> Plan[Stats]:
    """Return one window of one symbol."""
    check_symbol(symbol)
    if (k is None) == (last is None):
        raise WindowSizeError(
            f"Expected either k or last, got {'neither' if k is None else 'both'} "
            f"- at `stats({symbol!r})`; all_stats has all windows"
        )
    return (yield from _get(session, path("stats", "", symbol=symbol, k=k, last=last), Stats))


def all_stats(session: Session, symbol: str | None, k: int | None) -> Plan[Table[Stats]]:
    """Return all windows of a symbol, or of all symbols; or one of each."""
    if symbol is None:
        everything = yield from _get(session, path("stats", "", k=k), _AllStats)
        return _rows(everything.symbols)
    check_symbol(symbol)
    if k is not None:
        return Table(((yield from stats(session, symbol, k, None)),))
    return _rows([(yield from _get(session, path("stats", "", symbol=symbol), _SymbolStats))])


def _rows(symbols: list[_SymbolStats]) -> Table[Stats]:
    return Table(
        Stats(
            symbol=each.symbol,
            k=window.k,
            window=window.window,
            min=window.min,
            max=window.max,
            last=window.last,
            avg=window.avg,
            var=window.var,
            values=window.values,
            sequence=each.sequence,
        )
        for each in symbols
        for window in each.stats
    )


def symbols(session: Session) -> Plan[Table[Symbol]]:
    """Return the symbols and how much is held of each."""
    reply = yield from _get(session, path("symbols"), _SymbolsReply)
    return Table(reply.symbols)


def get_limits(session: Session) -> Plan[Limits]:
    """Return the limits of the service, and remember them."""
    reply = yield from _get(session, path("symbols"), _SymbolsReply)
    session.limits = Limits(reply.max_symbols, reply.largest_window, reply.batch_max)
    return session.limits


def values(session: Session, symbol: str, last: int | None) -> Plan[Prices]:
    """Return the newest prices of a symbol; as many as the service sees fit without `last`."""
    check_symbol(symbol)
    target = path("values", symbol, last=last, format="float64")
    answer = yield from exchange(session, Request("GET", target))
    headers, content = answer.reply.headers, answer.reply.content
    if headers.get("content-type") != FLOAT64 or len(content) % 8 or "x-first" not in headers:
        raise failures.stranger(session.url + target, answer.reply.status)
    prices = np.frombuffer(content, LITTLE_ENDIAN).astype(np.float64, copy=False)
    return Prices(prices, symbol, int(headers["x-first"]))


def verify(session: Session, symbol: str, k: int) -> Plan[Check]:
    """Have one window recomputed."""
    check_symbol(symbol)
    request = Request("GET", path("verify", symbol, k), timeout_seconds=VERIFY_SECONDS)
    answer = yield from exchange(session, request)
    return _decoded(session, answer.reply, Check)


def delete(session: Session, symbol: str) -> Plan[None]:
    """Delete a symbol."""
    check_symbol(symbol)
    # Somebody may have created it anew: what was not told to be deleted is not deleted again.
    request = Request("DELETE", path("symbols", symbol), is_repeatable=False)
    yield from exchange(session, request)


# --- Health -----------------------------------------------------------------------------------


class _ReadyReply(msgspec.Struct):
    status: str
    refused: tuple[RefusedFile, ...] = ()


def alive(session: Session) -> Plan[bool]:
    """Ask once whether the service answers at all."""
    try:
        yield from exchange(session, Request("GET", "/livez"), NEVER)
    except ServiceError:
        return False
    return True


def ready(session: Session) -> Plan[Readiness]:
    """Ask once whether the service serves."""
    try:
        answer = yield from exchange(session, Request("GET", "/readyz"), NEVER)
        reply = _decoded(session, answer.reply, _ReadyReply)
    except ServiceError as error:
        return Readiness(False, detail=str(error))
    return Readiness(True, reply.refused)


def wait_until_ready(session: Session, seconds: float) -> Plan[Readiness]:
    """Ask until the service serves."""
    tries = Tries(Retries(2**31, seconds, READY_PAUSE_SECONDS, READY_PAUSE_SECONDS))
    while True:
        readiness = yield from ready(session)
        pause = None if readiness else tries.next_pause()
        if readiness:
            return readiness
        if pause is None:
            raise errors.ServiceUnavailableError(
                f"{session.url} was not ready within {seconds:g} seconds. {readiness.detail}",
                None,
                session.url,
            )
        yield Pause(pause)
