"""``fds inspect``: what it says of data directories in every state."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from financial_data_service.cli.inspect import size
from financial_data_service.engine.layout import DELETED, Geometry
from support.commands import fds
from support.data_directories import fill, in_use, leave, spoil
from support.price_files import PRICES


class TestInspect:
    def rows(self, result: Any) -> list[list[str]]:
        return [re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines()]

    def test_a_table(self, directory: Path) -> None:
        result = fds("inspect", directory)
        assert (result.exit_code, result.stderr) == (0, "")
        title, heading, _, *rows = self.rows(result)
        assert title == [
            str(directory),
            "not in use; last with durability process, windows of up to 1,000, batches of up to "
            "100, fanout 8, up to 10 symbols",
        ]
        columns = ["symbol", "file", "sequence", "values", "on disk", "apparent", "state"]
        assert heading == [*columns, "last change"]
        assert rows[0][:4] == ["AAPL", "AAPL.ring", "9", "9"]
        assert rows[1][:4] == ["BTC/USDT", "BTC%2FUSDT.ring", "2,000", "1,000"]
        status = (directory / "AAPL.ring").stat()
        changed = datetime.fromtimestamp(status.st_mtime).strftime("%Y-%m-%d %H:%M:%S")
        assert rows[0][4:] == [
            *(size(status.st_blocks * 512), size(status.st_size), "closed cleanly", changed),
        ]

    def test_a_terminal_of_80_columns(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rich.console.Console.is_terminal", True)
        lines = fds("inspect", directory, env={"COLUMNS": "80"}).stdout.splitlines()
        assert [line.split()[0] for line in lines[3:5]] == ["AAPL", "BTC/USDT"]
        assert all(" closed cleanly " in line for line in lines[3:5])
        assert "file left out; a wider terminal or --json has it." in lines[5]
        assert max(map(len, lines[2:5])) <= 80

    def test_one_price_is_one(self, tmp_path: Path) -> None:
        directory = leave(tmp_path / "data", {"A": [1.0]})
        assert "1 price will be kept" in fds("inspect", directory).stdout

    def test_json(self, directory: Path) -> None:
        result = fds("inspect", directory, "--json")
        content = json.loads(result.stdout)
        assert (content["directory"], content["in_use"]) == (str(directory), False)
        expected = {"largest_window": 1000, "batch_max": 100, "fanout": 8, "max_symbols": 10}
        assert expected.items() <= content["settings"].items()
        one, other = content["symbols"]
        status = (directory / "BTC%2FUSDT.ring").stat()
        changed = datetime.fromisoformat(other.pop("changed"))
        assert abs(datetime.now(UTC) - changed) < timedelta(minutes=10)
        assert other == {
            "file": "BTC%2FUSDT.ring",
            "symbol": "BTC/USDT",
            "sequence": 2000,
            "values": 1000,
            "disk_bytes": status.st_blocks * 512,
            "size_bytes": status.st_size,
            "state": "clean",
            "kept": None,
            "reason": None,
            "geometry": {"largest_window": 1000, "batch_max": 100, "fanout": 8},
        }
        assert one["symbol"] == "AAPL"

    def test_an_empty_directory(self, tmp_path: Path) -> None:
        result = fds("inspect", fill(tmp_path / "data", {}))
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1] == "No symbols."

    def test_in_use(self, directory: Path) -> None:
        with in_use(directory) as manager:
            manager.add_batch("NEW", [1.0])
            result = fds("inspect", directory)
            content = json.loads(fds("inspect", directory, "--json").stdout)
        assert result.exit_code == 0
        assert f"in use by process {os.getpid()}: durability process" in result.stdout
        assert [row[6] for row in self.rows(result)[3:]] == ["in use"] * 3
        assert content["in_use"] is True
        assert [entry["state"] for entry in content["symbols"]] == ["in_use"] * 3

    def test_a_file_that_was_not_closed_says_what_will_be_kept(self, tmp_path: Path) -> None:
        left = leave(tmp_path / "data", {"AAPL": PRICES})
        result = fds("inspect", left)
        assert (result.exit_code, result.stderr) == (0, "")
        assert self.rows(result)[3][6] == "ended uncleanly, 2,000 prices will be kept"
        (entry,) = json.loads(fds("inspect", left, "--json").stdout)["symbols"]
        assert (entry["state"], entry["kept"]) == ("unclean", 2000)
        assert entry["reason"] == "left by a process that was killed"

    def test_a_symbol_that_was_being_deleted(self, tmp_path: Path) -> None:
        """Its process was killed between the two steps of it."""
        left = leave(tmp_path / "data", {"AAPL": PRICES})
        words = np.memmap(left / "AAPL.ring", "<i8", "r+")
        words[64] = DELETED
        words.flush()
        result = fds("inspect", left)
        assert result.exit_code == 0
        assert self.rows(result)[3][2:4] == ["–", "–"]
        assert self.rows(result)[3][6] == "deleted"

    def test_refused_files_are_named_with_their_reason(self, directory: Path) -> None:
        spoil(directory / "AAPL.ring")
        with (directory / "BTC%2FUSDT.ring").open("ab") as file:
            file.write(b"x")
        (directory / "empty.ring").write_bytes(b"")
        result = fds("inspect", directory)
        assert result.exit_code == 1
        rows = self.rows(result)[3:]
        assert [row[1] for row in rows] == ["AAPL.ring", "BTC%2FUSDT.ring", "empty.ring"]
        assert [row[6] for row in rows] == ["refused, see below"] * 3
        one, other, empty = result.stderr.splitlines()
        assert one.startswith("fds: AAPL.ring: the header's checksum does not match")
        assert other.startswith("fds: BTC%2FUSDT.ring: expected ")
        assert other.endswith("it was added to.")
        assert empty == "fds: empty.ring: expected a header of 4096 bytes, got 0."
        result = fds("inspect", directory, "--json")
        assert result.exit_code == 1
        entries = json.loads(result.stdout)["symbols"]
        assert [entry["state"] for entry in entries] == ["refused"] * 3
        assert "added to" in entries[1]["reason"]

    def test_files_of_another_user_are_refused(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = os.geteuid()
        module = sys.modules["financial_data_service.cli.inspect"]
        monkeypatch.setattr(module, "_owner_of", lambda _directory: user + 1)
        result = fds("inspect", directory)
        assert result.exit_code == 1
        assert [row[6] for row in self.rows(result)[3:]] == ["refused, see below"] * 2
        reason = (
            f"expected a file of user {user + 1}, who owns the directory, got one of user {user}."
        )
        assert f": {reason}\n" in result.stderr

    def test_the_directory_may_come_from_the_environment(self, directory: Path) -> None:
        named = fds("inspect", directory)
        assert fds("inspect", env={"FDS_DATA_DIR": str(directory)}).stdout == named.stdout
        assert fds("inspect", "--data-dir", directory).stdout == named.stdout
        assert "FDS_DATA_DIR" in fds("inspect", "--help").stdout

    def test_a_damaged_session_is_refused(self, directory: Path) -> None:
        spoil(directory / "AAPL.ring", 77 * 8)
        result = fds("inspect", directory)
        assert result.exit_code == 1
        assert self.rows(result)[3][:2] == ["AAPL", "AAPL.ring"]
        assert "its session is damaged" in result.stderr

    def test_what_the_service_at_work_does_not_serve(self, directory: Path) -> None:
        with in_use(directory, Geometry(500, 8, 100)):
            result = fds("inspect", directory)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[0] == (
            "fds: AAPL.ring: it was made with largest_window 1000, the directory is in use with "
            "largest_window 500."
        )
        assert fds("inspect", directory).exit_code == 0

    def test_what_moves_the_cursor_is_shown_as_an_escape(self, tmp_path: Path) -> None:
        data_dir = fill(tmp_path / "data", {"A": [1.0]})
        (data_dir / "\x1b[2J.ring").write_bytes(b"")
        result = fds("inspect", data_dir)
        assert "\x1b" not in result.output
        assert "\\x1b[2J.ring" in result.stdout

    @pytest.mark.parametrize(
        ("size_bytes", "text"),
        [(0, "0 kB"), (578_000, "578 kB"), (999_600, "1 MB"), (837_017_600, "837 MB")],
    )
    def test_sizes(self, size_bytes: int, text: str) -> None:
        assert size(size_bytes) == text
