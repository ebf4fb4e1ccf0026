"""Requests to the disk: space, and syncs.

No other module makes them, so a test can simulate a loss of power or a full disk here.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from financial_data_service.engine.layout import PAGE_BYTES
from financial_data_service.errors import InsufficientStorageError

__all__ = [
    "NO_DESCRIPTOR",
    "NO_ROOM",
    "allocate",
    "start_writing",
    "sync_directory",
    "sync_file",
    "sync_range",
]

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))
"""Error codes of a process or system that has too many files open.

The file and the disk are not the cause.
"""


_SYNC_FILE_RANGE_WRITE = 2


def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Return a system call that Python's ``os`` lacks, or None if the system lacks it too."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_start_writing = _sync_file_range()


def allocate(descriptor: int, begin: int, end: int) -> None:
    """Make sure that there is disk space for bytes ``begin`` to ``end`` of a file.

    The contents do not change.

    Raises
    ------
    InsufficientStorageError
        When there is not enough space.
    """
    try:
        os.posix_fallocate(descriptor, begin, end - begin)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise InsufficientStorageError(error.errno, os.strerror(error.errno)) from error
        raise


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Start writing `length` bytes of a file, from `offset`, to disk. Do not wait for the end.

    This call does not guarantee that the bytes reach the disk. A later sync guarantees it, reports
    errors, and has less left to write.
    """
    if _start_writing is not None:
        _start_writing(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


def sync_file(descriptor: int) -> None:
    """Return once all of a file is on disk. Releases the GIL."""
    os.fdatasync(descriptor)


def sync_range(mapping: mmap.mmap, end: int) -> None:
    """Return once the first `end` bytes of a mapped file are on disk.

    The device is flushed once for any number of pages. Bytes after `end` may be written at any
    time.
    """
    mapping.flush(0, -(-end // PAGE_BYTES) * PAGE_BYTES)


def sync_directory(path: Path) -> None:
    """Return once the names in a directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
