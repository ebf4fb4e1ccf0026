"""One place among the workers: the process that fills it, and when it is started again."""

from __future__ import annotations

import signal
from dataclasses import dataclass

__all__ = ["WorkerSlot", "ending"]

STEADY_SECONDS = 10.0
"""If a worker has served for this time, it is replaced immediately when it dies.

Earlier early deaths no longer count.
"""

PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 8.0
"""Pause before a restart, used when workers of a slot died early more than once in a row.

It doubles each time. A worker that can never start uses at most about eight seconds of CPU time per
minute.
"""


@dataclass(slots=True)
class WorkerSlot:
    """One place among the workers, and the process that fills it.

    Attributes
    ----------
    index : int
        Which of the workers, from 0.
    pid : int
        Of the process; 0 while there is none.
    ready : int
        Reading end of the worker's pipe; -1 once the worker serves or is dead.
    is_serving : bool
        Whether the process has said that it serves.
    serving_since : float
        When it said so, in seconds of the monotonic clock.
    early_deaths : int
        How many processes in a row died before they had served for ``STEADY_SECONDS``.
    start_at : float
        When the next process is due, on the same clock.
    """

    index: int
    pid: int = 0
    ready: int = -1
    is_serving: bool = False
    serving_since: float = 0.0
    early_deaths: int = 0
    start_at: float = 0.0

    @property
    def name(self) -> str:
        """Return the name in log lines."""
        return f"Worker {self.index + 1}"

    def postpone(self, now: float) -> float:
        """Schedule the next start after a death, and return the seconds until then."""
        if self.is_serving and now - self.serving_since >= STEADY_SECONDS:
            self.early_deaths = 0
        self.is_serving = False
        self.early_deaths += 1
        pause = 0.0
        if self.early_deaths > 1:
            pause = min(PAUSE_SECONDS_MIN * 2 ** (self.early_deaths - 2), PAUSE_SECONDS_MAX)
        self.start_at = now + pause
        return pause


def ending(exit_code: int) -> str:
    """Return how a process ended, in words."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-exit_code}"
