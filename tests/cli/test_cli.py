"""The command ``fds`` as a person meets it: help that teaches, tables, one sentence per failure.

Most cases run in this process (``CliRunner``); a few start ``python -m financial_data_service``, to
see exit codes, the absence of tracebacks, and what has been imported, for real.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from financial_data_service import __version__
from financial_data_service.cli import app
from financial_data_service.cli.console import UsageError, printable
from financial_data_service.cli.serve import settings_from
from financial_data_service.cli.stats import fill, number
from financial_data_service.settings import Settings
from support.stub_service import StubService

WIDE = {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1"}


def fds(*arguments: str, env: Mapping[str, str] | None = None) -> Any:
    return CliRunner().invoke(app, arguments, env={**WIDE, **(env or {})}, prog_name="fds")


def fds_process(
    *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "financial_data_service", *arguments]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, env=environment
    )


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FDS_"):
            monkeypatch.delenv(name)


def assert_one_sentence(result: Any, exit_code: int, *parts: str) -> None:
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("fds: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """URL of something that answers every connection with ``reply`` and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


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

    @pytest.mark.parametrize("command", ["serve", "load", "stats", "inspect", "verify", "export"])
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


class TestStats:
    def test_table(self, stub: StubService) -> None:
        stub.prices["BTCUSDT"] = [39_491.76, 39_493.25, 1_234_567.5]
        result = fds("stats", "BTCUSDT", "--url", stub.url)
        assert result.exit_code == 0
        title, heading, _, *rows = result.stdout.splitlines()
        assert title == "BTCUSDT  3 prices so far"
        columns = ["window", "values", "fill", "min", "max", "last", "avg", "var", "std"]
        assert heading.split() == columns
        assert len({len(row) for row in rows[:8]}) == 1, "right aligned"
        assert rows[0].split()[:4] == ["10", "3", "30.00", "%"]
        assert rows[7].split()[:7] == [
            *("100,000,000", "3", "<0.01", "%"),
            *("39,491.76", "1,234,567.5", "1,234,567.5"),
        ]

    def test_every_digit_of_avg_var_and_std_is_shown_where_there_is_room(
        self, stub: StubService
    ) -> None:
        prices = stub.prices["EURUSD"] = [1.1, 1.2, 1.4]
        _, window = stub.stats("EURUSD", {"k": "1"})
        row = fds("stats", "EURUSD", "--url", stub.url).stdout.splitlines()[3].split()
        assert row[4:7] == [repr(min(prices)), repr(max(prices)), repr(prices[-1])]
        assert row[7:9] == [repr(window["avg"]), repr(window["var"])]
        assert float(row[9]) == window["var"] ** 0.5

    @pytest.mark.parametrize("columns", [79, 100, 110])
    def test_a_narrow_terminal_rounds_but_never_cuts(
        self, stub: StubService, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rich.console.Console.is_terminal", True)
        stub.prices["BTCUSDT"] = [39_491.76 + i / 7 for i in range(200)]
        stub.prices["BTCUSDT"] = [round(price, 2) for price in stub.prices["BTCUSDT"]]
        # Without LINES rich takes a dumb terminal for one of 80 columns.
        terminal = {"COLUMNS": str(columns), "LINES": "24", "TERM": "dumb"}
        result = fds("stats", "--url", stub.url, env=terminal)
        lines = result.stdout.splitlines()
        assert max(map(len, lines)) <= columns
        assert "…" not in result.stdout
        assert "100,000,000" in lines[10]
        assert "39,491.76" in lines[10]
        assert " digits" in lines[-1] or " digits" in lines[-2]

    def test_without_a_symbol_all_are_shown(self, stub: StubService) -> None:
        stub.prices.update({"AAPL": [1.0], "[bold]a/b 🚀": [2.0]})
        result = fds("stats", "--url", stub.url)
        assert "AAPL  1 price so far" in result.stdout
        assert "[bold]a/b 🚀  1 price so far" in result.stdout

    @pytest.mark.parametrize("as_json", [True, False])
    def test_all_symbols_are_one_request(self, stub: StubService, as_json: bool) -> None:
        stub.max_symbols = 50
        stub.prices.update({f"S{i}": [float(i)] for i in range(50)})
        result = fds("stats", "--url", stub.url, *(["--json"] if as_json else []))
        assert result.exit_code == 0, result.stderr
        assert (stub.all_stats_requests, stub.stats_requests) == (1, 0)
        assert all(f"S{i}" in result.stdout for i in range(50))

    def test_all_symbols_with_last(self, stub: StubService) -> None:
        stub.prices.update({"A": [1.0, 2.0, 3.0], "B": [5.0]})
        result = fds("stats", "--last", "2", "--json", "--url", stub.url)
        rows = json.loads(result.stdout)["symbols"]
        assert [(row["symbol"], row["window"], row["min"]) for row in rows] == [
            ("A", 2, 2.0),
            ("B", 2, 5.0),
        ]

    def test_last_shows_that_window_alone(self, stub: StubService) -> None:
        stub.prices["AAPL"] = [float(price) for price in range(100)]
        lines = fds("stats", "AAPL", "--last", "50", "--url", stub.url).stdout.splitlines()
        assert lines[3].split()[:6] == ["50", "50", "100", "%", "50.0", "99.0"]
        assert lines[4:] == [""]

    def test_json_is_what_the_service_wrote(self, stub: StubService) -> None:
        stub.prices.update({"AAPL": [0.1, 0.7], "MSFT": [5e-324]})
        one = fds("stats", "AAPL", "--json", "--url", stub.url)
        assert json.loads(one.stdout) == stub.stats("AAPL", {})[1]
        both = fds("stats", "--json", "--url", stub.url)
        expected = {"symbols": [stub.stats(name, {})[1] for name in ("AAPL", "MSFT")]}
        assert json.loads(both.stdout) == expected

    def test_json_of_no_symbols_is_json(self, stub: StubService) -> None:
        assert json.loads(fds("stats", "--json", "--url", stub.url).stdout) == {"symbols": []}

    def test_the_url_may_come_from_the_environment(self, stub: StubService) -> None:
        stub.prices["AAPL"] = [1.0]
        assert fds("stats", "AAPL", env={"FDS_URL": stub.url}).exit_code == 0

    def test_the_key_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[httpx.Request] = []

        def answer(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(404)

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
        for key in ({}, {"FDS_API_KEY": ""}, {"FDS_API_KEY": "k" * 16}):
            assert fds("stats", "AAPL", env=key).exit_code == 1
        assert [request.headers.get("x-api-key") for request in asked] == [None, None, "k" * 16]

    @pytest.mark.parametrize("key", ["ünï", "a-key-of-the-tests\n"])
    def test_a_key_that_is_none_is_one_sentence(self, key: str) -> None:
        result = fds("stats", env={"FDS_API_KEY": key})
        assert_one_sentence(result, 1, "Expected an API key of 16 to 256 printable ASCII")
        assert key.strip() not in result.stderr

    def test_an_unknown_symbol_is_one_sentence(self, stub: StubService) -> None:
        assert_one_sentence(fds("stats", "X", "--url", stub.url), 1, "Symbol X not found")

    def test_no_symbols_yet_is_one_sentence(self, stub: StubService) -> None:
        assert_one_sentence(fds("stats", "--url", stub.url), 1, "no symbols yet", "fds load")

    @pytest.mark.parametrize(
        ("values", "window", "text"),
        [
            (10, 10, "100 %"),
            (99_999_999, 10**8, "99.99 %"),
            (1, 10**8, "<0.01 %"),
            (2001, 10_000, "20.01 %"),
        ],
    )
    def test_fill_is_rounded_down(self, values: int, window: int, text: str) -> None:
        assert fill(values, window) == text

    def test_numbers_read_back_exactly(self) -> None:
        for value in (0.1, 1e22, 5e-324, 1e150, 41_144.51485643224, -0.0, 1_234_567.125):
            assert float(number(value).replace(",", "")) == value
        assert number(41_144.51485643224, 9) == "41,144.5149"


class TestUnreachable:
    @pytest.mark.parametrize(
        "url",
        ["127.0.0.1:8000", "localhost", "ftp://127.0.0.1", "http://", "http://[::1", "::", ""],
    )
    def test_a_bad_url(self, url: str) -> None:
        assert_one_sentence(fds("stats", "--url", url), 1, "Expected a URL such as http://")

    def test_a_server_that_is_down(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert_one_sentence(fds("stats", "--url", url), 1, f"Cannot reach {url}", "fds serve")

    def test_an_unknown_host(self) -> None:
        assert_one_sentence(fds("stats", "--url", "http://no.such.invalid"), 1, "Cannot reach")

    @pytest.mark.parametrize(
        "body",
        [
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            b'HTTP/1.1 404 Not Found\r\ncontent-length: 22\r\n\r\n{"detail":"Not Found"}',
            b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n",
        ],
    )
    def test_a_port_of_another_service(self, body: bytes) -> None:
        with answering(body) as url:
            told = "The answer is not one of a financial-data-service"
            assert_one_sentence(fds("stats", "--url", url), 1, told, url)

    @pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b""])
    def test_a_port_that_does_not_speak_http(self, greeting: bytes) -> None:
        with answering(greeting) as url:
            assert_one_sentence(fds("stats", "--url", url), 1, "does not speak HTTP")

    def test_a_proxy_without_the_service_behind_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("financial_data_service.client.retries.Retries.pause", lambda *_: 1e-3)
        with answering(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n") as url:
            assert_one_sentence(fds("stats", "--url", url), 1, "not available now", "(503 from GET")

    def test_a_proxy_for_the_outside_is_not_asked_for_this_machine(
        self, stub: StubService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        stub.prices["AAPL"] = [1.0]
        assert fds("stats", "AAPL", "--url", stub.url).exit_code == 0


class TestProcess:
    """What only a process shows."""

    def test_no_traceback_unless_asked_for(self, tmp_path: Path) -> None:
        arguments = ("load", str(tmp_path / "missing.csv"), "--symbol", "S")
        result = fds_process(*arguments)
        assert result.returncode == 1
        assert result.stderr.startswith("fds: Cannot read ")
        assert result.stderr.endswith("missing.csv: no such file or directory.\n")
        debugged = fds_process(*arguments, env={"FDS_DEBUG": "1"})
        assert debugged.returncode == 1
        assert "Traceback" in debugged.stderr

    def test_a_fault_of_ours_is_a_sentence_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise KeyError("oops")

        monkeypatch.setattr("financial_data_service.client.blocking.PlanRunner.run", fail)
        assert_one_sentence(fds("stats"), 1, "Unexpected KeyError: 'oops'", "FDS_DEBUG=1")

    def test_output_may_be_cut_off(self, stub: StubService) -> None:
        stub.prices.update({f"S{i}": [1.0] for i in range(10)})
        for more, reader, said in (
            ("", "head -1", "S0  1 price so far\n"),
            ("", "true", ""),
            (" --json", "true", ""),
        ):
            command = f"{sys.executable} -m financial_data_service stats --url {stub.url}{more}"
            result = subprocess.run(
                ["bash", "-o", "pipefail", "-c", f"{command} | {reader}"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert (result.returncode, result.stdout, result.stderr) == (0, said, "")

    def test_a_terminal_of_another_encoding(self, stub: StubService) -> None:
        stub.prices["日経"] = [1.0]
        result = fds_process("stats", "--url", stub.url, env={"PYTHONIOENCODING": "latin-1"})
        assert result.returncode == 0
        assert "\\u65e5\\u7d4c  1 price so far" in result.stdout

    def test_what_moves_the_cursor_is_shown_as_an_escape(self) -> None:
        assert printable("a\x1b[2Jb\r\udcff é") == "a\\x1b[2Jb\\r\\udcff é"
        assert printable("\u202egnp") == "\\u202egnp"
        assert printable("👨\u200d👩 日") == "👨\u200d👩 日"

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
