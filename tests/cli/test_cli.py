"""The command ``fds``: its help, what it loads, and a life of the service by commands alone.

Most cases run in this process (``CliRunner``); a few start ``python -m financial_data_service``, to
see exit codes and what has been imported.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from financial_data_service import __version__
from financial_data_service.settings import Settings
from support.commands import fds, fds_process


class TestHelp:
    def test_fds_alone_shows_help(self) -> None:
        result = fds()
        assert result.exit_code == 0
        for command in ("serve", "load", "stats", "Examples"):
            assert command in result.stdout

    def test_version(self) -> None:
        result = fds("--version")
        assert result.exit_code == 0
        assert result.stdout == f"financial-data-service {__version__}\n"

    @pytest.mark.parametrize("command", ["serve", "load", "stats"])
    def test_each_command_shows_examples(self, command: str) -> None:
        result = fds(command, "--help")
        assert result.exit_code == 0
        assert f" fds {command}" in result.stdout.partition("Examples")[2]

    def test_serve_has_a_flag_and_a_variable_for_every_setting(self) -> None:
        text = fds("serve", "--help").stdout
        for name, field in Settings.model_fields.items():
            assert f"--{name.replace('_', '-')} " in text
            assert f"FDS_{name.upper()}" in text
            assert field.description
            assert field.description in text

    @pytest.mark.parametrize(
        "command", ["serve", "load", "stats", "inspect", "verify", "export", "doctor"]
    )
    def test_help_on_a_narrow_terminal_cuts_no_name_off(
        self, command: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
        lines = fds(command, "--help").stdout.splitlines()
        assert max(map(len, lines)) == 80
        assert not [line for line in lines if re.search(r"\w…", line)]
        assert not [line for line in lines if "<bool>" in line]

    def test_defaults_are_shown(self) -> None:
        text = fds("serve", "--help").stdout
        for default in ("PORT, default 8000", "WORKERS, default 1", "DATA_DIR, default none"):
            assert f"FDS_{default}" in text
        assert "FDS_FAST_LANE, default on" in text
        assert "FDS_ROOT_PATH, default empty" in text

    def test_every_switch_can_be_turned_either_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        served: list[Settings] = []

        def serve(settings: Settings) -> int:
            served.append(settings)
            return 0

        monkeypatch.setattr("financial_data_service.server.processes.serve.serve", serve)
        for arguments in ([], ["--no-fast-lane", "--access-log"]):
            assert fds("serve", *arguments).exit_code == 0
        assert [settings.fast_lane for settings in served] == [True, False]
        assert [settings.access_log for settings in served] == [False, True]

    @pytest.mark.parametrize("command", ["load", "stats"])
    def test_commands_of_clients_do_not_load_the_engine(self, command: str) -> None:
        code = (
            "import sys\n"
            "from financial_data_service.cli import main\n"
            f"sys.argv[1:] = [{command!r}, '--help']\n"
            "try:\n    main()\n"
            "except SystemExit as end:\n    assert not end.code\n"
            "from financial_data_service.cli import price_files\n"
            "from financial_data_service.client import asking, blocking\n"
            "heavy = {'numba', 'numpy', 'fastapi', 'uvicorn', 'pyarrow'} & sys.modules.keys()\n"
            "assert not heavy, heavy\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)

    def test_python_runs_the_package(self) -> None:
        command = [sys.executable, "-m", "financial_data_service", "--version"]
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        assert said.stdout == f"financial-data-service {__version__}\n"

    def test_an_interrupt_while_the_command_is_loaded_is_no_traceback(self) -> None:
        code = (
            "import sys\n"
            "class Interrupting:\n"
            "    def find_spec(self, name, *_):\n"
            "        if name == 'financial_data_service.cli':\n"
            "            raise KeyboardInterrupt\n"
            "sys.meta_path.insert(0, Interrupting())\n"
            "from financial_data_service.__main__ import main\n"
            "main()\n"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, timeout=30
        )
        assert (said.returncode, said.stdout, said.stderr) == (130, b"", b"")

    def test_a_mistyped_option_is_a_usage_error(self) -> None:
        result = fds("stats", "--lats", "3")
        assert result.exit_code == 2
        assert "No such option: --lats" in result.stderr


class TestProcess:
    """What only a process shows."""

    def test_serve_load_stats(self, live_server: str, tmp_path: Path) -> None:
        (tmp_path / "prices.csv").write_text("price\n1.5\n2.5\n")
        loaded = fds_process(
            "load", str(tmp_path / "prices.csv"), "--symbol", "a/b ü", "--url", live_server
        )
        assert loaded.returncode == 0, loaded.stderr
        assert "a/b ü: 2 added" in loaded.stdout
        shown = fds_process("stats", "a/b ü", "--url", live_server)
        assert shown.returncode == 0, shown.stderr
        rows = shown.stdout.splitlines()
        assert rows[3].split() == [
            *("10", "2", "20.00", "%"),
            *("1.5", "2.5", "2.5", "2.0", "0.25", "0.5"),
        ]
        assert rows[7].split()[0] == "100,000"
        last = fds_process("stats", "a/b ü", "--last", "1", "--json", "--url", live_server)
        assert json.loads(last.stdout)["var"] == 0.0

    def test_a_port_in_use_is_one_sentence(self, live_server: str) -> None:
        port = live_server.rpartition(":")[2]
        result = fds_process("serve", "--port", port)
        assert result.returncode == 1
        assert "in use" in result.stderr
        assert result.stderr.count("\n") == 1
