"""The id of the machine's current boot.

The page cache survives the end of a process but not a reboot.
"""

from __future__ import annotations

import uuid
from functools import cache
from pathlib import Path

__all__ = ["boot_id"]

_LINUX = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> bytes:
    """Return 16 bytes that stay the same until the machine restarts.

    If the system has no boot id, the bytes differ in each process. Then every file that was not
    closed cleanly is treated as if the machine had lost power.
    """
    try:
        return uuid.UUID(_LINUX.read_text().strip()).bytes
    except (OSError, ValueError):
        return uuid.uuid4().bytes
