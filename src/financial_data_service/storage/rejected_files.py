"""Files of a directory that cannot be served, each with the reason."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["RejectedFiles"]


class RejectedFiles:
    """The rejected files of a directory. A file that is repaired or replaced is forgotten.

    Parameters
    ----------
    directory : Path
        The directory of the files.
    reasons : dict of str to str
        Name of the file → reason. The caller may read it and add entries of its own.
    """

    def __init__(self, directory: Path, reasons: dict[str, str]) -> None:
        self._directory = directory
        self._reasons = reasons
        self._stamps: dict[str, tuple[int, ...] | None] = {}

    def reject(self, path: Path, reason: str) -> None:
        """Record a file as rejected, with its current state."""
        self._reasons[path.name] = reason
        self._stamps[path.name] = _stamp_of(path)

    def accept(self, path: Path) -> None:
        """Forget a file that can be served now, or is gone."""
        self._reasons.pop(path.name, None)

    def __contains__(self, path: Path) -> bool:
        """Whether a file is rejected and unchanged since. A changed file is forgotten."""
        if path.name not in self._reasons:
            return False
        stamp = _stamp_of(path)
        if stamp is not None and stamp == self._stamps.get(path.name):
            return True
        del self._reasons[path.name]
        return False

    def recheck(self) -> None:
        """Forget the files that have changed since they were rejected."""
        for name in list(self._reasons):
            _ = self._directory / name in self


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    """Return a value that changes when a file is repaired, moved or replaced.

    Return None if the file does not exist.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return (error.errno or 0,)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
