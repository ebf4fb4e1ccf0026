"""Facts about the machine, for ``fds doctor``: memory, mounts, limits. Reads, and judges nothing.

``root`` is where ``/proc`` and ``/sys`` are; tests give another. A fact that the system does not
tell is None.
"""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Memory",
    "Mount",
    "OpenFiles",
    "Space",
    "cores",
    "huge_pages",
    "memory",
    "mount_of",
    "nearest",
    "open_files",
    "processor",
    "processor_flags",
    "space_of",
]

ROOT = Path("/")


class Memory(NamedTuple):
    """Memory in bytes. `limit` is that of the control group; None if there is none."""

    total: int
    available: int
    limit: int | None


class Mount(NamedTuple):
    """Where a path is mounted, and the type of its file system."""

    point: str
    kind: str


class Space(NamedTuple):
    """Size and free space of a file system, in bytes."""

    total: int
    free: int


class OpenFiles(NamedTuple):
    """Limits of open files of a process; None means no limit."""

    soft: int | None
    hard: int | None


def memory(root: Path = ROOT) -> Memory | None:
    """Return the memory of the machine, and what the control group allows of it."""
    text = _read(root / "proc/meminfo")
    found = {name: int(kib) * 1024 for name, kib in re.findall(r"(\w+): +(\d+) kB", text)}
    if "MemTotal" not in found:
        return None
    available = found.get("MemAvailable", found.get("MemFree", 0))
    limits = [limit for limit in _memory_limits(root) if limit < found["MemTotal"]]
    return Memory(found["MemTotal"], available, min(limits, default=None))


def _memory_limits(root: Path) -> list[int]:
    """Return the limits of the process's control group and of those around it, versions 1 and 2."""
    files = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        own = Path(path.lstrip("/"))
        files += [top / group / name for group in (own, *own.parents)]
    return [int(text) for file in files if (text := _read(file).strip()).isdecimal()]


def huge_pages(root: Path = ROOT) -> str | None:
    """Return when the kernel makes transparent huge pages: always, madvise or never."""
    text = _read(root / "sys/kernel/mm/transparent_hugepage/enabled")
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen[1] if chosen else None


def processor(root: Path = ROOT) -> str | None:
    """Return the name of the processor."""
    name = re.search(r"^model name\s*: (.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return name[1] if name else None


def processor_flags(root: Path = ROOT) -> set[str]:
    """Return the extensions of the processor as the kernel names them; empty if it does not."""
    flags = re.search(r"^flags\s*: (.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return set(flags[1].split()) if flags else set()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def mount_of(path: Path, root: Path = ROOT) -> Mount | None:
    """Return the mount that a path is on; the path must exist."""
    real = path.resolve()
    found = None
    for line in _read(root / "proc/self/mounts").splitlines():
        words = line.split(" ")
        # The kernel writes spaces and the like as octal numbers. Of two mounts at one place the
        # later one counts.
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), words[1])
        is_around = real.is_relative_to(point)
        if is_around and (found is None or len(point) >= len(found.point)):
            found = Mount(point, words[2])
    return found


def space_of(path: Path) -> Space | None:
    """Return the space of the file system that a path is on, as far as this user may use it."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return Space(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def nearest(path: Path) -> Path:
    """Return the path, or the closest directory around it that exists."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def open_files() -> OpenFiles:
    """Return the limits of open files of this process."""
    soft, hard = (
        None if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    return OpenFiles(soft, hard)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
