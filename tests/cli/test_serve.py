"""``fds serve``: flags, environment and defaults become settings; a bad one is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from financial_data_service.cli.console import UsageError
from financial_data_service.cli.serve import settings_from
from financial_data_service.settings import Settings
from support.commands import assert_one_sentence, fds


class TestSettings:
    def test_a_flag_wins_over_the_environment_and_that_over_the_default(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FDS_PORT", "9001")
        monkeypatch.setenv("FDS_MAX_SYMBOLS", "20")
        settings = settings_from({"port": "9002", "max_symbols": None, "host": None})
        assert (settings.port, settings.max_symbols, settings.host) == (9002, 20, "127.0.0.1")

    def test_several_workers_are_started_without_the_engine(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served = []

        def serve(settings: Settings) -> int:
            served.append(settings)
            return 0

        monkeypatch.setattr("financial_data_service.server.processes.supervisor.serve", serve)
        assert fds("serve", "--workers", "3", "--data-dir", "prices").exit_code == 0
        assert served == [Settings(workers=3, data_dir=Path("prices"))]
        code = (
            "import sys, financial_data_service.cli\n"
            "import financial_data_service.server.processes.supervisor\n"
            "heavy = {'numba', 'numpy', 'fastapi', 'uvloop', 'httptools'} & sys.modules.keys()\n"
            "assert not heavy, heavy\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)

    def test_flags_reach_the_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        served = []

        def serve(settings: Settings) -> int:
            served.append(settings)
            return 7

        monkeypatch.setattr("financial_data_service.server.processes.serve.serve", serve)
        result = fds("serve", "--largest-window", "1000", "--log-level", "error", "--access-log")
        assert result.exit_code == 7
        assert served == [Settings(largest_window=1000, log_level="error", access_log=True)]

    @pytest.mark.parametrize(
        ("flags", "environment", "parts"),
        [
            (["--max-symbols", "0"], {}, ["--max-symbols must be", "1, got '0'"]),
            (["--port", "abc"], {}, ["--port must be a valid integer, got 'abc'"]),
            (["--log-level", "loud"], {}, ["--log-level", "'info'", "got 'loud'"]),
            ([], {"FDS_PORT": "abc"}, ["FDS_PORT must be a valid integer, got 'abc'"]),
            (["--workers", "65"], {}, ["--workers must be less than or equal to 64, got '65'"]),
            (["--data-dir", ""], {}, ["--data-dir must name a directory or not be given"]),
            (["--durability", "power"], {}, ["--durability power needs --data-dir: "]),
            ([], {"FDS_DURABILITY": "power"}, ["FDS_DURABILITY power needs --data-dir: "]),
            ([], {"FDS_ACCESS_LOG": "maybe"}, ["FDS_ACCESS_LOG", "'maybe'"]),
            ([], {"FDS_CORS_ORIGINS": "a.com"}, ["FDS_CORS_ORIGINS must be * or origins as"]),
            (["--ssl-keyfile", "x"], {}, ["--ssl-keyfile needs --ssl-certfile: "]),
        ],
    )
    def test_a_bad_setting_is_one_sentence_that_names_its_source(
        self, flags: list[str], environment: dict[str, str], parts: list[str]
    ) -> None:
        assert_one_sentence(fds("serve", *flags, env=environment), 2, *parts)

    @pytest.mark.parametrize(
        ("flags", "variables"),
        [(["--api-key", "my-secret"], {}), ([], {"FDS_API_KEY": "my-secret"})],
    )
    def test_a_bad_key_is_not_quoted(self, flags: list[str], variables: dict[str, str]) -> None:
        result = fds("serve", *flags, env=variables)
        assert_one_sentence(result, 2, "must be 16 to 256 printable ASCII characters")
        assert "my-secret" not in result.stdout + result.stderr

    def test_help_shows_no_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FDS_API_KEY", "a-key-of-24-characters-x")
        result = fds("serve", "--help")
        assert result.exit_code == 0
        assert "24-characters" not in result.stdout

    def test_two_bad_settings_are_both_named(self) -> None:
        with pytest.raises(UsageError, match=r"--port .*\. --max-symbols .*\."):
            settings_from({"port": "-1", "max_symbols": "-1"})
