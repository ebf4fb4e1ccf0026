"""One request of a client and what its reply means: retries, errors, decoding."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import msgspec

from financial_data_service import errors
from financial_data_service.client import failures
from financial_data_service.client.results import (
    Limits,
)
from financial_data_service.client.retries import (
    Retries,
    Tries,
    is_untouched,
    may_repeat,
    retry_after,
)
from financial_data_service.client.steps import Lost, Outcome, Pause, Plan, Reply, Request
from financial_data_service.errors import ServiceError

__all__ = ["ClientSession", "exchange"]

Result = TypeVar("Result")


@dataclass
class ClientSession:
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


def exchange(
    session: ClientSession, request: Request, retries: Retries | None = None
) -> Plan[Answer]:
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


def _is_address_wrong(session: ClientSession, outcome: Reply | Lost, before: Outcome) -> bool:
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


def decode_reply(session: ClientSession, reply: Reply, kind: type[Result]) -> Result:
    try:
        return msgspec.json.decode(reply.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise failures.stranger(session.url, reply.status) from None


def get_reply(session: ClientSession, target: str, kind: type[Result]) -> Plan[Result]:
    answer = yield from exchange(session, Request("GET", target))
    return decode_reply(session, answer.reply, kind)
