"""The lock files: every requirement has its hashes, nothing says where to download from, and the
four locks agree, so that one environment can grow from any of them into any other.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.paths import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
REQUIREMENT = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([^ ]+)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def requirements(lock: Path) -> dict[str, set[str]]:
    """Package → its versions; more than one where they differ by Python version."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if match := REQUIREMENT.match(line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def test_there_is_a_lock_for_each_purpose() -> None:
    assert [lock.stem for lock in LOCKS] == ["dev", "load", "monitor", "run"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_line_is_a_comment_or_a_requirement_followed_by_hashes(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert REQUIREMENT.match(lines[0])
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        assert REQUIREMENT.match(line) or HASH.match(line), line
        if line.endswith("\\"):
            assert HASH.match(following), line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_no_address_and_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"://|index|\.(org|com|net|io)\b|/tmp|/home", text)
    assert text.splitlines()[1] == "#    make lock"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_dev_holds_all_of_the_others_in_the_same_versions(lock: Path) -> None:
    dev = requirements(next(lock for lock in LOCKS if lock.stem == "dev"))
    assert requirements(lock).items() <= dev.items()


def test_build_tools_are_locked_too() -> None:
    for lock in LOCKS:
        assert {"hatchling", "editables"} <= requirements(lock).keys()
