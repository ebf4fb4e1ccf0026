"""Access to a data directory: which processes use it, with which settings, and its lock.

The lock of ``directory.json`` is held, shared, by every process that has the directory open. A
process that gets it exclusively is alone: it recovers the files on opening, and marks them as
closed cleanly on closing. The lock of the directory itself is held only while a symbol is created,
adopted or deleted.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from financial_data_service.errors import DataDirectoryError
from financial_data_service.storage import disk
from financial_data_service.storage.directory_lock import (
    SETTINGS_FILE,
    START_SECONDS,
    holder_of,
    is_at,
    load_settings,
    lock_alone_at_last,
    lock_alone_or_shared,
    write_settings,
)
from financial_data_service.storage.locks import LOCK_SECONDS, lock_within
from financial_data_service.storage.sync_times import SyncTimes

__all__ = ["DirectoryAccess", "cannot_be_used"]


class DirectoryAccess:
    """The locks of a data directory, held by one process.

    Parameters
    ----------
    path : Path
        The directory.
    settings : dict
        Settings of this process, with its ``pid``. All processes must have the same settings,
        except for ``pid``.
    is_synced : bool
        Whether new names in directories are synced to disk.

    Attributes
    ----------
    sync_times : SyncTimes
        Where the times of syncs are reported; the symbol files share it.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, is_synced: bool) -> None:
        self.path = path
        self._settings = settings
        self._is_synced = is_synced
        self.sync_times = SyncTimes()
        self._descriptor = -1  # of directory.json, which holds the lock

    @property
    def is_open(self) -> bool:
        """Whether this process has the directory open."""
        return self._descriptor >= 0

    @property
    def is_at_its_path(self) -> bool:
        """Whether ``directory.json`` was neither removed nor replaced."""
        return is_at(self._descriptor, self.path / SETTINGS_FILE)

    def lock(self) -> tuple[int, bool]:
        """Make the directory if necessary, and lock it.

        Returns
        -------
        tuple
            Descriptor of ``directory.json``, and whether this process is alone.

        Raises
        ------
        DataDirectoryError
            When the directory cannot be used, or another process takes too long to start or stop in
            it.
        """
        while True:
            descriptor = self._make_directory()
            try:
                is_alone = lock_alone_or_shared(descriptor, self.path)
                if is_at(descriptor, self.path / SETTINGS_FILE):
                    return descriptor, is_alone
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # It was replaced meanwhile: other processes lock the new one.

    def announce(self, descriptor: int) -> None:
        """Store the settings of this process. No other process may have the directory open."""
        write_settings(descriptor, self._settings)

    def share(self, descriptor: int) -> None:
        """Let other processes open the directory too."""
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # flock releases the exclusive lock before it takes the shared one. Another process may have
        # taken its lock in between.
        self.check_settings(descriptor)

    def opened(self, descriptor: int) -> None:
        """Record that this process has the directory open."""
        self._descriptor = descriptor

    def release(self) -> int:
        """Record that this process closes the directory; return the descriptor to close."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def is_last(self, descriptor: int) -> bool:
        """Take the exclusive lock if no other process has the directory open."""
        return lock_alone_at_last(descriptor)

    def check_settings(self, descriptor: int) -> None:
        """Check that the processes that use the directory have the same settings.

        Raises
        ------
        DataDirectoryError
            When the settings differ. The message names both.
        """
        theirs, ours = load_settings(descriptor), self._settings
        different = [key for key in ours if key != "pid" and theirs.get(key) != ours[key]]
        if different:
            raise DataDirectoryError(
                f"{self.path}: in use by {holder_of(theirs)} with "
                + ", ".join(f"{key} {theirs.get(key)}" for key in different)
                + "; expected "
                + ", ".join(f"{key} {ours[key]}" for key in different)
                + ". Stop it first, or use the same settings"
            )

    def sync_names(self) -> None:
        """Sync the names in the directory to disk."""
        if self._is_synced:
            self.sync_times.measure(disk.sync_directory, self.path)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the lock of the directory: no other process creates, adopts or deletes a symbol.

        Raises
        ------
        DataDirectoryError
            When another process holds the lock too long, or the directory is gone.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise cannot_be_used(self.path, error) from error
        try:
            if not lock_within(descriptor, LOCK_SECONDS if self.is_open else START_SECONDS):
                raise DataDirectoryError(
                    f"{self.path}: another process holds its lock and does not give it back; no "
                    "symbol was made or deleted"
                )
            yield
        finally:
            os.close(descriptor)

    def _make_directory(self) -> int:
        """Make the directory if necessary; return a descriptor of the file with its lock."""
        try:
            made = [path for path in (self.path, *self.path.parents) if not path.exists()]
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in made:
                if self._is_synced:
                    self.sync_times.measure(disk.sync_directory, path.parent)
            owner = self.path.stat().st_uid
            if owner != os.geteuid():
                raise DataDirectoryError(
                    f"{self.path}: expected a directory of user {os.geteuid()}, who runs this "
                    f"process, got one of user {owner}"
                )
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            return os.open(self.path / SETTINGS_FILE, flags, 0o600)
        except DataDirectoryError:
            raise
        except (FileExistsError, NotADirectoryError):
            raise DataDirectoryError(f"{self.path}: expected a directory, got a file") from None
        except OSError as error:
            raise cannot_be_used(self.path, error) from error


def cannot_be_used(path: Path, error: OSError) -> DataDirectoryError:
    """Return the error for a directory that the system does not let this process use."""
    return DataDirectoryError(f"{path}: cannot be used: {error.strerror}")
