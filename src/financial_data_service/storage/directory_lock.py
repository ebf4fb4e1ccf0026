"""The lock of a data directory, and the settings stored in it."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from financial_data_service.errors import DataDirectoryError
from financial_data_service.storage.locks import (
    try_lock,
    try_lock_shared,
)

__all__ = ["SETTINGS_FILE", "is_in_use", "read_settings"]

SETTINGS_FILE = "directory.json"

# A process that checks whether a directory is in use holds its lock for some microseconds.
_LOOKS = 10
_LOOK_SECONDS = 0.0005

START_SECONDS = 30.0
"""How long a starting service waits for another service that is starting or stopping.

For scale: recovery takes 0.4 s for a symbol of 10**8 prices.
"""

_WAIT_SECONDS = 0.01  # between two attempts at the lock of a directory

_logger = logging.getLogger("financial_data_service.storage")


def is_in_use(path: str | os.PathLike[str]) -> bool:
    """Whether a process has the directory open."""
    with suppress(FileNotFoundError):
        descriptor = os.open(Path(path) / SETTINGS_FILE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return not lock_alone_at_last(descriptor)
        finally:
            os.close(descriptor)
    return False


def is_at(descriptor: int, path: Path) -> bool:
    """Whether a path refers to the open file. True if the system cannot determine it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def holder_of(settings: dict[str, Any]) -> str:
    """Return a description, for a message, of the process that has a directory open."""
    pid = settings.get("pid")
    try:
        if not isinstance(pid, int) or pid <= 0:
            return "another process"
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return "another process"
    except PermissionError:
        pass  # It exists and belongs to another user.
    return f"process {pid}"


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings of the processes that use a directory, or used it last; {} if unknown."""
    try:
        descriptor = os.open(Path(path) / SETTINGS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    try:
        return load_settings(descriptor)
    finally:
        os.close(descriptor)


def lock_alone_or_shared(descriptor: int, path: Path) -> bool:
    """Take the exclusive lock if no process has the directory open, else a shared one.

    Returns whether the lock is exclusive. A process that recovers, closes or checks the directory
    holds the lock exclusively for a short time. When it releases the lock, no process may have the
    directory open any more, so the exclusive lock is tried again.
    """
    if try_lock(descriptor):
        return True
    _lock_shared(descriptor, path)
    if try_lock(descriptor):
        return True
    _lock_shared(descriptor, path)
    return False


def _lock_shared(descriptor: int, path: Path) -> None:
    began, is_said = time.monotonic(), False
    while not try_lock_shared(descriptor):
        waited = time.monotonic() - began
        if waited > START_SECONDS:
            raise DataDirectoryError(
                f"{path}: {holder_of(load_settings(descriptor))} starts or ends there and has not "
                f"come to an end in {START_SECONDS:.0f} s"
            )
        if waited > 1 and not is_said:
            is_said = True
            holder = holder_of(load_settings(descriptor))
            _logger.info("%s: waiting for %s, which starts or ends there", path, holder)
        time.sleep(_WAIT_SECONDS)


def lock_alone_at_last(descriptor: int) -> bool:
    """Take the exclusive lock if no other process has the directory open; return whether."""
    for look in range(_LOOKS):
        if try_lock(descriptor):
            return True
        # The intervals are random. Otherwise two processes that check at the same intervals would
        # always find each other's lock.
        time.sleep(_LOOK_SECONDS * (look + random.random()))
    return False


def load_settings(descriptor: int) -> dict[str, Any]:
    """Return the settings stored in an open ``directory.json``; {} if it is damaged."""
    try:
        settings = json.loads(os.pread(descriptor, 65536, 0))
    except (ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def write_settings(descriptor: int, settings: dict[str, Any]) -> None:
    """Overwrite the settings in place, which works on a full disk too."""
    text = (json.dumps(settings, indent=2) + "\n").encode()
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))
