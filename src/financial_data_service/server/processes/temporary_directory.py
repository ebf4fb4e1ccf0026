"""A directory for prices that several processes share, removed when the last of them ends.

It is in memory (``/dev/shm``) if there is room for it. A file marks it, and every process of the
service holds a lock on that file: the parent takes the lock, and the workers inherit it. The kernel
releases it with the last process, however that ended. The next service that starts removes every
directory whose mark is not locked, whatever its own settings are. This matters because such a
directory may take gigabytes of memory.

Invariant: only marked directories of this user are removed.
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

__all__ = ["SHARED_MEMORY", "TemporaryDirectory", "place_for", "remove_stale"]

PREFIX = "fds-"
MARK = "temporary"  # the file whose lock shows that the directory is in use

# As in storage.directory_lock, which would load the engine.
SETTINGS_FILE = "directory.json"

SHARED_MEMORY = Path("/dev/shm")


class TemporaryDirectory:
    """A directory that only this user can access. It exists until the end of the ``with`` block.

    Parameters
    ----------
    settings : Settings
        They decide how large the directory may become.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = -1

    def __enter__(self) -> Self:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place_for(self._settings)))
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
        self.release_lock()
        os.close(self._mark)

    def hold_lock(self) -> None:
        """Hold the data directory's lock in the parent.

        Otherwise a worker that ends as the only one would remove the directory.

        Called when a worker serves: if it dies, another is started in its place. The lock is the
        one that every process with the directory open holds. The kernel releases it when this
        process ends.
        """
        if self._lock >= 0:
            return
        with suppress(OSError):  # The last worker has just closed it, or one is opening it.
            descriptor = os.open(self.path / SETTINGS_FILE, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
            else:
                self._lock = descriptor

    def release_lock(self) -> None:
        """Close what :meth:`hold_lock` opened; for a forked worker, whose parent holds the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_stale() -> None:
    """Remove the directories of services of which no process is left."""
    for place in {SHARED_MEMORY, Path(tempfile.gettempdir())}:
        for path in place.glob(f"{PREFIX}*"):
            # A directory that cannot be read is another user's, or was just removed.
            with suppress(OSError):
                _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    # A directory without the mark is not ours, or is being created.
    mark = os.open(path / MARK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or it is in use
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(mark)


def place_for(settings: Settings) -> Path | None:
    """Return a directory with enough space for every symbol at full size.

    None means the system's default for temporary files.
    """
    geometry = Geometry(settings.largest_window, batch_max=settings.batch_max)
    try:
        space = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    has_room = space.f_bavail * space.f_frsize >= settings.max_symbols * geometry.size_bytes
    return SHARED_MEMORY if has_room and os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else None
