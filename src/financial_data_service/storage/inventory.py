"""The list of the symbols in a directory. The header of each file is read only once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from financial_data_service.errors import SymbolFileError
from financial_data_service.storage.file_names import SUFFIX
from financial_data_service.storage.identification import read_header
from financial_data_service.storage.rejected_files import RejectedFiles

__all__ = ["Inventory"]

_TICK_NS = 1_000_000_000  # longer than the clock tick of any file system


class _Entry(NamedTuple):
    """A file whose header was read."""

    created_ns: int
    symbol: str


class Inventory:
    """The files of symbols in a directory, and the names of the symbols in them.

    Parameters
    ----------
    directory : Path
        The directory.
    rejected : RejectedFiles
        Receives the files that cannot be served.
    """

    def __init__(self, directory: Path, rejected: RejectedFiles) -> None:
        self._directory = directory
        self._rejected = rejected
        self._entries: dict[tuple[str, int], _Entry] = {}  # by name and inode
        self._changed_ns = -1  # time of the directory's last change that the entries include

    def paths(self) -> Iterator[Path]:
        """Yield the files of symbols, whatever they contain. O(files)."""
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            if not path.name.startswith("."):
                yield path

    def names(self) -> list[str]:
        """Return the names of all symbols that can be served, oldest first. O(files).

        Raises
        ------
        OSError, SymbolFileError
            When the directory, or one of its files, cannot be read now.
        """
        # A recreated file often gets the inode of its predecessor. So entries are only valid while
        # no name in the directory changes.
        changed_ns = os.stat(self._directory).st_mtime_ns
        if changed_ns != self._changed_ns:
            self._entries.clear()
        found = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    key = entry.name, entry.inode()
                    if (known := self._entries.get(key) or self._read(entry.name)) is not None:
                        found[key] = known
        self._entries = found
        # A file system's clock advances every few milliseconds. Two changes within one tick have
        # the same time, so a recent time is not trusted.
        self._changed_ns = changed_ns if time.time_ns() - changed_ns > _TICK_NS else -1
        return [entry.symbol for entry in sorted(found.values())]

    def _read(self, name: str) -> _Entry | None:
        path = self._directory / name
        try:
            identity = read_header(path)
        except FileNotFoundError:
            return None
        except SymbolFileError as error:
            if error.is_passing:
                raise
            self._rejected.reject(path, error.reason)
            return None
        if path in self._rejected:
            return None
        return _Entry(identity.created_ns, identity.symbol)
