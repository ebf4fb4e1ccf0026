"""One request of a client and the meaning of its reply: retries, errors, decoding."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import msgspec

from financial_data_service import errors
from financial_data_service.client import failures
from financial_data_service.client.results import Limits
from financial_data_service.client.retries import (
    Retries,
    Tries,
    is_untouched,
    may_repeat,
    retry_after,
)
from financial_data_service.client.steps import Lost, Outcome, Pause, Plan, Reply, Request
from financial_data_service.errors import ServiceError

__all__ = ["ClientSession", "decode_reply", "exchange", "get_reply"]

Result = TypeVar("Result")


@dataclass
class ClientSession:
    """What a client knows about its service.

    Threads may share it. Each attribute is assigned atomically. A race between threads costs at
    most one extra request.

    Attributes
    ----------
    url : str
        URL of the service, without credentials and without a slash at the end.
    has_answered : bool
        Whether the service has ever replied.
    limits : Limits or None
        Limits of the service, once known.
    """

    url: str
    retries: Retries = field(default_factory=Retries)
    has_answered: bool = False
    limits: Limits | None = None


class Exchanged(NamedTuple):
    """A successful reply.

    Attributes
    ----------
    is_repeated : bool
        Whether an earlier attempt may have been carried out, and its reply lost.
    """

    reply: Reply
    is_repeated: bool


def exchange(
    session: ClientSession, request: Request, retries: Retries | None = None
) -> Plan[Exchanged]:
    """Send a request, with retries where they are safe, until there is a successful reply.

    Raises
    ------
    ServiceError
        Of the subclass that fits the last reply, or the missing one.
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
            return Exchanged(outcome, is_repeated)
        is_useless = _is_address_wrong(session, outcome, before)
        pause = None if is_useless else _pause(request, outcome, tries)
        is_in_doubt = not is_untouched(outcome)
        if pause is None:
            if isinstance(outcome, Lost) and not session.has_answered:
                outcome = replace(
                    outcome, detail=failures.first_contact_failed(outcome, session.url)
                )
            raise _failure(request, outcome, url, is_in_doubt=is_in_doubt)
        is_repeated |= is_in_doubt
        yield Pause(pause, _reason(outcome, session.url))


def _is_address_wrong(session: ClientSession, outcome: Reply | Lost, before: Outcome) -> bool:
    """Whether the address is probably wrong, rather than the service unavailable.

    The address is probably wrong if there has never been a reply, and either the first connection
    was refused or two consecutive connections were closed without a reply. One such connection is
    not enough: the service may have been killed.
    """
    if session.has_answered or isinstance(outcome, Reply):
        return False
    if outcome.is_silent:
        return isinstance(before, Lost) and before.is_silent
    return before is None and not outcome.is_sent


def _pause(request: Request, outcome: Reply | Lost, tries: Tries) -> float | None:
    if not may_repeat(request, outcome):
        return None
    at_least = retry_after(outcome.headers) if isinstance(outcome, Reply) else 0.0
    return tries.next_pause(at_least)


def _reason(outcome: Reply | Lost, url: str) -> str:
    if isinstance(outcome, Lost):
        return outcome.detail.partition(" Is the service running?")[0].removesuffix(".")
    return str(failures.refusal(outcome, url))


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


def decode_reply(session: ClientSession, reply: Reply, kind: type[Result]) -> Result:
    """Decode the JSON of a reply.

    Raises
    ------
    ServiceError
        When the JSON does not have the expected fields. Then the reply is not from this service.
    """
    try:
        return msgspec.json.decode(reply.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise failures.not_our_service(session.url, reply.status) from None


def get_reply(session: ClientSession, target: str, kind: type[Result]) -> Plan[Result]:
    """Send a GET request, and decode its reply."""
    answer = yield from exchange(session, Request("GET", target))
    return decode_reply(session, answer.reply, kind)
