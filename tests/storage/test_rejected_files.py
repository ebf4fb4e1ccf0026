"""Rejected files: one that is repaired, replaced or gone is forgotten, any other stays rejected."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from financial_data_service.storage.rejected_files import RejectedFiles


def replace(path: Path) -> None:
    """Put another file of the same size and time in its place."""
    status = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def repair(path: Path) -> None:
    """Write to it: its size stays, its time changes."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def lengthen(path: Path) -> None:
    """Append to it; its time stays."""
    status = path.stat()
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_file_stays_rejected_while_it_does_not_change(tmp_path: Path) -> None:
    reasons: dict[str, str] = {}
    rejected, path = RejectedFiles(tmp_path, reasons), tmp_path / "A.ring"
    path.write_bytes(b"1234")
    assert path not in rejected
    rejected.reject(path, "too short")
    path.read_bytes()
    rejected.recheck()
    assert path in rejected
    assert reasons == {"A.ring": "too short"}
    rejected.accept(path)
    assert path not in rejected
    assert reasons == {}
    rejected.accept(path)  # It was forgotten before: that is no error.


@pytest.mark.parametrize("change", [replace, repair, lengthen, Path.unlink])
@pytest.mark.parametrize("is_rechecked", [True, False])
def test_a_file_that_changes_is_forgotten(
    tmp_path: Path, change: Callable[[Path], object], is_rechecked: bool
) -> None:
    reasons: dict[str, str] = {}
    rejected = RejectedFiles(tmp_path, reasons)
    path, other = tmp_path / "A.ring", tmp_path / "B.ring"
    for each in (path, other):
        each.write_bytes(b"1234")
        rejected.reject(each, "too short")
    change(path)
    if is_rechecked:
        rejected.recheck()
    else:
        assert path not in rejected
    assert reasons == {"B.ring": "too short"}


def test_a_reason_without_a_file_is_forgotten(tmp_path: Path) -> None:
    reasons = {"gone.ring": "it could not be read"}
    RejectedFiles(tmp_path, reasons).recheck()
    assert reasons == {}
