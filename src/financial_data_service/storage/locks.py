"""Locks between processes: ``flock``, which the kernel drops when a process dies.

A process that has one may be stopped, and so may any program that took one without being asked:
they are waited for with an end, so that a service goes on with all that does not need them.
"""

from __future__ import annotations

import fcntl
import time

__all__ = ["LOCK_SECONDS", "lock_within", "try_lock", "try_lock_shared"]

LOCK_SECONDS = 1.0
"""How long a service waits for the lock of a file or directory, which is held for microseconds or,
while a disk syncs, milliseconds."""

_PAUSE_SECONDS = 20e-6
_PAUSE_SECONDS_MAX = 200e-6  # about as long as a sync leaves the lock free for others


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of a file unless another process has one."""
    return _try(descriptor, fcntl.LOCK_EX)


def try_lock_shared(descriptor: int) -> bool:
    """Take a shared lock of a file unless another process has the exclusive one."""
    return _try(descriptor, fcntl.LOCK_SH)


def lock_within(descriptor: int, seconds: float) -> bool:
    """Take the exclusive lock of a file; False when others have had it for so long."""
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
