"""Whether a file is a symbol's file: its header is read and checked before anything else."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np

from financial_data_service.engine.layout import HEADER_BYTES
from financial_data_service.errors import SymbolFileError
from financial_data_service.storage import disk
from financial_data_service.storage.file_names import file_name_of
from financial_data_service.storage.header import (
    HeaderError,
    Identity,
    read_identity,
    refuse_strays,
)

__all__ = ["no_descriptor", "read_header"]

_NOT_REGULAR = "not a regular file"


def read_header(path: Path) -> Identity:
    """Return the identity of a file without mapping it. Errors as for :meth:`SymbolFile.open`."""
    descriptor = open_descriptor(path, read_only=True)
    try:
        return checked_header(path, descriptor, own=False)
    finally:
        os.close(descriptor)


def open_descriptor(path: Path, *, read_only: bool) -> int:
    """Return a descriptor of a file.

    Raises
    ------
    FileNotFoundError
        When the file does not exist.
    SymbolFileError
        When it cannot be opened; a directory and a socket cannot.
    """
    # Opening a named pipe would wait for the process at its other end.
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in disk.NO_DESCRIPTOR:
            raise no_descriptor(path, error) from error
        if error.errno in (errno.EISDIR, errno.ENXIO):  # a directory to be written to; a socket
            raise SymbolFileError(str(path), _NOT_REGULAR) from error
        raise SymbolFileError(str(path), f"cannot be opened: {error.strerror}") from error


def checked_header(path: Path, descriptor: int, *, own: bool) -> Identity:
    """Return the static part of a file's header. Size, owner and name agree with it."""
    try:
        status = os.fstat(descriptor)
        if own and status.st_uid != os.geteuid():
            raise HeaderError(
                f"expected a file of user {os.geteuid()}, who runs this process, "
                f"got one of user {status.st_uid}"
            )
        if not stat.S_ISREG(status.st_mode):
            raise HeaderError(_NOT_REGULAR)
        header = _read_header_page(descriptor)
        if len(header) < HEADER_BYTES:
            raise HeaderError(f"expected a header of {HEADER_BYTES} bytes, got {len(header)}")
        words = np.frombuffer(header, dtype="<i8")
        identity = read_identity(words)
        refuse_strays(words)
        if status.st_size != identity.geometry.size_bytes:
            change = "cut short" if status.st_size < identity.geometry.size_bytes else "added to"
            raise HeaderError(
                f"expected {identity.geometry.size_bytes} bytes, got {status.st_size}: it was "
                f"{change}"
            )
        if path.name != file_name_of(identity.symbol):
            raise HeaderError(
                f"expected the name {file_name_of(identity.symbol)} for the symbol "
                f"{identity.symbol} that it holds: it was renamed"
            )
    except HeaderError as error:
        raise SymbolFileError(str(path), str(error)) from None
    return identity


def _read_header_page(descriptor: int) -> bytes:
    """Return the first page, without read-ahead of others."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    try:
        return os.pread(descriptor, HEADER_BYTES, 0)
    finally:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_NORMAL)


def no_descriptor(path: Path, error: OSError) -> SymbolFileError:
    """Return the error for a file that cannot be opened because too many are open."""
    reason = f"cannot be opened now ({error.strerror}); a higher `ulimit -n` helps"
    return SymbolFileError(str(path), reason, is_passing=True)
