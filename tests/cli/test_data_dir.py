"""What ``fds inspect``, ``fds verify`` and ``fds export`` have in common.

They write nothing into the directory, refuse in one sentence what is no data directory, and run
beside a service.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import financial_data_service as fds_library
from support.commands import assert_one_sentence, exported, fds
from support.data_directories import trades
from support.price_files import same
from support.raw_http import post
from support.service_process import LIGHT, running


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


def test_help_is_shown_without_the_engine() -> None:
    for command in ("inspect", "verify", "export"):
        code = (
            "import sys\n"
            "from financial_data_service.cli import main\n"
            f"sys.argv[1:] = [{command!r}, '--help']\n"
            "try:\n    main()\n"
            "except SystemExit as end:\n    assert not end.code\n"
            "assert not {'numba', 'numpy', 'pyarrow'} & sys.modules.keys()\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30
        )
        assert f" fds {command}" in run.stdout.partition("Examples")[2]


def test_help_says_what_the_columns_of_an_export_are() -> None:
    text = " ".join(fds("export", "--help").stdout.split())
    assert "two columns: sequence, the number of the price counted from 0" in text


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_data_directory(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, reason in (
        ("missing", "cannot be read: No such file or directory"),
        ("file", "expected a directory, got a file"),
        (".", "expected a data directory, got one without directory.json"),
    ):
        assert_one_sentence(fds(command, tmp_path / name), 1, f"{tmp_path / name}: {reason}")
    assert fds(command).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["inspect", "--data-dir"],
        ["verify"],
        ["verify", "--data-dir"],
        ["export", "A", "--to", "out.csv", "--data-dir"],
    ],
)
def test_a_data_directory_without_a_name(
    words: list[str], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the current one, though that be a data directory; nor is ``~`` one of its files."""
    monkeypatch.chdir(directory)
    assert_one_sentence(fds(*words, ""), 2, "The data directory must have a name, got ''.")
    in_environment = fds(*(words[:-1] or words), env={"FDS_DATA_DIR": ""})
    assert (in_environment.exit_code, in_environment.stdout) == (2, "")
    assert_one_sentence(fds(*words, "~nobody such/x"), 2, "home directory")
    monkeypatch.setenv("HOME", str(directory.parent))
    result = fds(*(word.replace("A", "AAPL") for word in words), f"~/{directory.name}")
    assert (result.exit_code, result.stderr) == (0, "")


def test_they_write_nothing_into_the_directory(directory: Path, tmp_path: Path) -> None:
    before = contents(directory)
    assert fds("inspect", directory).exit_code == 0
    assert fds("inspect", directory, "--json").exit_code == 0
    assert fds("verify", directory).exit_code == 0
    to = tmp_path / "out.csv"
    assert fds("export", "AAPL", "--to", to, "--data-dir", directory).exit_code == 0
    assert contents(directory) == before


@pytest.mark.parametrize("command", ["inspect", "inspect --json", "verify"])
def test_what_becomes_of_the_output(directory: Path, command: str) -> None:
    """A reader that has gone is no failure, and hides none; a full disk is one, of the output."""

    def run(where: str) -> tuple[int, str]:
        words = f"{sys.executable} -m financial_data_service {command} '{directory}' {where}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr

    assert run("| head -1") == (0, "")
    assert run("| true") == (0, "")
    full = "fds: The output cannot be written: no space left on device.\n"
    assert run("> /dev/full") == (1, full)
    (directory / "X.ring").write_bytes(b"x")
    exit_code, said = run("| true")
    assert exit_code == 1
    assert "X.ring" in said
    assert said.count("\n") == 1


def test_beside_a_service_at_work(tmp_path: Path) -> None:
    """All of it once for real: a service, its directory, and the commands beside it."""
    data_dir, to = tmp_path / "data", tmp_path / "out.npy"
    prices = trades()
    with running(tmp_path, (*LIGHT, "--data-dir", str(data_dir))) as service:
        body = json.dumps({"symbol": "BTC/USDT", "values": prices.tolist()}).encode()
        assert service.ask(post(body)).status == 201
        result = fds("inspect", data_dir)
        assert result.exit_code == 0
        assert f"in use by process {service.process.pid}" in result.stdout
        assert fds("verify", data_dir).exit_code == 0
        exported(data_dir, "BTC/USDT", to)
        assert same(np.load(to), prices)
        reply = service.get("/verify/BTC%2FUSDT/3")
        assert (reply["equal"], reply["values"]) == (True, 1000)
        with fds_library.open(data_dir) as data:
            assert data["BTC/USDT"].stats(3).avg == reply["served"]["avg"]
    assert "closed cleanly" in fds("inspect", data_dir).stdout
    assert fds("verify", data_dir).exit_code == 0
