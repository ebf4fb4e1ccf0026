"""Which boot of the machine this is: what lies in the page cache outlives processes, not boots."""

from __future__ import annotations

import uuid
from functools import cache
from pathlib import Path

__all__ = ["boot_id"]

_LINUX = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> bytes:
    """Return 16 bytes that stay the same until the machine restarts.

    If the system has no such id, they differ in each process. Then every file that was not closed
    cleanly counts as left by a loss of power.
    """
    try:
        return uuid.UUID(_LINUX.read_text().strip()).bytes
    except (OSError, ValueError):
        return uuid.uuid4().bytes
