"""``make release``: tried in a scratch repository that holds the files of this one.

A release is refused for a tree that is not clean, a version that is tagged already, a changelog
without its section. The wheel holds every file of the package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT

pytestmark = [
    pytest.mark.skipif(not shutil.which("git"), reason="needs git"),
    pytest.mark.one_python,
]

VERSION = "7.8.9"
NOTES = "### Added\n\n- Something.\n"


def git(*arguments: str, cwd: Path) -> str:
    # A hook that runs these tests says in GIT_* which repository it is about.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=variables, check=True, capture_output=True, text=True
    ).stdout


def change(path: Path, pattern: str, text: str) -> None:
    before = path.read_text("utf-8")
    after = re.sub(pattern, lambda _: text, before, count=1, flags=re.MULTILINE | re.DOTALL)
    assert after != before
    path.write_text(after, "utf-8")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of version 7.8.9 that may be released."""
    if not (ROOT / ".git").exists():
        pytest.skip("a copy of the files without the repository")
    clone = tmp_path_factory.mktemp("release") / "clone"
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    version_file = clone / "src" / "financial_data_service" / "version.py"
    change(version_file, r'^__version__ = ".*?"$', f'__version__ = "{VERSION}"')
    change(clone / "CHANGELOG.md", r"^## .*\Z", f"## {VERSION} - 2026-01-02\n\n{NOTES}")
    git("init", "--quiet", cwd=clone)
    git("config", "user.name", "x", cwd=clone)
    git("config", "user.email", "x", cwd=clone)
    git("add", "--all", cwd=clone)
    git("commit", "--quiet", "--message", "All", cwd=clone)
    return clone


@pytest.fixture
def clone(ready: Path) -> Iterator[Path]:
    """The repository, as it was again after each test."""
    yield ready
    git("checkout", "--quiet", ".", cwd=ready)
    git("clean", "--quiet", "-fd", cwd=ready)
    for tag in git("tag", cwd=ready).split():
        git("tag", "--delete", tag, cwd=ready)


def release(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/release.py", *arguments],
        cwd=clone,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_release_is_built_checked_and_tagged(clone: Path) -> None:
    ended = release(clone)
    assert ended.returncode == 0, ended.stderr
    assert f"git push origin v{VERSION}" in ended.stdout
    message = git("tag", "--list", "--format=%(contents)", f"v{VERSION}", cwd=clone)
    assert message.strip() == f"v{VERSION}\n\n{NOTES}".strip()
    tagged, head = git("rev-parse", f"v{VERSION}^{{commit}}", "HEAD", cwd=clone).split()
    assert tagged == head
    built = sorted(path.name for path in (clone / "dist").iterdir() if path.suffix != "")
    assert f"financial_data_service-{VERSION}-py3-none-any.whl" in built
    assert f"financial_data_service-{VERSION}.tar.gz" in built
    again = release(clone)
    assert again.returncode == 1
    assert f"There is a tag v{VERSION} already" in again.stderr


def test_a_dry_run_builds_and_tags_nothing(clone: Path) -> None:
    ended = release(clone, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith(f"v{VERSION} is ready; nothing was tagged.\n")
    assert git("tag", cwd=clone) == ""
    assert git("status", "--porcelain", cwd=clone) == ""


def test_the_wheel_holds_all_files_of_the_package(clone: Path) -> None:
    assert release(clone, "--dry-run").returncode == 0
    (wheel,) = (clone / "dist").glob("*.whl")
    source = clone / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "financial_data_service").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected


def test_a_tree_that_is_not_clean_is_refused(clone: Path) -> None:
    (clone / "new.txt").write_text("x")
    ended = release(clone, "--dry-run")
    assert ended.returncode == 1
    assert "Expected a clean tree" in ended.stderr
    assert "new.txt" in ended.stderr


@pytest.mark.parametrize(
    ("pattern", "text", "sentence"),
    [
        (r"^## .*?$", "## Unreleased", 'as first section of CHANGELOG.md, got "Unreleased"'),
        (r"^## .*?$", f"## {VERSION}", f'got "{VERSION}"'),
        (r"^### Added.*\Z", "", f"CHANGELOG.md says nothing of {VERSION}."),
    ],
)
def test_a_changelog_without_the_section_is_refused(
    clone: Path, pattern: str, text: str, sentence: str
) -> None:
    change(clone / "CHANGELOG.md", pattern, text)
    git("commit", "--quiet", "--all", "--message", "Changelog", cwd=clone)
    try:
        ended = release(clone, "--dry-run")
    finally:
        git("reset", "--quiet", "--hard", "HEAD~1", cwd=clone)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_version_that_is_not_final_is_refused(clone: Path) -> None:
    version_file = clone / "src" / "financial_data_service" / "version.py"
    change(version_file, rf'"{VERSION}"', '"7.8.9.dev1"')
    git("commit", "--quiet", "--all", "--message", "Version", cwd=clone)
    try:
        ended = release(clone, "--dry-run")
    finally:
        git("reset", "--quiet", "--hard", "HEAD~1", cwd=clone)
    assert ended.returncode == 1
    assert "MAJOR.MINOR.PATCH" in ended.stderr
