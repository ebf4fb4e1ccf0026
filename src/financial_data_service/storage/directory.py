"""DirectoryStore: a directory of symbols' files, shared by processes.

::

    DIRECTORY/
        directory.json      who uses it, and with which settings; its lock says whether anybody does
        AAPL.ring           one file per symbol
        BTC%2FUSDT.ring
        .AAPL.ring.new      a file that is being made, or was when its maker was killed

Locks, all of them ``flock``, which the kernel drops when a process dies:

* ``directory.json``, shared: held by each process that has the directory open. Who gets it
  exclusively is alone: on opening it recovers every file, on closing it marks them as closed
  cleanly.
* the directory itself, exclusively: for the moment in which a symbol is made, adopted or deleted.
* each file, exclusively: for the moment of an append.

What is removed or moved away under a process is gone for it within a second (``tend``).
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import DELETED, WORD_APPEND_LIMIT, Geometry
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.engine.store import SymbolChangedError, SymbolStore
from financial_data_service.errors import (
    DataDirectoryError,
    InsufficientStorageError,
    SymbolFileError,
    SymbolLimitError,
)
from financial_data_service.storage import disk
from financial_data_service.storage.boot import boot_id
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
from financial_data_service.storage.durability import (
    BackgroundSync,
    Durability,
    close_cleanly,
    renew,
)
from financial_data_service.storage.file_names import SUFFIX, file_name_of
from financial_data_service.storage.file_stats import FileStats
from financial_data_service.storage.header import HeaderError
from financial_data_service.storage.identification import no_descriptor, read_header
from financial_data_service.storage.locks import (
    LOCK_SECONDS,
    lock_within,
)
from financial_data_service.storage.recovery import NO_LIMIT, State, adopt, plan
from financial_data_service.storage.symbol_file import SymbolFile, no_room

__all__ = ["DirectoryStore"]
_NEW = ".new"

_REPLACED = (
    "it was removed or replaced while this service has the directory open, so that others cannot "
    "tell. Stop the service and start it again"
)

_logger = logging.getLogger("uvicorn.error")

_TICK_NS = 1_000_000_000  # longer than the tick of any file system's clock


class _Entry(NamedTuple):
    """A file that was looked at."""

    created_ns: int
    symbol: str


class DirectoryStore(SymbolStore):
    """Symbols in the files of a directory. For one thread at a time; for any number of processes.

    Parameters
    ----------
    path : path-like
        The directory; made, for this user alone, if it is not there.
    geometry : Geometry
        Sizes of every symbol.
    max_symbols : int
        Symbols kept at most, by all processes together.
    durability : "process" or "power"
        Whether a batch is acknowledged before or after it is on disk.
    temporary : bool
        Nothing is ever synced, and the last process removes the directory.
    holder_pid : int, optional
        Whom to stop so that this process lets go; itself if not given.
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
        self._holder_pid = holder_pid
        self.path = Path(path)
        self.durability: Durability = durability
        self.temporary = temporary
        self._settings = -1  # descriptor of directory.json, which holds the lock
        self._ready: dict[str, FileStats] = {}  # opened ahead of the first question
        self._given: list[FileStats] = []
        self._entries: dict[tuple[str, int], _Entry] = {}  # by name and inode
        self._entries_ns = -1  # time of the last change of names that they are as of
        self._executor: ThreadPoolExecutor | None = None
        self._refused_as: dict[str, tuple[int, ...] | None] = {}  # what was refused, by its stamp

    # Opening and closing

    def open(self) -> None:
        """Open the directory: recover it when nobody has it open, else join.

        Waits while another process recovers it. Idempotent.

        Raises
        ------
        DataDirectoryError
            When it is no directory, another user's, or in use with other settings.
        """
        if self._settings >= 0:
            return
        descriptor, is_alone = self._lock_settings()
        try:
            self._recover_or_join(descriptor, is_alone=is_alone)
            self._settings = descriptor
        except BaseException as error:
            self._let_go()
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno is not None:
                raise _cannot_be_used(self.path, error) from error
            raise

    def _lock_settings(self) -> tuple[int, bool]:
        """Return a descriptor of the file with the settings, locked, and whether we are alone."""
        while True:
            descriptor = self._make_directory()
            try:
                is_alone = lock_alone_or_shared(descriptor, self.path)
                if is_at(descriptor, self.path / SETTINGS_FILE):
                    return descriptor, is_alone
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # It was replaced meanwhile: others will lock the other one.

    def _recover_or_join(self, descriptor: int, *, is_alone: bool) -> None:
        if is_alone:
            self._remove_leftovers()
            write_settings(descriptor, self._described())
        else:
            self._check_settings(descriptor)
        self._open_files(is_left=is_alone)
        if is_alone:
            self._sync_names()  # Those who were here last may have been killed before they did so.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            # On the way from one lock to the other there is none: somebody may have come between.
            self._check_settings(descriptor)

    def close(self) -> None:
        """Let go; the last process marks every file as closed cleanly. Idempotent."""
        if self._settings < 0:
            return
        descriptor, self._settings = self._settings, -1
        try:
            self._let_go()
            if lock_alone_at_last(descriptor):
                if self.temporary:
                    shutil.rmtree(self.path, ignore_errors=True)
                elif is_at(descriptor, self.path / SETTINGS_FILE):
                    self._close_files()
                else:
                    _logger.warning("%s: not closed cleanly: %s", self.path, _REPLACED)
        finally:
            os.close(descriptor)

    def _let_go(self) -> None:
        """Close all files, once no other thread uses them."""
        for stats in self._given:
            stats.close()
        self._given.clear()
        self._ready.clear()
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _make_directory(self) -> int:
        """Make the directory if need be; return a descriptor of the file that holds its lock."""
        try:
            made = [path for path in (self.path, *self.path.parents) if not path.exists()]
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in made:
                if not self.temporary:
                    disk.sync_directory(path.parent)
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
            raise _cannot_be_used(self.path, error) from error

    def _described(self) -> dict[str, Any]:
        return {
            "pid": self._holder_pid or os.getpid(),
            "largest_window": self.geometry.largest_window,
            "batch_max": self.geometry.batch_max,
            "fanout": self.geometry.fanout,
            "max_symbols": self.max_symbols,
            "durability": self.durability,
        }

    def _check_settings(self, descriptor: int) -> None:
        """Refuse to join processes of other settings."""
        theirs, ours = load_settings(descriptor), self._described()
        different = [key for key in ours if key != "pid" and theirs.get(key) != ours[key]]
        if different:
            raise DataDirectoryError(
                f"{self.path}: in use by {holder_of(theirs)} with "
                + ", ".join(f"{key} {theirs.get(key)}" for key in different)
                + "; expected "
                + ", ".join(f"{key} {ours[key]}" for key in different)
                + ". Stop it first, or use the same settings"
            )

    def _remove_leftovers(self) -> None:
        """Remove files whose maker was killed before they were whole."""
        for path in self.path.glob(f".*{SUFFIX}{_NEW}"):
            path.unlink(missing_ok=True)

    def _open_files(self, *, is_left: bool) -> None:
        for path in self._paths():
            try:
                stats = self._open_file(path, is_left=is_left)
            except SymbolFileError as error:
                if error.is_passing:  # It is opened when it is asked for.
                    _logger.warning("%s", error)
                else:
                    self._refuse(path, error.reason)
                continue
            except FileNotFoundError:  # Deleted by others just now, or a link that leads nowhere.
                continue
            except InsufficientStorageError as error:
                self._refuse(path, str(error))
                continue
            if stats is not None:
                self._ready[stats.file.symbol] = stats

    def _close_files(self) -> None:
        """Mark every file that is in use as closed cleanly; nobody else has the directory open."""
        for path in self._paths():
            if self._is_refused(path):
                continue
            try:
                with closing(SymbolFile.open(path)) as file, file:
                    # What was left half-way or contradicts itself is not vouched for.
                    if plan(file, boot_id()).state is State.KILLED:
                        close_cleanly(file)
            except FileNotFoundError:
                continue
            except (HeaderError, OSError) as error:
                reason = error.reason if isinstance(error, SymbolFileError) else error
                _logger.warning("%s: not closed cleanly: %s", path, reason)

    # Symbols

    def find(self, symbol: str) -> RunningStats | None:
        """Return a symbol that is there, or None; errors as of the base class."""
        stats = self._ready.pop(symbol, None)
        if stats is not None:
            if stats.sequence >= 0:
                return stats
            stats.close()
        path = self.path / file_name_of(symbol)
        try:
            stats = self._open_file(path)
        except FileNotFoundError:
            self.refused.pop(path.name, None)
            return None
        except SymbolFileError as error:
            if not error.is_passing:
                self._refuse(path, error.reason)
            raise
        self.refused.pop(path.name, None)
        return stats

    def create(self, symbol: str, prices: npt.NDArray[np.float64]) -> RunningStats:
        """Return a new symbol that holds its first batch; errors as of the base class.

        The file gets its name when the batch is in it: no process ever sees a symbol without.
        """
        path = self.path / file_name_of(symbol)
        with self._exclusively():
            if path.exists() and not self._finish_deletion(path):
                raise SymbolChangedError
            if sum(path.exists() for path in self._paths()) >= self.max_symbols:
                raise SymbolLimitError(self.max_symbols, sum(map(self._is_refused, self._paths())))
            try:
                file = self._make_file(path, symbol, prices)
            except InsufficientStorageError:
                raise
            except SymbolFileError as error:  # It names the file as long as it is unfinished.
                raise SymbolFileError(
                    str(path), error.reason, is_passing=error.is_passing
                ) from error
            except OSError as error:
                if error.errno in disk.NO_ROOM:
                    raise no_room(symbol, path, error) from error
                if error.errno in disk.NO_DESCRIPTOR:
                    raise no_descriptor(path, error) from error
                raise _disk_fails(path, error, "nothing of the batch was stored") from error
        return self._give(FileStats(file, self.durability))

    def _make_file(self, path: Path, symbol: str, prices: npt.NDArray[np.float64]) -> SymbolFile:
        """Make a file that holds a batch, and give it its name once all of it is on disk.

        That is so for `process` durability too: a symbol without a price is not to be found even
        after a loss of power.
        """
        unfinished = path.with_name(f".{path.name}{_NEW}")
        unfinished.unlink(missing_ok=True)
        file = SymbolFile.create(unfinished, self.geometry, symbol)
        try:
            if self.temporary:
                file.header[WORD_APPEND_LIMIT] = NO_LIMIT
            FileStats(file, "process" if self.temporary else "power").append_prices(prices)
            unfinished.rename(path)
            file.path = path
            self._sync_names()
        except BaseException:
            if file.path == path:  # Others may have found it by now.
                kernels.publish(file.header, DELETED)
            file.path.unlink(missing_ok=True)
            file.close()
            raise
        return file

    def _finish_deletion(self, path: Path) -> bool:
        """Remove a file whose deletion was cut short; tell whether it was. The lock is held."""
        try:
            file = SymbolFile.open(path)
        except (SymbolFileError, FileNotFoundError):
            return False
        try:
            if plan(file, boot_id()).state is not State.DELETED:
                return False
            self._remove(path)
        except HeaderError:
            return False
        finally:
            file.close()
        return True

    def _remove(self, path: Path) -> None:
        """Remove a file for good: it is not to be back after a loss of power."""
        path.unlink(missing_ok=True)
        self._sync_names()

    def _sync_names(self) -> None:
        if not self.temporary:
            disk.sync_directory(self.path)

    def names(self) -> list[str]:
        """Return the names of all symbols that can be served, oldest first.

        Raises
        ------
        DataDirectoryError, SymbolFileError
            When the directory cannot be read, or not all of it now.
        """
        try:
            return self._names()
        except OSError as error:
            if error.errno is None:  # It is one of ours.
                raise
            raise _cannot_be_used(self.path, error) from error

    def _names(self) -> list[str]:
        # A file that is made anew often gets the inode of the one before: what is known of files
        # holds as long as no name in the directory changes.
        changed_ns = os.stat(self.path).st_mtime_ns
        if changed_ns != self._entries_ns:
            self._entries.clear()
        found = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    key = entry.name, entry.inode()
                    if (known := self._entries.get(key) or self._look_at(entry.name)) is not None:
                        found[key] = known
        self._entries = found
        # The clock of a file system ticks every few milliseconds: until then, changes look alike.
        self._entries_ns = changed_ns if time.time_ns() - changed_ns > _TICK_NS else -1
        return [entry.symbol for entry in sorted(found.values())]

    def _look_at(self, name: str) -> _Entry | None:
        path = self.path / name
        try:
            identity = read_header(path)
        except FileNotFoundError:
            return None
        except SymbolFileError as error:
            if error.is_passing:
                raise
            self._refuse(path, error.reason)
            return None
        if self._is_refused(path):
            return None
        return _Entry(identity.created_ns, identity.symbol)

    def delete(self, symbol: str, running_stats: RunningStats) -> None:
        """Remove a symbol for good; other processes see it at once. Errors as of the base class."""
        assert isinstance(running_stats, FileStats)
        file = running_stats.file
        with self._exclusively(), file:
            sequence = file.sequence
            if sequence < 0:
                raise SymbolChangedError
            kernels.publish(file.header, DELETED)
            try:
                file.path.unlink(missing_ok=True)
            except OSError as error:
                kernels.publish(file.header, sequence)
                raise _disk_fails(file.path, error, "it was not deleted") from error
            try:
                self._sync_names()
            except OSError as error:
                raise _disk_fails(
                    file.path, error, "it was deleted, but a loss of power may bring it back"
                ) from error

    def tend(self) -> Iterable[RunningStats]:
        """Sync in the background, see what was mended and what is gone; as of the base class."""
        for name in list(self.refused):
            self._is_refused(self.path / name)
        if not is_at(self._settings, self.path / SETTINGS_FILE):
            self.refused[SETTINGS_FILE] = _REPLACED
        gone = [stats for stats in self._given if self._is_gone(stats.file)]
        for symbol, stats in list(self._ready.items()):
            if stats.sequence < 0 or stats in gone:
                self._ready.pop(symbol).close()
        self._given = [stats for stats in self._given if not stats.file.is_closed]
        self._sync_in_background()
        return gone

    def _is_gone(self, file: SymbolFile) -> bool:
        """Tell whether a file was removed or moved away by other hands than a service's."""
        if file.is_closed or file.sequence < 0 or is_at(file.descriptor, file.path):
            return False
        _logger.warning("%s: gone from the directory, and so is its symbol", file.path)
        if os.fstat(file.descriptor).st_nlink == 0:
            # Nobody will ever open it again, and whoever has it open learns of it at once.
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

    # Files

    def _refuse(self, path: Path, reason: str) -> None:
        self.refused[path.name] = reason
        self._refused_as[path.name] = _stamp_of(path)

    def _is_refused(self, path: Path) -> bool:
        """Tell whether a file is refused and still the one that was; if it is not, forget that."""
        if path.name not in self.refused:
            return False
        stamp = _stamp_of(path)
        if stamp is not None and stamp == self._refused_as.get(path.name):
            return True
        del self.refused[path.name]
        return False

    def _paths(self) -> Iterator[Path]:
        """Yield the files of symbols, whatever is in them."""
        for path in sorted(self.path.glob(f"*{SUFFIX}")):
            if not path.name.startswith("."):
                yield path

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold the lock of the directory: nobody else makes, adopts or deletes a symbol."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _cannot_be_used(self.path, error) from error
        try:
            is_starting = self._settings < 0
            if not lock_within(descriptor, START_SECONDS if is_starting else LOCK_SECONDS):
                raise DataDirectoryError(
                    f"{self.path}: another process holds its lock and does not give it back; no "
                    "symbol was made or deleted"
                )
            yield
        finally:
            os.close(descriptor)

    def _open_file(self, path: Path, *, is_left: bool = False) -> FileStats | None:
        """Return the statistics of a file, adopted if it has to be, or None if it was deleted.

        Parameters
        ----------
        path : Path
            The file.
        is_left : bool
            Nobody has the file open: if it says it is in use, its processes were killed.

        Raises
        ------
        FileNotFoundError, SymbolFileError, InsufficientStorageError
            When it is not there, or cannot be used.
        """
        while True:
            file = SymbolFile.open(path)
            try:
                self._check_geometry(file)
                with self._exclusively(), file:
                    is_same = file.is_at(path)
                    is_there = is_same and self._adopt(file, is_left=is_left)
            except BaseException as error:
                file.close()
                if isinstance(error, HeaderError):
                    raise SymbolFileError(str(path), str(error)) from None
                if isinstance(error, OSError) and error.errno is not None:
                    raise _disk_fails(path, error, "it cannot be used now") from error
                raise
            if is_there:
                return self._give(FileStats(file, self.durability))
            file.close()
            if is_same:
                return None
            # Others have deleted it meanwhile, and perhaps made it anew.

    def _check_geometry(self, file: SymbolFile) -> None:
        theirs, ours = file.geometry, self.geometry
        if theirs == ours:
            return
        sizes = ("largest_window", "batch_max", "fanout")
        different = [key for key in sizes if getattr(theirs, key) != getattr(ours, key)]
        made, expected = (
            ", ".join(f"{key} {getattr(geometry, key)}" for key in different)
            for geometry in (theirs, ours)
        )
        raise HeaderError(
            f"expected {expected}, got {made}: it was made with other settings, and can be served "
            "with those"
        )

    def _adopt(self, file: SymbolFile, *, is_left: bool) -> bool:
        """Make a file one in use, unless others have it in use; False if it was deleted.

        The locks of directory and file are held. A file that contradicts itself is refused in any
        case, whoever has it in use.
        """
        trust = plan(file, boot_id())
        if trust.state is State.DELETED:  # Who deleted it was killed half-way.
            self._remove(file.path)
            return False
        if trust.state is State.KILLED and not is_left:
            return True
        began = time.monotonic()
        adopt(file, trust, boot_id())
        file.sync_header()
        file.words[WORD_APPEND_LIMIT] = trust.append_limit
        if self.durability == "power" and trust.state is State.KILLED:
            renew(file)  # What was acknowledged in `process` mode is to be on disk as well.
        if trust.state is not State.CLEAN:
            _logger.info(
                "%s: %s; %s kept, levels made again in %.2f s",
                file.path, trust.state.value, _counted(trust.sequence), time.monotonic() - began,
            )  # fmt: skip
        return True

    def _give(self, stats: FileStats) -> FileStats:
        """Remember what is given out, and have it synced in the background if that is wanted."""
        if self.durability == "process" and not self.temporary:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "fds-sync")
            stats.sync = BackgroundSync(stats.file, self._executor)
        self._given.append(stats)
        return stats


def _counted(prices: int) -> str:
    return f"{prices} price{'' if prices == 1 else 's'}"


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is mended, moved away or made anew; None if it is gone."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return (error.errno or 0,)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _cannot_be_used(path: Path, error: OSError) -> DataDirectoryError:
    return DataDirectoryError(f"{path}: cannot be used: {error.strerror}")


def _disk_fails(path: Path, error: OSError, outcome: str) -> SymbolFileError:
    return SymbolFileError(str(path), f"the disk fails ({error.strerror}): {outcome}")
