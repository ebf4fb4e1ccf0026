"""Locks between processes, held here by two descriptors of one file: a lock belongs to one each."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from financial_data_service.storage.locks import lock_within, try_lock, try_lock_shared


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two descriptors of one file, as two processes have them."""
    path = tmp_path / "file"
    path.touch()
    descriptors = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_an_exclusive_lock_keeps_out_all_others(two: tuple[int, int]) -> None:
    one, other = two
    assert try_lock(one)
    assert not try_lock(other)
    assert not try_lock_shared(other)
    fcntl.flock(one, fcntl.LOCK_UN)
    assert try_lock(other)


def test_shared_locks_keep_out_exclusive_ones_alone(two: tuple[int, int]) -> None:
    one, other = two
    assert try_lock_shared(one)
    assert try_lock_shared(other)
    assert not try_lock(one)


def test_waiting_ends(two: tuple[int, int]) -> None:
    one, other = two
    assert lock_within(one, 0)
    begun = time.monotonic()
    assert not lock_within(other, 0.05)
    assert 0.05 <= time.monotonic() - begun < 5
    assert not lock_within(other, 0)


def test_a_lock_that_is_released_meanwhile_is_taken(two: tuple[int, int]) -> None:
    one, other = two
    assert try_lock(one)
    release = threading.Timer(0.02, fcntl.flock, (one, fcntl.LOCK_UN))
    release.start()
    try:
        assert lock_within(other, 20)
    finally:
        release.join()
    assert not try_lock(one)


def test_an_error_that_is_no_other_lock_is_raised() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        try_lock(2**20)
