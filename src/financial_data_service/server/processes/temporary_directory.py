"""A directory for prices that several processes share and that ends with the last of them.

It lies in memory (``/dev/shm``) where that has room, and is marked by a file on which every process
of the service holds a lock: the parent takes it, and what it forks inherits it. So whatever way a
service ended, the kernel lets go of the lock with its last process, and the next service to start,
whatever its own prices lie in, sees that nobody needs the directory and removes it: gigabytes of
memory may lie there.

Invariant: only directories with that mark, of this user, are ever removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from financial_data_service.engine.layout import Geometry
from financial_data_service.settings import Settings

__all__ = ["TemporaryDirectory", "remove_stale"]

PREFIX = "fds-"
MARK = "temporary"  # the file whose lock says that the directory is in use

# As of storage.directory, which would load the engine.
SETTINGS_FILE = "directory.json"

SHARED_MEMORY = Path("/dev/shm")


class TemporaryDirectory:
    """A directory that only this user can enter, for as long as the block runs.

    Parameters
    ----------
    settings : Settings
        Of the service: how much may come to lie in the directory.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keep = -1

    def __enter__(self) -> Self:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_place_for(self._settings)))
        self._mark = os.open(self.path / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._mark, fcntl.LOCK_EX)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.let_go()
        os.close(self._mark)

    def keep(self) -> None:
        """Keep the last worker from removing it, now that one serves: another may take its place.

        The lock is that of every process which has the directory open, and goes with this one.
        """
        if self._keep >= 0:
            return
        with suppress(OSError):  # Just closed by the last of them, or just being opened.
            descriptor = os.open(self.path / SETTINGS_FILE, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
            else:
                self._keep = descriptor

    def let_go(self) -> None:
        """Leave :meth:`keep` to the parent; to be called in what it has forked."""
        if self._keep >= 0:
            os.close(self._keep)
            self._keep = -1


def remove_stale() -> None:
    """Remove the directories of services that were killed, all of their processes."""
    for place in {SHARED_MEMORY, Path(tempfile.gettempdir())}:
        for path in place.glob(f"{PREFIX}*"):
            # What cannot be looked at is another's, or gone by now.
            with suppress(OSError):
                _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    # Without the mark it is not ours, or just being made.
    mark = os.open(path / MARK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or it is in use
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(mark)


def _place_for(settings: Settings) -> Path | None:
    """Return where there is room for every symbol to become full; None is the system's default."""
    geometry = Geometry(settings.largest_window, batch_max=settings.batch_max)
    try:
        space = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    has_room = space.f_bavail * space.f_frsize >= settings.max_symbols * geometry.size_bytes
    return SHARED_MEMORY if has_room and os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else None
