"""``.ci/run`` and the workflows that call it: each part has a job, each path exists."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from support.paths import ROOT

SCRIPT = ROOT / ".ci" / "run"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, *arguments], check=False, capture_output=True, text=True, timeout=60
    )


def parts() -> list[str]:
    return run("--list").stdout.split()


def jobs(path: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    return workflow


def test_the_script_is_executable_and_has_no_errors_of_syntax() -> None:
    assert SCRIPT.stat().st_mode & 0o111
    checked = subprocess.run(["bash", "-n", SCRIPT], check=False, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_an_unknown_part_is_refused_before_anything_runs() -> None:
    ended = run("lint", "lnit")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "There is no part lnit; .ci/run --list\n"


def test_the_selected_tests_are_there() -> None:
    paths = re.findall(r"\btests/[\w/.]+", SCRIPT.read_text("utf-8"))
    assert len(paths) > 5
    for path in paths:
        assert (ROOT / path).exists(), path


def test_targets_of_make_are_there() -> None:
    code = re.sub(r"#.*", "", SCRIPT.read_text("utf-8"))
    targets = re.findall(r"\bmake(?:_main)? ([a-z][a-z-]+)", code)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert {"test", "lint", "bench-smoke"} <= set(targets)
    for target in targets:
        assert f".PHONY: {target}\n" in makefile, target


def test_every_part_is_run_by_a_job_on_each_push() -> None:
    (job,) = jobs(ROOT / ".github" / "workflows" / "ci.yml").values()
    listed = [part for row in job["strategy"]["matrix"]["include"] for part in row["parts"].split()]
    assert set(listed) == set(parts())
    assert any(".ci/run ${{ matrix.parts }}" in step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_ends_in_time(workflow: Path) -> None:
    document = yaml.safe_load(workflow.read_text("utf-8"))
    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 180


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_what_the_script_makes_is_ignored() -> None:
    made = [".venv/x", ".venv-3.11/x", ".run/x", "dist/x"]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *made],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    ).stdout.split()
    if (ROOT / ".git").exists():
        assert ignored == made


@pytest.mark.parametrize("name", ["bug_report", "feature_request"])
def test_a_form_of_an_issue_has_fields_with_names(name: str) -> None:
    path = ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml"
    form = yaml.safe_load(path.read_text("utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
