"""DirectoryStore: symbols in the files of a directory that several processes share.

::

    DIRECTORY/
        directory.json      the processes that use it, their settings; carries the lock
        AAPL.ring           one file per symbol
        BTC%2FUSDT.ring
        .AAPL.ring.new      a file that is being created, or whose creation was cut short

All locks are ``flock``, which the kernel releases when a process dies:

* ``directory.json`` and the directory itself:
  :mod:`~financial_data_service.storage.directory_access`.
* Each file, exclusively, for the moment of an append.

A file that is removed or moved away is noticed within a second (:meth:`DirectoryStore.
run_housekeeping`).
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import DELETED, Geometry
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.engine.store import SymbolChangedError, SymbolStore
from financial_data_service.errors import (
    InsufficientStorageError,
    SymbolFileError,
    SymbolLimitError,
)
from financial_data_service.storage.boot import boot_id
from financial_data_service.storage.directory_access import DirectoryAccess, cannot_be_used
from financial_data_service.storage.directory_lock import SETTINGS_FILE, is_at
from financial_data_service.storage.durability import BackgroundSync, Durability, close_cleanly
from financial_data_service.storage.file_names import file_name_of
from financial_data_service.storage.file_stats import FileStats
from financial_data_service.storage.header import HeaderError
from financial_data_service.storage.inventory import Inventory
from financial_data_service.storage.recovery import FileState, plan_recovery
from financial_data_service.storage.rejected_files import RejectedFiles
from financial_data_service.storage.symbol_file import SymbolFile
from financial_data_service.storage.symbol_files import SymbolFiles

__all__ = ["DirectoryStore"]

_REPLACED = (
    "it was removed or replaced while this service has the directory open, so that others cannot "
    "tell. Stop the service and start it again"
)

_logger = logging.getLogger("financial_data_service.storage")


class DirectoryStore(SymbolStore):
    """Symbols in the files of a directory. One thread at a time; any number of processes.

    Parameters
    ----------
    path : path-like
        The directory. It is made, for this user alone, if it does not exist.
    geometry : Geometry
        Sizes of every symbol.
    max_symbols : int
        Maximum number of symbols, for all processes together.
    durability : "process" or "power"
        Whether a batch is acknowledged before or after it is on disk.
    temporary : bool
        Whether nothing is ever synced, and the last process removes the directory.
    holder_pid : int, optional
        The process to stop so that this one closes the directory. This process if not given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        geometry: Geometry,
        max_symbols: int = 10,
        durability: Durability = "process",
        *,
        temporary: bool = False,
        holder_pid: int | None = None,
    ) -> None:
        super().__init__(geometry, max_symbols)
        self.path = Path(path)
        self.durability: Durability = durability
        self.temporary = temporary
        settings = {
            "pid": holder_pid or os.getpid(),
            "largest_window": geometry.largest_window,
            "batch_max": geometry.batch_max,
            "fanout": geometry.fanout,
            "max_symbols": max_symbols,
            "durability": durability,
        }
        self._access = DirectoryAccess(self.path, settings, is_synced=not temporary)
        self._rejected = RejectedFiles(self.path, self.refused)
        self._inventory = Inventory(self.path, self._rejected)
        self._files = SymbolFiles(self._access, geometry, durability, temporary=temporary)
        self._ready: dict[str, FileStats] = {}  # opened before they are asked for
        self._given: list[FileStats] = []
        self._executor: ThreadPoolExecutor | None = None

    # Opening and closing

    def open(self) -> None:
        """Open the directory: recover it if no process has it open, else join the others.

        Waits while another process recovers it. Idempotent.

        Raises
        ------
        DataDirectoryError
            When it is not a directory, belongs to another user, or is in use with other settings.
        """
        if self._access.is_open:
            return
        descriptor, is_alone = self._access.lock()
        try:
            self._recover_or_join(descriptor, is_alone=is_alone)
            self._access.opened(descriptor)
        except BaseException as error:
            self._close_symbols()
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno is not None:
                raise cannot_be_used(self.path, error) from error
            raise

    def _recover_or_join(self, descriptor: int, *, is_alone: bool) -> None:
        if is_alone:
            self._files.remove_unfinished()
            self._access.announce(descriptor)
        else:
            self._access.check_settings(descriptor)
        self._open_files(is_left=is_alone)
        if is_alone:
            self._access.sync_names()  # The previous processes may have been killed before that.
            self._access.share(descriptor)

    def observe_syncs(self, observer: Callable[[int], object] | None) -> None:
        """Report the time of each sync, in nanoseconds; None ends that."""
        self._access.sync_times.observer = observer

    def close(self) -> None:
        """Close all symbols. The last process marks every file as closed cleanly. Idempotent."""
        if not self._access.is_open:
            return
        descriptor = self._access.release()
        try:
            self._close_symbols()
            if self._access.is_last(descriptor):
                if self.temporary:
                    shutil.rmtree(self.path, ignore_errors=True)
                elif is_at(descriptor, self.path / SETTINGS_FILE):
                    self._mark_files_closed()
                else:
                    _logger.warning("%s: not closed cleanly: %s", self.path, _REPLACED)
        finally:
            os.close(descriptor)

    def _close_symbols(self) -> None:
        """Close all files, once no other thread uses them."""
        for stats in self._given:
            stats.close()
        self._given.clear()
        self._ready.clear()
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _open_files(self, *, is_left: bool) -> None:
        for path in self._inventory.paths():
            try:
                file = self._files.open(path, is_left=is_left)
            except SymbolFileError as error:
                if error.is_passing:  # It is opened when it is asked for.
                    _logger.warning("%s", error)
                else:
                    self._rejected.reject(path, error.reason)
                continue
            except FileNotFoundError:  # Deleted meanwhile, or a link that leads nowhere.
                continue
            except InsufficientStorageError as error:
                self._rejected.reject(path, str(error))
                continue
            if file is not None:
                self._ready[file.symbol] = self._give(file)

    def _mark_files_closed(self) -> None:
        """Mark every file that is in use as closed cleanly. No other process has them open."""
        for path in self._inventory.paths():
            if path in self._rejected:
                continue
            try:
                with closing(SymbolFile.open(path)) as file, file:
                    # A file that was left half-way, or contradicts itself, is not marked.
                    if plan_recovery(file, boot_id()).state is FileState.KILLED:
                        close_cleanly(file)
            except FileNotFoundError:
                continue
            except (HeaderError, OSError) as error:
                reason = error.reason if isinstance(error, SymbolFileError) else error
                _logger.warning("%s: not closed cleanly: %s", path, reason)

    # Symbols

    def find(self, symbol: str) -> RunningStats | None:
        """Return an existing symbol, or None. Errors as in the base class."""
        stats = self._ready.pop(symbol, None)
        if stats is not None:
            if stats.sequence >= 0:
                return stats
            stats.close()
        path = self.path / file_name_of(symbol)
        try:
            file = self._files.open(path)
        except FileNotFoundError:
            self._rejected.accept(path)
            return None
        except SymbolFileError as error:
            if not error.is_passing:
                self._rejected.reject(path, error.reason)
            raise
        self._rejected.accept(path)
        return None if file is None else self._give(file)

    def create(self, symbol: str, prices: npt.NDArray[np.float64]) -> RunningStats:
        """Return a new symbol that holds its first batch. Errors as in the base class.

        The file gets its name when the batch is in it, so no process sees a symbol without prices.
        """
        path = self.path / file_name_of(symbol)
        with self._access.exclusively():
            if path.exists() and not self._files.finish_deletion(path):
                raise SymbolChangedError
            if sum(each.exists() for each in self._inventory.paths()) >= self.max_symbols:
                rejected = sum(each in self._rejected for each in self._inventory.paths())
                raise SymbolLimitError(self.max_symbols, rejected)
            file = self._files.create(path, symbol, prices)
        return self._give(file)

    def names(self) -> list[str]:
        """Return the names of all symbols that can be served, oldest first.

        Raises
        ------
        DataDirectoryError, SymbolFileError
            When the directory, or one of its files, cannot be read now.
        """
        try:
            return self._inventory.names()
        except OSError as error:
            if error.errno is None:  # One of this package's own errors.
                raise
            raise cannot_be_used(self.path, error) from error

    def delete(self, symbol: str, running_stats: RunningStats) -> None:
        """Delete a symbol permanently, for all processes. Errors as in the base class."""
        assert isinstance(running_stats, FileStats)
        self._files.delete(running_stats.file)

    # Housekeeping

    def run_housekeeping(self) -> Iterable[RunningStats]:
        """Sync in the background, and notice repaired and removed files. As in the base class."""
        self._rejected.recheck()
        if not self._access.is_at_its_path:
            self.refused[SETTINGS_FILE] = _REPLACED
        gone = [stats for stats in self._given if self._is_gone(stats.file)]
        for symbol, stats in list(self._ready.items()):
            if stats.sequence < 0 or stats in gone:
                self._ready.pop(symbol).close()
        self._given = [stats for stats in self._given if not stats.file.is_closed]
        self._sync_in_background()
        return gone

    def _is_gone(self, file: SymbolFile) -> bool:
        """Whether a file was removed or moved away by another program than a service."""
        if file.is_closed or file.sequence < 0 or is_at(file.descriptor, file.path):
            return False
        _logger.warning("%s: gone from the directory, and so is its symbol", file.path)
        if os.fstat(file.descriptor).st_nlink == 0:
            # No process can open it again; those that have it open see the deletion at once.
            with suppress(SymbolFileError), file:
                kernels.publish(file.header, DELETED)
        return True

    def _sync_in_background(self) -> None:
        now = time.monotonic()
        for stats in self._given:
            if stats.sync is not None and stats.sequence >= 0:
                try:
                    stats.sync.advance(now)
                except OSError as error:
                    reason = error.reason if isinstance(error, SymbolFileError) else error.strerror
                    _logger.warning("%s: not synced: %s", stats.file.path, reason)

    def _give(self, file: SymbolFile) -> FileStats:
        """Return the statistics of an open file, which is synced in the background if wanted."""
        stats = FileStats(file, self.durability)
        if self.durability == "process" and not self.temporary:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "fds-sync")
            stats.sync = BackgroundSync(stats.file, self._executor)
        self._given.append(stats)
        return stats
