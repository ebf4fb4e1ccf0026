"""When a request is sent again, and how long to wait before."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from random import random

from financial_data_service.client.steps import Lost, Reply, Request

__all__ = ["DEFAULT", "NEVER", "Retries", "Tries", "is_untouched", "may_repeat", "retry_after"]


@dataclass(frozen=True, slots=True)
class Retries:
    """The schedule of retries of a request.

    A request is retried only if a retry is safe. It is retried if the connection was refused or
    broken, if it timed out, or if the service was busy, starting or stopping (408, 429, 502, 503,
    504). The pause doubles with each retry. It is reduced at random by up to half. It is never
    shorter than the ``Retry-After`` of the service.

    A client that has never had a reply gives up at once if its first connection is refused. Over
    http it gives up after two consecutive connections that were closed without a reply; an https
    server closes http connections in this way. So a wrong address is reported quickly.
    ``wait_until_ready`` waits for a service that is starting.

    Attributes
    ----------
    count : int
        Maximum number of retries of one request; 0 for none.
    seconds : float
        No retry starts later than this many seconds after the first attempt. It applies to each
        request of a long ``add_batch`` separately.
    pause_seconds, pause_seconds_max : float
        First and longest pause.

    Raises
    ------
    ValueError
        When one of them is not a number of 0 or more.
    """

    count: int = 20
    seconds: float = 30.0
    pause_seconds: float = 0.1
    pause_seconds_max: float = 5.0

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or self.count < 0:
            raise ValueError(f"Expected a number of repetitions of 0 or more, got {self.count!r}")
        for name in ("seconds", "pause_seconds", "pause_seconds_max"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value >= 0:  # False for NaN.
                raise ValueError(f"Expected {name} of 0 or more, got {value!r}")

    def pause(self, repetition: int) -> float:
        """Return the pause before a retry, counted from 0, in seconds: exponential, with jitter."""
        # 2**1000 would overflow; the pause reaches its maximum long before that.
        longest: float = min(self.pause_seconds * 2 ** min(repetition, 30), self.pause_seconds_max)
        return longest * (0.5 + random() / 2)

    @classmethod
    def of(cls, given: Retries | int) -> Retries:
        """Return the given schedule, or the default one with that number of retries."""
        return given if isinstance(given, Retries) else cls(count=given)


DEFAULT = Retries()
NEVER = Retries(count=0)


class Tries:
    """The attempts at one request."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._count = 0
        self._started = time.monotonic()

    def next_pause(self, at_least: float = 0.0) -> float | None:
        """Return the seconds before the next attempt, or None if there is no further attempt."""
        if self._count >= self._retries.count:
            return None
        pause = max(self._retries.pause(self._count), at_least)
        if time.monotonic() - self._started + pause > self._retries.seconds:
            return None
        self._count += 1
        return pause


# The service refused the request as a whole, or did not receive it completely.
_UNTOUCHED = frozenset((408, 429))
# A proxy does not know what happened to the request.
_DOUBTFUL = frozenset((502, 503, 504))


def is_passing(outcome: Reply | Lost) -> bool:
    """Whether another attempt may have another outcome."""
    if isinstance(outcome, Lost):
        return not outcome.is_final
    return outcome.status in _UNTOUCHED or outcome.status in _DOUBTFUL


def is_untouched(outcome: Reply | Lost) -> bool:
    """Whether it is certain that the request changed nothing."""
    if isinstance(outcome, Lost):
        return not outcome.is_sent
    # The service itself gives a reason; a proxy answers 503 for broken connections too.
    is_own_word = outcome.status == 503 and outcome.content.startswith(b'{"detail"')
    return outcome.status in _UNTOUCHED or is_own_word


def may_repeat(request: Request, outcome: Reply | Lost) -> bool:
    """Whether a retry is safe and may succeed."""
    return is_passing(outcome) and (request.is_repeatable or is_untouched(outcome))


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of a ``Retry-After``, a number or a date; 0 if there is none."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
