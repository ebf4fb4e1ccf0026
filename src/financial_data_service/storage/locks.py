"""Locks between processes: ``flock``, which the kernel releases when a process dies.

A process that holds a lock may be stopped, and any program may take one by mistake. So every wait
for a lock has a time limit. After it, the service continues with everything that does not need the
lock.
"""

from __future__ import annotations

import fcntl
import time

__all__ = ["LOCK_SECONDS", "lock_within", "try_lock", "try_lock_shared"]

LOCK_SECONDS = 1.0
"""How long a service waits for the lock of a file or directory, which is held for microseconds or,
while a disk syncs, milliseconds."""

_PAUSE_SECONDS = 20e-6
_PAUSE_SECONDS_MAX = 200e-6  # about the time for which a sync leaves the lock free


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of a file unless another process has one."""
    return _try(descriptor, fcntl.LOCK_EX)


def try_lock_shared(descriptor: int) -> bool:
    """Take a shared lock of a file unless another process has the exclusive one."""
    return _try(descriptor, fcntl.LOCK_SH)


def lock_within(descriptor: int, seconds: float) -> bool:
    """Take the exclusive lock of a file; False if other processes hold it all that time."""
    if try_lock(descriptor):
        return True
    ends = time.monotonic() + seconds
    pause = _PAUSE_SECONDS
    while time.monotonic() < ends:
        time.sleep(pause)
        if try_lock(descriptor):
            return True
        pause = min(2 * pause, _PAUSE_SECONDS_MAX)
    return False


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
