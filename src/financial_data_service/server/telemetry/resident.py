"""How much of each symbol's ring is in memory.

The system answers by a walk over the page tables, 15 ms for a ring of 860 MB. A scrape must not
wait that long: large rings are counted by a thread of their own, and a scrape returns the last
count.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ResidentBytes"]

_PIECE_BYTES = 16 << 20
"""Counted at once, in about 0.3 ms. A smaller ring is counted by the scrape itself."""
_STALE_SECONDS = 30.0


class ResidentBytes:
    """The last count for each symbol. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._counted_at = -_STALE_SECONDS
        self._thread: threading.Thread | None = None

    def of(self, regions: dict[str, npt.NDArray[np.float64]]) -> dict[str, int]:
        """Return the bytes in memory of each symbol's region.

        A large region is missing until the thread has counted it for the first time. Counts of
        large regions are at most 30 s older than the scrape before, plus the time of the count.
        """
        if _mincore is None:
            return {}
        small = {name: each for name, each in regions.items() if each.nbytes <= _PIECE_BYTES}
        large = {name: each for name, each in regions.items() if name not in small}
        with self._lock:
            if large and self._is_due(large):
                self._thread = threading.Thread(
                    target=self._count, args=(large,), name="fds-resident", daemon=True
                )
                self._thread.start()
            known = {name: self._counts[name] for name in large if name in self._counts}
        return known | {name: _resident_bytes(each) for name, each in small.items()}

    def wait(self) -> None:
        """Wait until the thread, if it counts, has counted all."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _is_due(self, large: dict[str, Any]) -> bool:
        if self._thread is not None and self._thread.is_alive():
            return False
        is_stale = time.monotonic() - self._counted_at >= _STALE_SECONDS
        return is_stale or not large.keys() <= self._counts.keys()

    def _count(self, large: dict[str, npt.NDArray[np.float64]]) -> None:
        counts = {name: _resident_bytes(region) for name, region in large.items()}
        with self._lock:
            self._counts = counts
            self._counted_at = time.monotonic()


def _resident_bytes(region: npt.NDArray[np.float64]) -> int:
    """Return how much of a mapped region is in memory, counted piece by piece."""
    page_bytes = mmap.PAGESIZE
    pages = np.zeros(_PIECE_BYTES // page_bytes, dtype=np.uint8)
    resident = 0
    for start in range(0, region.nbytes, _PIECE_BYTES):
        size = min(_PIECE_BYTES, region.nbytes - start)
        # ctypes releases the interpreter's lock for the call, so that other threads run.
        if _mincore(region.ctypes.data + start, size, pages.ctypes.data) != 0:
            return 0
        resident += int(np.count_nonzero(pages[: -(-size // page_bytes)] & 1))
    return resident * page_bytes


def _find_mincore() -> Any:
    function = getattr(ctypes.CDLL(None), "mincore", None)
    if function is not None:
        function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return function


_mincore = _find_mincore()
