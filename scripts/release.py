"""Make a release of what is checked out: check, build, check what was built, tag.

The version is that of the code (``financial_data_service.__version__``). Nothing is uploaded or
pushed: what is left to do is printed. With ``--dry-run`` nothing is tagged either.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION_FILE = "src/financial_data_service/version.py"

FINAL = re.compile(r"\d+\.\d+\.\d+")
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


class ReleaseError(Exception):
    """Something is missing; the message says what to do."""


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def version() -> str:
    text = (ROOT / VERSION_FILE).read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None or not FINAL.fullmatch(found[1]):
        raise ReleaseError(f'Expected __version__ = "MAJOR.MINOR.PATCH" in {VERSION_FILE}.')
    return found[1]


def notes_of(version: str) -> str:
    """Return what the changelog says of a version, which must be the newest and have a date."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    sections = list(SECTION.finditer(text))
    title = sections[0][1] if sections else "no section"
    if not re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d{{2}}-\d{{2}}", title):
        raise ReleaseError(
            f'Expected "## {version} - YYYY-MM-DD" as first section of CHANGELOG.md, got "{title}".'
        )
    end = sections[1].start() if len(sections) > 1 else len(text)
    notes = text[sections[0].end() : end].strip()
    if not notes:
        raise ReleaseError(f"CHANGELOG.md says nothing of {version}.")
    return notes


def check_tree(tag: str) -> None:
    if changed := git("status", "--porcelain"):
        raise ReleaseError(f"Expected a clean tree; commit or remove first:\n{changed}")
    if git("tag", "--list", tag):
        raise ReleaseError(f"There is a tag {tag} already; raise __version__ in {VERSION_FILE}.")


def build() -> list[Path]:
    """Build the sdist, and the wheel from it, into an empty ``dist``; then have both checked."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    tools = Path(sys.executable).parent
    command = ["build", "--quiet", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([tools / "uv", *command, "--out-dir", dist], cwd=ROOT, check=True)
    built = sorted(path for path in dist.iterdir() if path.suffix in (".whl", ".gz"))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built], check=True)
    return built


def release(*, dry_run: bool) -> None:
    new = version()
    tag = f"v{new}"
    check_tree(tag)
    notes = notes_of(new)
    built = build()
    for path in built:
        if not re.match(rf"financial_data_service-{re.escape(new)}[-.]", path.name):
            raise ReleaseError(f"Expected files of version {new}, built {path.name}.")
        print(path.relative_to(ROOT))
    if dry_run:
        print(f"{tag} is ready; nothing was tagged.")
        return
    # Lines of the notes that begin with # are headings, not comments.
    git("tag", "--annotate", "--cleanup=verbatim", tag, "--message", f"{tag}\n\n{notes}")
    print(f"Tagged {tag}. To publish it: git push origin {tag}, then python -m twine upload dist/*")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="check and build, but tag nothing")
    try:
        release(dry_run=parser.parse_args().dry_run)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{error}\n{error.stderr or ''}".strip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
