"""Memory as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["resident_bytes", "resident_bytes_of_process"]

_PRESENT = np.uint64(1 << 63)


def resident_bytes(array: npt.NDArray[np.float64]) -> int:
    """Return how much of an array's memory is resident, page by page (Linux's pagemap).

    Exact where the size of the whole process would count its neighbours too.

    Raises
    ------
    OSError
        On systems without ``/proc/self/pagemap``.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    first = array.ctypes.data // page
    pages = -(-(array.ctypes.data + array.nbytes) // page) - first
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(8 * first)
        entries = np.frombuffer(pagemap.read(8 * pages), dtype=np.uint64)
    assert len(entries) == pages
    return int(((entries & _PRESENT) != 0).sum()) * page


def resident_bytes_of_process() -> int:
    """Return the resident size of the process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
