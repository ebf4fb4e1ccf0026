"""When to ask again, and how long to wait before."""

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
    """How patiently a request is repeated.

    Repeated are requests that met no connection, a broken one, a timeout, or a service that is
    busy, starting or ending (408, 429, 502, 503, 504); only where a repetition can do no harm. The
    wait doubles from try to try, a random part of it left out, and is never shorter than the
    service's ``Retry-After``.

    A client that has had no reply yet gives up at once when its first connection is refused, and
    over http after two in a row that were broken off without a reply, as a server of https does,
    so that a wrong address shows; ``wait_until_ready`` waits for a service that is only starting.

    Attributes
    ----------
    count : int
        Repetitions of one request at most; 0 for none.
    seconds : float
        Time from the first try within which a repetition begins; one request of a long
        ``add_batch`` has all of it.
    pause_seconds, pause_seconds_max : float
        First wait, and the longest.

    Raises
    ------
    ValueError
        When one of them is no number of 0 or more.
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
            if not isinstance(value, int | float) or not value >= 0:  # NaN is neither.
                raise ValueError(f"Expected {name} of 0 or more, got {value!r}")

    def pause(self, repetition: int) -> float:
        """Return the wait in seconds before a repetition, counted from 0: exponential, jittered."""
        # 2**1000 is no float any more; long before, the longest wait is reached.
        longest: float = min(self.pause_seconds * 2 ** min(repetition, 30), self.pause_seconds_max)
        return longest * (0.5 + random() / 2)

    @classmethod
    def of(cls, given: Retries | int) -> Retries:
        """Return what is given, or so many repetitions."""
        return given if isinstance(given, Retries) else cls(count=given)


DEFAULT = Retries()
NEVER = Retries(count=0)


class Tries:
    """The tries of one request."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._count = 0
        self._started = time.monotonic()

    def next_pause(self, at_least: float = 0.0) -> float | None:
        """Return how long to wait before the next try; None when there is to be none."""
        if self._count >= self._retries.count:
            return None
        pause = max(self._retries.pause(self._count), at_least)
        if time.monotonic() - self._started + pause > self._retries.seconds:
            return None
        self._count += 1
        return pause


# The service turned the request down as a whole, or it never arrived as a whole.
_UNTOUCHED = frozenset((408, 429))
# A proxy does not know what became of the request behind it.
_DOUBTFUL = frozenset((502, 503, 504))


def is_passing(outcome: Reply | Lost) -> bool:
    """Whether the outcome may be another one in a while."""
    if isinstance(outcome, Lost):
        return not outcome.is_final
    return outcome.status in _UNTOUCHED or outcome.status in _DOUBTFUL


def is_untouched(outcome: Reply | Lost) -> bool:
    """Whether it is certain that the request changed nothing."""
    if isinstance(outcome, Lost):
        return not outcome.is_sent
    # The service itself says why; proxies make 503 of connections that broke, too.
    is_own_word = outcome.status == 503 and outcome.content.startswith(b'{"detail"')
    return outcome.status in _UNTOUCHED or is_own_word


def may_repeat(request: Request, outcome: Reply | Lost) -> bool:
    """Whether sending the request again can do no harm, and may do good."""
    return is_passing(outcome) and (request.is_repeatable or is_untouched(outcome))


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds which the service asks to wait: a number or a date; 0 for none."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
