"""What is asked of the disk: room, and that things have arrived there.

The only module that does so: a test that plays loss of power or a full disk stands in for it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from financial_data_service.engine.layout import PAGE_BYTES
from financial_data_service.errors import InsufficientStorageError

__all__ = [
    "NO_DESCRIPTOR",
    "NO_ROOM",
    "allocate",
    "on_sync",
    "start_writing",
    "sync_directory",
    "sync_file",
    "sync_range",
]

on_sync: Callable[[int], object] | None = None
"""Told how long each sync took, in nanoseconds, by the thread that waited for it."""

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))
"""Neither the file nor the disk is to blame: the process, or the system, has too much open."""


_SYNC_FILE_RANGE_WRITE = 2


def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Return the call of that name, which Python's ``os`` lacks; None where there is none."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_start_writing = _sync_file_range()


def allocate(descriptor: int, begin: int, end: int) -> None:
    """Make sure that bytes ``begin`` to ``end`` of a file have room on disk; contents stay.

    Raises
    ------
    InsufficientStorageError
        When there is no room.
    """
    try:
        os.posix_fallocate(descriptor, begin, end - begin)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise InsufficientStorageError(error.errno, os.strerror(error.errno)) from error
        raise


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Have the disk begin with `length` bytes of a file from `offset` on; wait for nothing.

    Promises nothing: a sync does, and finds some of its work done. What goes wrong, it tells.
    """
    if _start_writing is not None:
        _start_writing(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


def sync_file(descriptor: int) -> None:
    """Return once all of a file is on disk. Releases the GIL."""
    _measured(os.fdatasync, descriptor)


def sync_range(mapping: mmap.mmap, end: int) -> None:
    """Return once the first `end` bytes of a mapped file are on disk.

    One flush of the device, whatever the number of pages; what lies behind may follow later.
    """
    _measured(mapping.flush, 0, -(-end // PAGE_BYTES) * PAGE_BYTES)


def sync_directory(path: Path) -> None:
    """Return once the names in a directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _measured(os.fsync, descriptor)
    finally:
        os.close(descriptor)


def _measured(sync: Callable[..., Any], *arguments: int) -> None:
    tell = on_sync
    if tell is None:
        sync(*arguments)
        return
    began = time.perf_counter_ns()
    try:
        sync(*arguments)
    finally:
        tell(time.perf_counter_ns() - began)
