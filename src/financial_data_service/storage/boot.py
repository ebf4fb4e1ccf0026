"""Which boot of the machine this is: what lies in the page cache outlives processes, not boots."""

from __future__ import annotations

import uuid
from functools import cache
from pathlib import Path

__all__ = ["boot_id"]

_LINUX = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> bytes:
    """Return 16 bytes that are the same until the machine starts anew.

    Where the system does not tell, they differ from process to process: then every end that was
    not clean counts as a loss of power.
    """
    try:
        return uuid.UUID(_LINUX.read_text().strip()).bytes
    except (OSError, ValueError):
        return uuid.uuid4().bytes
