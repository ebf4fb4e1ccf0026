"""The command ``fds`` as a person types it, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from financial_data_service.cli import app

WIDE = {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1"}


def fds(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Any:
    """Run a command on a wide terminal, and return exit code and output."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, words, env={**WIDE, **(env or {})}, prog_name="fds")


def assert_one_sentence(result: Any, exit_code: int, *parts: str) -> None:
    """Check that a command failed with one sentence, which has these parts."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("fds: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


def exported(directory: Path, symbol: str, to: Path, *more: str) -> str:
    """Export a symbol, and return what the command says."""
    result = fds("export", symbol, "--to", to, "--data-dir", directory, *more)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert [path.name for path in to.parent.iterdir() if path.name.startswith(".")] == []
    line: str = result.stdout
    return line


def fds_process(
    *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    command = [sys.executable, "-m", "financial_data_service", *arguments]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, env=environment
    )
