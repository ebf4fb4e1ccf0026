"""Which files an argument names, and their bytes, unpacked.

The first bytes of a file decide how it is compressed, not its name.
"""

from __future__ import annotations

import bz2
import fnmatch
import glob
import gzip
import importlib
import io
import lzma
import os
import re
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.options import STANDARD_INPUT

__all__ = [
    "Bytes",
    "PriceSource",
    "find_sources",
    "large_temporary_file",
    "open_source",
    "reason_of",
]

_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".feather", ".arrow", ".ipc", ".jsonl", ".ndjson")
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")
_ZIP_MAGIC = b"PK\x03\x04"
_MAGIC_BYTES = 6
_LAYERS_MAX = 3


@dataclass(frozen=True)
class PriceSource:
    """One file, or one member of a zip archive."""

    path: str
    member: str | None = None

    @property
    def name(self) -> str:
        """What sentences call it."""
        name = "the standard input" if self.path == STANDARD_INPUT else self.path
        return name if self.member is None else f"{name}, member {self.member}"


@dataclass
class Bytes:
    """The unpacked bytes of a source."""

    stream: io.BufferedReader
    raw: IO[bytes]
    """The file itself, whose position shows the progress."""
    size: int | None
    """Bytes of the file itself; None if it has no end in sight."""

    @property
    def position(self) -> int:
        """Bytes of the file itself that have been read."""
        return self.raw.tell() if self.size is not None else 0


def find_sources(arguments: list[str], member: str | None) -> list[PriceSource]:
    """Return the files that the arguments name: files, patterns and directories.

    The files of a pattern or a directory, and the members of an archive, are in order of name, in
    which numbers count as numbers: ``part-9`` is before ``part-10``.

    Raises
    ------
    CliError
        When an argument names no file, or an archive has no such member.
    """
    paths = [path for argument in arguments for path in _expanded(argument)]
    if STANDARD_INPUT in paths and len(paths) > 1:
        raise CliError("- reads the standard input and cannot be combined with files.")
    sources = [source for path in paths for source in _members(path, member)]
    if member is not None and not any(source.member for source in sources):
        raise CliError(f"--member {member}: {', '.join(paths)} is not a zip archive.")
    return sources


def _expanded(argument: str) -> list[str]:
    if argument == STANDARD_INPUT or os.path.isfile(argument):
        return [argument]
    if os.path.isdir(argument):
        paths = [entry.path for entry in os.scandir(argument) if _is_price_file(entry)]
        if not paths:
            known = " ".join((*_SUFFIXES, *_PACKED_SUFFIXES))
            raise CliError(f"{argument} holds no files of prices. Their names end in: {known}")
        return sorted(paths, key=_natural)
    if glob.has_magic(argument):
        paths = [path for path in glob.glob(argument, recursive=True) if os.path.isfile(path)]
        if not paths:
            raise CliError(f"No file matches {argument}.")
        return sorted(paths, key=_natural)
    return [argument]  # A pipe, or no file at all: opening it says so.


def _is_price_file(entry: os.DirEntry[str]) -> bool:
    name = entry.name.lower()
    return (
        entry.is_file() and not name.startswith(".") and name.endswith(_SUFFIXES + _PACKED_SUFFIXES)
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _members(path: str, wanted: str | None) -> list[PriceSource]:
    if path == STANDARD_INPUT or not os.path.isfile(path):
        return [PriceSource(path)]
    try:
        with open(path, "rb") as file:
            if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
                return [PriceSource(path)]
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise CliError(f"Cannot read {path}: {reason_of(error)}.") from error
    names = [name for name in names if not name.startswith("__MACOSX/")]
    chosen = [name for name in names if wanted is None or fnmatch.fnmatchcase(name, wanted)]
    if not chosen:
        sought = f"has no member {wanted!r}; it has" if names else "is an archive without files"
        raise CliError(f"{path} {sought} {', '.join(map(repr, names[:20]))}".rstrip() + ".")
    return [PriceSource(path, name) for name in sorted(chosen, key=_natural)]


@contextmanager
def open_source(source: PriceSource) -> Iterator[Bytes]:
    """Open the file and unpack it.

    Raises
    ------
    CliError
        When it cannot be opened.
    """
    with ExitStack() as stack:
        try:
            raw = _raw(source.path, stack)
            size = _size_bytes(raw)
            opened = cast(io.BufferedReader, raw)
            if source.member is not None:
                archive = stack.enter_context(zipfile.ZipFile(raw))
                opened = io.BufferedReader(cast(Any, archive.open(source.member)))
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
            raise CliError(f"Cannot read {source.name}: {reason_of(error)}.") from error
        for _ in range(_LAYERS_MAX):
            unpacked = _unpacked(opened, source.name, stack)
            if unpacked is opened:
                break
            opened = unpacked
        yield Bytes(opened, raw, size)


def _raw(path: str, stack: ExitStack) -> IO[bytes]:
    if path == STANDARD_INPUT:
        return sys.stdin.buffer
    return stack.enter_context(open(path, "rb"))


def _unpacked(packed: io.BufferedReader, name: str, stack: ExitStack) -> io.BufferedReader:
    """Return the stream without one layer of compression, or the stream itself."""
    try:
        head = packed.peek(_MAGIC_BYTES)[:_MAGIC_BYTES]
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise CliError(f"Cannot read {name}: {reason_of(error)}.") from error
    if head.startswith(b"\x1f\x8b"):
        return io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=packed)))
    if head.startswith(b"BZh"):
        return io.BufferedReader(cast(Any, bz2.BZ2File(packed)))
    if head.startswith(b"\xfd7zXZ\x00"):
        return io.BufferedReader(cast(Any, lzma.LZMAFile(packed)))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return io.BufferedReader(_zstd_file(packed))
    if head.startswith(_ZIP_MAGIC):  # From standard input, or inside another archive.
        copy = large_temporary_file(stack)
        shutil.copyfileobj(packed, copy)
        archive = stack.enter_context(zipfile.ZipFile(copy))
        members = [info for info in archive.infolist() if not info.is_dir()]
        if len(members) != 1:
            raise CliError(f"{name} holds {len(members)} files: unpack it, and give the files.")
        return io.BufferedReader(cast(Any, archive.open(members[0])))
    return packed


def _zstd_file(packed: io.BufferedReader) -> Any:
    for module in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(module).ZstdFile(packed)
        except ImportError:
            continue
    raise CliError(
        "Reading .zst files needs backports.zstd: make install in a checkout, or "
        "pip install 'financial-data-service[files]'."
    )


def large_temporary_file(stack: ExitStack) -> IO[bytes]:
    """Return a file without a name that may become large: on a disk, where there is one."""
    roomy = "/var/tmp" if "TMPDIR" not in os.environ and Path("/var/tmp").is_dir() else None
    return stack.enter_context(tempfile.TemporaryFile(dir=roomy))


def reason_of(error: BaseException) -> str:
    """Return why a file cannot be read, to stand inside a sentence."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return (reason[:1].lower() + reason[1:]).rstrip(".")


def _size_bytes(stream: IO[bytes]) -> int | None:
    try:
        status = os.fstat(stream.fileno())
    except OSError:  # Not a file of the operating system.
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
