"""Facts of the machine: from a made-up ``/proc`` and ``/sys``, and from this machine."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from financial_data_service.cli import machine


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


MEMORY = "MemTotal:       2048 kB\nMemFree:    512 kB\nMemAvailable:    1024 kB\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/", {}, None),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/a/b", {"a/memory.max": "1000", "a/b/memory.max": "2000"}, 1000),
        ("0::/a/b", {"a/memory.max": "max", "a/b/memory.max": "2000"}, 2000),
        ("4:cpu,memory:/a\n0::/", {"memory/a/memory.limit_in_bytes": "3000"}, 3000),
        # Version 1 writes a number larger than any memory for none.
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_memory(cgroup: str, files: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    write(tmp_path / "proc/meminfo", MEMORY)
    write(tmp_path / "proc/self/cgroup", cgroup)
    for name, text in files.items():
        write(tmp_path / "sys/fs/cgroup" / name, f"{text}\n")
    assert machine.memory(tmp_path) == (2048 * 1024, 1024 * 1024, limit)


def test_what_the_system_does_not_tell(tmp_path: Path) -> None:
    assert machine.memory(tmp_path) is None
    assert machine.huge_pages(tmp_path) is None
    assert machine.processor(tmp_path) is None
    assert machine.mount_of(tmp_path, tmp_path) is None
    assert machine.space_of(tmp_path / "nothing") is None


def test_huge_pages_and_processor(tmp_path: Path) -> None:
    write(tmp_path / "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n")
    assert machine.huge_pages(tmp_path) == "madvise"
    assert machine.processor(tmp_path) == "Some CPU @ 3 GHz"
    assert machine.processor_flags(tmp_path) == set()
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu avx2\n\nflags\t\t: fpu\n")
    assert machine.processor_flags(tmp_path) == {"fpu", "avx2"}


def test_the_innermost_and_newest_mount_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a b"
    inner.mkdir()
    escaped = str(inner).replace(" ", r"\040")
    write(
        tmp_path / "proc/self/mounts",
        f"/dev/a / ext4 rw 0 0\nold {escaped} xfs rw 0 0\nnew {escaped} nfs4 rw 0 0\n"
        f"/dev/b {escaped}c tmpfs rw 0 0\n",
    )
    assert machine.mount_of(inner, tmp_path) == (str(inner), "nfs4")
    assert machine.mount_of(tmp_path, tmp_path) == ("/", "ext4")


def test_this_machine(tmp_path: Path) -> None:
    mount, space = machine.mount_of(tmp_path), machine.space_of(tmp_path)
    assert mount is not None
    assert space is not None
    assert os.path.ismount(mount.point)
    assert space.total == shutil.disk_usage(tmp_path).total
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert machine.open_files().soft == (None if soft == resource.RLIM_INFINITY else soft)


def test_the_nearest_that_exists(tmp_path: Path) -> None:
    assert machine.nearest(tmp_path) == tmp_path
    assert machine.nearest(tmp_path / "a" / "b") == tmp_path
    assert machine.nearest(Path("not-there")) == Path.cwd()
