"""The documentation does what it says: every code block runs, and generated pages are fresh.

Each hand-written page with programs has a service of its own. Its blocks run from top to bottom as
a reader would type them, each Python block in a process of its own, and the outputs that the page
shows are compared with the real ones (``support/documents.py``).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import PROGRAMS, blocks_of, run_page
from support.paths import ROOT

MEASURED = "docs/explanation/performance.md"
"""Its programs are the benchmarks, which tests/project/test_benchmarks.py runs in small."""

PAGES = [
    page
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if (page := str(path.relative_to(ROOT))) != MEASURED
    and any(block.language in PROGRAMS for block in blocks_of(page))
]

NOT_RUN = {
    "README.md": 1,
    "docs/how-to/operate.md": 1,
    "docs/how-to/proxy.md": 1,
    "docs/how-to/streams.md": 1,
    "docs/tutorial.md": 2,
}
"""Blocks of a page that no test runs; each says why. New ones are to be few."""

README_LINES_MAX = 150


@pytest.mark.one_python
@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("page", PAGES)
def test_the_documents_run_as_they_are_typed(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)


def test_few_blocks_are_not_run() -> None:
    counts = {page: sum(block.reason is not None for block in blocks_of(page)) for page in PAGES}
    assert {page: count for page, count in counts.items() if count} == NOT_RUN


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES_MAX


def test_generated_pages_are_fresh() -> None:
    """``python scripts/write_reference.py`` writes them; ``make docs`` does, too."""
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "write_reference.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
