"""The lock files: every requirement has its hashes, nothing says where to download from, and the
four locks agree, so that one environment can grow from any of them into any other.

They do not age either. pip reads what each locked package requires. A requirement that the lock
does not pin, its extras included, is looked up on the package index, where the newest version is
taken. That version has no hash in the lock, so the installation fails: not on the day of the lock,
but on the day of the next release. Here the requirements are read from the metadata of the
packages in the environment of the tests, without a network; ``.ci/run locks`` also asks old
versions of pip.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.paths import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
REQUIREMENT = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([^ ]+)( ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

Pins = dict[str, Requirement]


def requirements(lock: Path) -> dict[str, set[str]]:
    """Package → its versions; more than one where they differ by Python version."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if match := REQUIREMENT.match(line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def pins_of(text: str, python: str) -> Pins:
    """Return the pins of a lock that hold for a version of Python on this kind of machine."""
    pins: Pins = {}
    for line in filter(REQUIREMENT.match, text.splitlines()):
        pin = Requirement(line.removesuffix(" \\"))
        if applies(pin, python):
            assert pin.name not in pins, f"{pin.name} is pinned twice for Python {python}"
            pins[pin.name] = pin
    return pins


def applies(requirement: Requirement, python: str, extras: tuple[str, ...] = ("",)) -> bool:
    version = {"python_version": python, "python_full_version": f"{python}.1"}
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**version, "extra": extra}) for extra in extras)


def required_by(pin: Requirement, python: str) -> Iterator[Requirement]:
    """Yield what a locked package requires, if it is installed in the version of the lock."""
    try:
        installed = distribution(pin.name)
    except PackageNotFoundError:
        return  # for other platforms or versions of Python
    if pin.specifier.contains(installed.version, prereleases=True):
        for required in map(Requirement, installed.requires or ()):
            if applies(required, python, ("", *pin.extras)):
                yield required


def is_pinned(required: Requirement, pins: Pins) -> bool:
    """Tell whether a lock pins a package in a version that will do, with all its extras."""
    pin = pins.get(canonicalize_name(required.name))
    if pin is None:
        return False
    version = str(pin.specifier).removeprefix("==")
    extras = {canonicalize_name(extra) for extra in required.extras}
    return required.specifier.contains(version, prereleases=True) and extras <= {
        canonicalize_name(extra) for extra in pin.extras
    }


def not_pinned(text: str, python: str) -> set[str]:
    """Return what the packages of a lock require and the lock does not pin."""
    pins = pins_of(text, python)
    return {
        f"{pin.name} requires {required}"
        for pin in pins.values()
        for required in required_by(pin, python)
        if not is_pinned(required, pins)
    }


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


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_pins_all_that_its_packages_require(lock: Path, python: str) -> None:
    assert not_pinned(lock.read_text(), python) == set()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("lock", "extras"),
    [("run", ()), ("load", ("load", "arrow")), ("monitor", ("monitor",))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lock_pins_all_that_the_project_requires(
    lock: str, extras: tuple[str, ...], python: str
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = pins_of((ROOT / "requirements" / f"{lock}.txt").read_text(), python)
    required = [project["dependencies"], *map(project["optional-dependencies"].get, extras)]
    for requirement in (Requirement(text) for group in required for text in group):
        assert is_pinned(requirement, pins) or not applies(requirement, python), requirement


def test_an_extra_that_is_not_pinned_is_found() -> None:
    """Pinned without its extra, coverage failed to install once it had a newer release."""
    text = (ROOT / "requirements" / "dev.txt").read_text()
    aged = text.replace("\ncoverage[toml]==", "\ncoverage==")
    assert aged != text
    (found,) = not_pinned(aged, "3.13")
    assert found.startswith("pytest-cov requires coverage[toml]>=")


def test_a_package_that_is_not_pinned_is_found() -> None:
    text = (ROOT / "requirements" / "run.txt").read_text()
    assert any(
        "requires anyio" in found
        for found in not_pinned(text.replace("\nanyio==", "\nanyone=="), "3.13")
    )


def test_the_environment_holds_most_of_what_is_locked() -> None:
    """Else the tests above would say little."""
    pins = pins_of((ROOT / "requirements" / "dev.txt").read_text(), "3.13")
    read = [pin for pin in pins.values() if any(required_by(pin, "3.13"))]
    assert len(read) > len(pins) / 3  # the others require nothing
