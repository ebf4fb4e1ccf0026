"""The benchmark over HTTP still runs: tiny, as its command, with all its own checks.

It checks every price that it posts. So the test checks that it succeeds, writes its tables, works
without external tools, and leaves no server running.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.paths import ROOT

NAME = "benchmarks/http_service.py"
PATH_OF_ROOT = f"{os.environ.get('PATH', '')}:/usr/sbin"
TIMEOUT_SECONDS = 120  # a cold cache of kernels takes its time

needs_tools = pytest.mark.skipif(
    not (shutil.which("wrk") and shutil.which("nginx", path=PATH_OF_ROOT)),
    reason="needs wrk and nginx",
)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", NAME, "--smoke", *map(str, arguments)]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        check=False,  # its standard error says more than an exception would
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )


@pytest.mark.bench
@needs_tools
def test_benchmark_runs_and_writes_its_tables(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    begin, end = (f"<!-- {NAME}: {mark} -->" for mark in ("begin", "end"))
    document.write_text(f"Before.\n{begin}\nold numbers\n{end}\nAfter.\n", encoding="utf-8")
    result = run("--only", "POST 10,000|mixed", "--update", document)
    assert result.returncode == 0, result.stderr
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"Before.\n{begin}\n\nHost: ")
    assert text.endswith(f"\n\n{end}\nAfter.\n")
    assert "old numbers" not in text
    for title in ("Targets", "Share of nginx", "Requests over 1 ", "Requests over 32 ", "POST of"):
        assert f"\n### {title}" in text


@pytest.mark.bench
def test_without_wrk_a_client_in_python_makes_the_load() -> None:
    result = run("--only", "k=8", PATH="")
    assert result.returncode == 0, result.stderr
    assert "apt-get install wrk nginx-light" in result.stderr
    assert "**Without wrk**" in result.stdout
    assert "| GET k=8 " in result.stdout


@pytest.mark.bench
def test_interrupt_leaves_no_server_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        command(),
        cwd=ROOT,
        env=environment(TMPDIR=str(tmp_path)),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "GET k=1" not in process.stderr.readline():  # by now all servers run
            assert process.poll() is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=TIMEOUT_SECONDS)[1]
    assert process.returncode == 130, said
    assert "Interrupted" in said
    assert len(children) >= 3
    gone_by = time.monotonic() + TIMEOUT_SECONDS
    while any(Path("/proc", child).exists() for child in children):
        assert time.monotonic() < gone_by
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def test_a_pattern_that_matches_nothing_is_told_the_rows() -> None:
    result = run("--only", "PUT")
    assert result.returncode == 1
    assert "POST 10,000" in result.stderr


def test_document_has_its_marks() -> None:
    text = (ROOT / "docs" / "explanation" / "performance.md").read_text(encoding="utf-8")
    begin, end = (text.find(f"<!-- {NAME}: {mark} -->") for mark in ("begin", "end"))
    assert 0 <= begin < end
