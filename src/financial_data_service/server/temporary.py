"""A directory for prices that several processes share and that ends with the last of them.

It lies in memory (``/dev/shm``) where that has room, and is marked by a file on which every process
of the service holds a lock: the parent takes it, and what it forks inherits it. So whatever way a
service ended, the kernel lets go of the lock with its last process, and the next service to start
sees that nobody needs the directory and removes it.

Invariant: only directories with that mark, of this user, are ever removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from financial_data_service.engine.layout import Geometry
from financial_data_service.settings import Settings

__all__ = ["remove_stale", "temporary_directory"]

PREFIX = "fds-"
MARK = "temporary"  # the file whose lock says that the directory is in use

SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def temporary_directory(settings: Settings) -> Iterator[Path]:
    """Make a directory that only this user can enter, and remove it at the end.

    Processes that are forked meanwhile hold it too. Directories that earlier services have left
    behind are removed first.
    """
    remove_stale()
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_place_for(settings)))
    try:
        lock = os.open(path / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(lock)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_stale() -> None:
    """Remove the directories of services that were killed, all of their processes."""
    for place in {SHARED_MEMORY, Path(tempfile.gettempdir())}:
        # Whatever cannot be looked at or removed is not ours, or another's to clean up just now.
        with suppress(OSError):
            for path in place.glob(f"{PREFIX}*"):
                _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    try:
        lock = os.open(path / MARK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # Not one of ours, or just being made.
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:  # In use.
        pass
    finally:
        os.close(lock)


def _place_for(settings: Settings) -> Path | None:
    """Return where there is room for every symbol to become full; None is the system's default."""
    geometry = Geometry(settings.largest_window, batch_max=settings.batch_max)
    try:
        space = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    has_room = space.f_bavail * space.f_frsize >= settings.max_symbols * geometry.size_bytes
    return SHARED_MEMORY if has_room and os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else None
