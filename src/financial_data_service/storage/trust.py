"""How a reader classifies a file: in use, closed cleanly or left by a crash.

Only a service recovers files. A reader serves a file that is in use, or that was closed cleanly.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from financial_data_service.errors import (
    DataDirectoryError,
    SymbolFileError,
    SymbolNotFoundError,
)
from financial_data_service.storage.boot import boot_id
from financial_data_service.storage.directory_lock import SETTINGS_FILE, is_in_use, read_settings
from financial_data_service.storage.file_names import SUFFIX
from financial_data_service.storage.header import IN_USE, HeaderError, Identity, read_session
from financial_data_service.storage.identification import read_header
from financial_data_service.storage.recovery import FileState, RecoveryPlan
from financial_data_service.storage.symbol_file import SymbolFile

__all__ = ["recovery_plan_of", "ring_files"]

_TRIES = 5
_TRY_SECONDS = 0.001  # a writer that was stopped half-way is no reason to reject a file


def ring_files(directory: Path) -> list[Path]:
    """Return the files of symbols in a data directory, by name, without opening them.

    Raises
    ------
    DataDirectoryError
        When it is no data directory, or this user may not read it.
    """
    try:
        names = sorted(os.listdir(directory))
    except NotADirectoryError:
        raise DataDirectoryError(f"{directory}: expected a directory, got a file") from None
    except OSError as error:
        raise DataDirectoryError(f"{directory}: cannot be read: {error.strerror}") from error
    files = [name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]
    if not files and SETTINGS_FILE not in names:
        raise DataDirectoryError(
            f"{directory}: expected a data directory, got one without {SETTINGS_FILE} and without "
            f"a file of the form *{SUFFIX}"
        )
    return [directory / name for name in files]


def recovery_plan_of(file: SymbolFile) -> RecoveryPlan | None:
    """Return what a starting service would believe of a file, or None while one uses it.

    Raises
    ------
    SymbolFileError
        When a service would reject the file.
    """
    if _is_live(file):
        _check_live(file)
        return None
    plan = error = None
    try:
        plan = file.plan_recovery()
    except SymbolFileError as refusal:
        error = refusal
    if plan is not None and plan.state is FileState.CLEAN:
        return plan
    if _is_live(file):  # A service has started meanwhile.
        _check_live(file)
        return None
    if error is not None:
        raise error
    return plan


def _is_live(file: SymbolFile) -> bool:
    try:
        session = read_session(file.header)
    except HeaderError as error:
        raise SymbolFileError(str(file.path), str(error)) from None
    is_used = session.state == IN_USE and session.boot_id == boot_id()
    if not is_used or not is_in_use(file.path.parent):
        return False
    # If the running service has other sizes, it rejected this file and does not use it.
    settings, geometry = read_settings(file.path.parent), file.geometry
    sizes = ("largest_window", "batch_max", "fanout")
    return all(settings.get(size) in (None, getattr(geometry, size)) for size in sizes)


def _check_live(file: SymbolFile) -> None:
    """Raise if the service that uses the directory would reject the file.

    A writer changes words of the header one after the other, so they may contradict each other for
    a moment.
    """
    for _ in range(_TRIES - 1):
        with suppress(SymbolFileError):
            file.plan_recovery()
            return
        time.sleep(_TRY_SECONDS)
    file.plan_recovery()


def check_sound(file: SymbolFile) -> None:
    """Reject a file that no service uses and that was not closed cleanly."""
    plan = recovery_plan_of(file)
    state = FileState.CLEAN if plan is None else plan.state
    if state is FileState.DELETED or file.sequence < 0:
        raise SymbolNotFoundError(file.symbol)
    if state is not FileState.CLEAN:
        raise SymbolFileError(
            str(file.path),
            f"it was {state.value}. Start `fds serve --data-dir {file.path.parent}` once, with the "
            "settings it had: it decides which prices are sound",
        )


def identity_of(path: Path) -> Identity | None:
    """Return the identity of a file, or None if it cannot be read."""
    try:
        return read_header(path)
    except (SymbolFileError, FileNotFoundError):
        return None
