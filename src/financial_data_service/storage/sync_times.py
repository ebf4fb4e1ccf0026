"""How long syncs to disk take: a store and its files report to one observer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec

__all__ = ["SyncTimes"]

Arguments = ParamSpec("Arguments")


class SyncTimes:
    """Measures syncs while there is an observer.

    Attributes
    ----------
    observer : callable or None
        Called with the time of each sync, in nanoseconds, by the thread that waited for it.
    """

    __slots__ = ("observer",)

    def __init__(self) -> None:
        self.observer: Callable[[int], object] | None = None

    def measure(
        self,
        sync: Callable[Arguments, object],
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> None:
        """Call a function that syncs, and report its time, also if it fails."""
        observer = self.observer
        if observer is None:
            sync(*arguments, **options)
            return
        began = time.perf_counter_ns()
        try:
            sync(*arguments, **options)
        finally:
            observer(time.perf_counter_ns() - began)
