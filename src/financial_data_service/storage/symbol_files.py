"""Creating, opening and removing the files of symbols in a directory that others use too."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import DELETED, WORD_APPEND_LIMIT, Geometry
from financial_data_service.engine.store import SymbolChangedError
from financial_data_service.errors import InsufficientStorageError, SymbolFileError
from financial_data_service.storage import disk
from financial_data_service.storage.allocation import no_room
from financial_data_service.storage.boot import boot_id
from financial_data_service.storage.directory_access import DirectoryAccess
from financial_data_service.storage.durability import Durability, renew
from financial_data_service.storage.file_names import SUFFIX
from financial_data_service.storage.file_stats import FileStats
from financial_data_service.storage.header import HeaderError
from financial_data_service.storage.identification import no_descriptor
from financial_data_service.storage.recovery import (
    NO_LIMIT,
    FileState,
    apply_recovery,
    plan_recovery,
)
from financial_data_service.storage.symbol_file import SymbolFile

__all__ = ["SymbolFiles"]

_NEW = ".new"

_logger = logging.getLogger("financial_data_service.storage")


class SymbolFiles:
    """Creates, opens and removes the symbols' files in one directory, for one process.

    Parameters
    ----------
    access : DirectoryAccess
        The locks of the directory.
    geometry : Geometry
        Sizes of every symbol.
    durability : "process" or "power"
        Whether a batch is acknowledged before or after it is on disk.
    temporary : bool
        Whether nothing is ever synced.
    """

    def __init__(
        self,
        access: DirectoryAccess,
        geometry: Geometry,
        durability: Durability,
        *,
        temporary: bool,
    ) -> None:
        self._access = access
        self._geometry = geometry
        self._durability: Durability = durability
        self._temporary = temporary

    def remove_unfinished(self) -> None:
        """Remove files whose creation was cut short by the end of a process."""
        for path in self._access.path.glob(f".*{SUFFIX}{_NEW}"):
            path.unlink(missing_ok=True)

    def create(self, path: Path, symbol: str, prices: npt.NDArray[np.float64]) -> SymbolFile:
        """Create a file that holds a first batch. The lock of the directory is held.

        Raises
        ------
        InsufficientStorageError, SymbolFileError
            When there is no room, or the disk fails. Then there is no file.
        """
        try:
            return self._make(path, symbol, prices)
        except InsufficientStorageError:
            raise
        except SymbolFileError as error:  # It names the unfinished file.
            raise SymbolFileError(str(path), error.reason, is_passing=error.is_passing) from error
        except OSError as error:
            if error.errno in disk.NO_ROOM:
                raise no_room(symbol, path.parent, error) from error
            if error.errno in disk.NO_DESCRIPTOR:
                raise no_descriptor(path, error) from error
            raise disk_fails(path, error, "nothing of the batch was stored") from error

    def _make(self, path: Path, symbol: str, prices: npt.NDArray[np.float64]) -> SymbolFile:
        """Make a file under another name, and rename it once the batch in it is on disk.

        The file is synced with `process` durability too. Otherwise a loss of power could leave a
        symbol without prices.
        """
        unfinished = path.with_name(f".{path.name}{_NEW}")
        unfinished.unlink(missing_ok=True)
        file = SymbolFile.create(unfinished, self._geometry, symbol)
        file.sync_times = self._access.sync_times
        try:
            if self._temporary:
                file.header[WORD_APPEND_LIMIT] = NO_LIMIT
            FileStats(file, "process" if self._temporary else "power").append_prices(prices)
            unfinished.rename(path)
            file.path = path
            self._access.sync_names()
        except BaseException:
            if file.path == path:  # Other processes may have found it by now.
                kernels.publish(file.header, DELETED)
            file.path.unlink(missing_ok=True)
            file.close()
            raise
        return file

    def open(self, path: Path, *, is_left: bool = False) -> SymbolFile | None:
        """Open a file, and recover it if necessary. None if the symbol was deleted.

        Parameters
        ----------
        path : Path
            The file.
        is_left : bool
            Whether it is known that no process has the file open. Then a header that says "in use"
            means that its processes were killed.

        Raises
        ------
        FileNotFoundError, SymbolFileError, InsufficientStorageError
            When the file does not exist, or cannot be used.
        """
        while True:
            file = SymbolFile.open(path)
            file.sync_times = self._access.sync_times
            try:
                self._check_geometry(file)
                with self._access.exclusively(), file:
                    is_same = file.is_at(path)
                    exists = is_same and self._adopt(file, is_left=is_left)
            except BaseException as error:
                file.close()
                if isinstance(error, HeaderError):
                    raise SymbolFileError(str(path), str(error)) from None
                if isinstance(error, OSError) and error.errno is not None:
                    raise disk_fails(path, error, "it cannot be used now") from error
                raise
            if exists:
                return file
            file.close()
            if is_same:
                return None
            # Another process has deleted the symbol meanwhile, and perhaps created it again.

    def delete(self, file: SymbolFile) -> None:
        """Delete a symbol permanently. Other processes see it at once.

        Raises
        ------
        SymbolChangedError
            When another process has deleted it.
        SymbolFileError
            When the disk fails; the message says whether the symbol was deleted.
        """
        with self._access.exclusively(), file:
            sequence = file.sequence
            if sequence < 0:
                raise SymbolChangedError
            kernels.publish(file.header, DELETED)
            try:
                file.path.unlink(missing_ok=True)
            except OSError as error:
                kernels.publish(file.header, sequence)
                raise disk_fails(file.path, error, "it was not deleted") from error
            try:
                self._access.sync_names()
            except OSError as error:
                raise disk_fails(
                    file.path, error, "it was deleted, but a loss of power may bring it back"
                ) from error

    def finish_deletion(self, path: Path) -> bool:
        """Remove a file whose deletion was cut short; return whether it was. The lock is held."""
        try:
            file = SymbolFile.open(path)
            file.sync_times = self._access.sync_times
        except (SymbolFileError, FileNotFoundError):
            return False
        try:
            if plan_recovery(file, boot_id()).state is not FileState.DELETED:
                return False
            self._remove(path)
        except HeaderError:
            return False
        finally:
            file.close()
        return True

    def _remove(self, path: Path) -> None:
        """Remove a file permanently: a loss of power must not bring it back."""
        path.unlink(missing_ok=True)
        self._access.sync_names()

    def _check_geometry(self, file: SymbolFile) -> None:
        theirs, ours = file.geometry, self._geometry
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
        """Recover a file unless other processes use it; False if the symbol was deleted.

        The locks of directory and file are held. A file that contradicts itself is rejected, also
        if other processes use it.
        """
        plan = plan_recovery(file, boot_id())
        if plan.state is FileState.DELETED:  # The process that deleted it was killed half-way.
            self._remove(file.path)
            return False
        if plan.state is FileState.KILLED and not is_left:
            return True
        began = time.monotonic()
        apply_recovery(file, plan, boot_id())
        file.sync_header()
        file.words[WORD_APPEND_LIMIT] = plan.append_limit
        if self._durability == "power" and plan.state is FileState.KILLED:
            renew(file)  # Batches acknowledged in `process` mode must be on disk as well.
        if plan.state is not FileState.CLEAN:
            _logger.info(
                "%s: %s; %s kept, levels made again in %.2f s",
                file.path, plan.state.value, _counted(plan.sequence), time.monotonic() - began,
            )  # fmt: skip
        return True


def _counted(prices: int) -> str:
    return f"{prices} price{'' if prices == 1 else 's'}"


def disk_fails(path: Path, error: OSError, outcome: str) -> SymbolFileError:
    """Return the error for a failed disk operation. `outcome` says what happened to the request."""
    return SymbolFileError(str(path), f"the disk fails ({error.strerror}): {outcome}")
