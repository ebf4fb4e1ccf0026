"""What all commands share: one sentence per failure, no traceback, output of any encoding.

Some tests start ``python -m financial_data_service``, to see what only a process shows.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from financial_data_service.cli.console import printable, rate
from support.commands import assert_one_sentence, fds, fds_process
from support.stub_service import StubService


class TestProcess:
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


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.99, ""), (1.0, " (2,000 prices/s)"), (2.0, " (1,000 prices/s)")]
)
def test_a_rate_is_told_of_where_there_was_time_for_one(seconds: float, said: str) -> None:
    assert rate(2000, seconds) == said
    assert rate(0, seconds) == ""
