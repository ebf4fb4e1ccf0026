"""Two cores: one for the servers, one for who loads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["Cores", "pinned"]


class Cores(NamedTuple):
    """Where the servers run, and where the load comes from."""

    server: int
    load: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Return the last core for servers and the first, which interrupts prefer, for load."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(server=cores[-1], load=cores[0])

    @property
    def shared(self) -> bool:
        """Whether there is but one core for both."""
        return self.server == self.load


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Keep this thread on a core; a process started meanwhile stays there, its threads with it.

    None leaves it wherever the system runs it.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
