"""The benchmarks still run: each with tiny sizes, as its command, with all its own assertions.

They check every answer that they time. So the tests check that they succeed, and write their tables
to the given file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT

BENCHMARKS = {
    "engine.py": ("Targets", "First fill", "Append", "Query", "Courses of prices", "Memory"),
    "accuracy.py": ("Variance", "Mean"),
    "decisions/fanout.py": ("Fanout",),
    "decisions/counting.py": ("Counting",),
    "data_directory.py": (
        *("Targets", "Append with a data directory", "Query with a data directory"),
        *("Power mode: microseconds until", "Power mode: microseconds of", "Restart", "Workers"),
    ),
}


def run(*arguments: str | Path) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        check=False,  # its standard error says more than an exception would
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,  # a cold cache of kernels takes its time
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.bench
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_runs_and_writes_its_tables(name: str, tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    begin, end = (f"<!-- benchmarks/{name}: {mark} -->" for mark in ("begin", "end"))
    document.write_text(f"Before.\n{begin}\nold numbers\n{end}\nAfter.\n", encoding="utf-8")
    printed = run("benchmarks", name, "--smoke", "--update", document)
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"Before.\n{begin}\n\nHost: ")
    assert text.endswith(f"\n\n{end}\nAfter.\n")
    assert "old numbers" not in text
    assert printed.strip() in text
    for title in BENCHMARKS[name]:
        assert f"\n### {title}" in text


def test_document_has_the_marks_of_every_benchmark() -> None:
    text = (ROOT / "docs" / "explanation" / "performance.md").read_text(encoding="utf-8")
    for name in BENCHMARKS:
        begin, end = (text.find(f"<!-- benchmarks/{name}: {mark} -->") for mark in ("begin", "end"))
        assert 0 <= begin < end


def test_all_of_them_are_one_command() -> None:
    assert "--update FILE" in run("benchmarks", "--help")


def test_an_unknown_benchmark_is_refused_with_the_names_there_are() -> None:
    result = subprocess.run(
        [sys.executable, "benchmarks", "nothing.py"],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert "no benchmark nothing.py; there are engine.py, accuracy.py" in result.stderr
