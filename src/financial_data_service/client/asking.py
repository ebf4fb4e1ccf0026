"""The calls that ask the service and return no prices: each a plan of requests.

Both clients run the same plans; see :mod:`~financial_data_service.client.steps`. None of them needs
NumPy, so ``fds stats`` starts without it.
"""

from __future__ import annotations

from financial_data_service import errors
from financial_data_service.client.exchange import ClientSession, decode_reply, exchange, get_reply
from financial_data_service.client.replies import (
    AllStatsReply,
    ReadyReply,
    SymbolsReply,
    SymbolStatsReply,
)
from financial_data_service.client.results import (
    Check,
    Limits,
    Readiness,
    Stats,
    Symbol,
    Table,
)
from financial_data_service.client.retries import NEVER, Retries, Tries
from financial_data_service.client.steps import Pause, Plan, Request
from financial_data_service.client.steps import path_of as path
from financial_data_service.errors import ServiceError, WindowSizeError
from financial_data_service.symbols import check_symbol

__all__ = []

READY_PAUSE_SECONDS = 0.2

# A window of 10**8 prices may have to be read from a slow disk, after other requests.
VERIFY_SECONDS = 300.0


def get_sequence(session: ClientSession, symbol: str) -> Plan[int]:
    """Return the number of prices ever appended to a symbol."""
    try:
        # The symbol is sent in the query, because a proxy could change a path that contains it.
        state = yield from get_reply(session, path("stats", "", symbol=symbol, last=1), Stats)
    except errors.SymbolNotFoundError:
        return 0
    return state.sequence


def stats(session: ClientSession, symbol: str, k: int | None, last: int | None) -> Plan[Stats]:
    """Return one window of one symbol."""
    check_symbol(symbol)
    if (k is None) == (last is None):
        raise WindowSizeError(
            f"Expected either k or last, got {'neither' if k is None else 'both'} "
            f"- at `stats({symbol!r})`; all_stats has all windows"
        )
    return (yield from get_reply(session, path("stats", "", symbol=symbol, k=k, last=last), Stats))


def all_stats(session: ClientSession, symbol: str | None, k: int | None) -> Plan[Table[Stats]]:
    """Return all windows, or one, of a symbol or of all symbols."""
    if symbol is None:
        everything = yield from get_reply(session, path("stats", "", k=k), AllStatsReply)
        return _rows(everything.symbols)
    check_symbol(symbol)
    if k is not None:
        return Table(((yield from stats(session, symbol, k, None)),))
    return _rows(
        [(yield from get_reply(session, path("stats", "", symbol=symbol), SymbolStatsReply))]
    )


def _rows(symbols: list[SymbolStatsReply]) -> Table[Stats]:
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


def symbols(session: ClientSession) -> Plan[Table[Symbol]]:
    """Return all symbols and the number of their prices."""
    reply = yield from get_reply(session, path("symbols"), SymbolsReply)
    return Table(reply.symbols)


def get_limits(session: ClientSession) -> Plan[Limits]:
    """Return the limits of the service, and store them."""
    reply = yield from get_reply(session, path("symbols"), SymbolsReply)
    session.limits = Limits(reply.max_symbols, reply.largest_window, reply.batch_max)
    return session.limits


def verify(session: ClientSession, symbol: str, k: int) -> Plan[Check]:
    """Recompute one window."""
    check_symbol(symbol)
    request = Request("GET", path("verify", symbol, k), timeout_seconds=VERIFY_SECONDS)
    answer = yield from exchange(session, request)
    return decode_reply(session, answer.reply, Check)


def delete(session: ClientSession, symbol: str) -> Plan[None]:
    """Delete a symbol."""
    check_symbol(symbol)
    # No retry: another program may have created the symbol again.
    request = Request("DELETE", path("symbols", symbol), is_repeatable=False)
    yield from exchange(session, request)


# --- Health -----------------------------------------------------------------------------------


def alive(session: ClientSession) -> Plan[bool]:
    """Ask once whether the service is alive."""
    try:
        yield from exchange(session, Request("GET", "/livez"), NEVER)
    except ServiceError:
        return False
    return True


def ready(session: ClientSession) -> Plan[Readiness]:
    """Ask once whether the service is ready."""
    try:
        answer = yield from exchange(session, Request("GET", "/readyz"), NEVER)
        reply = decode_reply(session, answer.reply, ReadyReply)
    except ServiceError as error:
        return Readiness(False, detail=str(error))
    return Readiness(True, reply.refused)


def wait_until_ready(session: ClientSession, seconds: float) -> Plan[Readiness]:
    """Ask until the service is ready."""
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
