"""``fds inspect``, ``fds verify`` and ``fds export`` as a person meets them: what they say of data
directories in every state, exit codes, one sentence per failure, files that are whole or not there.

They write nothing into the directory. What is exported is held against the prices that went in,
bit by bit, and goes back in through ``fds load``.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from numba import njit
from typer.testing import CliRunner

import financial_data_service as fds_library
from financial_data_service.cli import app
from financial_data_service.cli.console import rate
from financial_data_service.cli.export import CsvWriter, Writer
from financial_data_service.cli.inspect import size
from financial_data_service.engine.compile_notice import SENTENCE
from financial_data_service.engine.layout import DELETED, Geometry
from financial_data_service.engine.ring_view import RingView
from financial_data_service.verify import levels
from financial_data_service.verify.levels import LevelsReport, verify_levels
from support.data_directories import SMALL, add, fill, in_use, leave, spoil, trades
from support.raw_http import post
from support.service_process import LIGHT, running
from support.stub_service import StubService

TRIES = 50
WIDE = {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1"}

RNG = np.random.default_rng(21)
PRICES = np.round(100 + np.cumsum(RNG.normal(0, 0.1, 2000)), 2)
# Prices whose shortest decimal form is long, tiny, huge, or negative zero.
ODD = np.array([0.1, 1 / 3, 5e-324, 1e150, -1e150, -0.0, 2.0**53, 1e22, 123456789.12345679])


def fds(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Any:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, words, env={**WIDE, **(env or {})}, prog_name="fds")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FDS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", {"AAPL": ODD, "BTC/USDT": PRICES})


def assert_one_sentence(result: Any, exit_code: int, *parts: str) -> None:
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("fds: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


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
    "words", [["inspect"], ["verify"], ["export", "A", "--to", "out.csv", "--data-dir"]]
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
        assert one.startswith("fds: AAPL.ring: expected another checksum")
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


class TestVerify:
    def test_all_symbols(self, directory: Path) -> None:
        result = fds("verify", directory)
        assert (result.exit_code, result.stderr) == (0, "")
        one, other = result.stdout.splitlines()
        assert re.fullmatch(
            r"AAPL: 1 summary on 3 levels and 3 windows agree with the prices, 9 held of 9 "
            r"\(\d\.\d\d s\)\.",
            one,
        )
        assert other.startswith("BTC/USDT: ")
        assert "held of 2,000" in other

    def test_what_is_not_a_regular_file(self, directory: Path) -> None:
        (directory / "X.ring").mkdir()
        os.mkfifo(directory / "Y.ring")
        for command in ("verify", "inspect"):
            one, other = fds(command, directory).stderr.splitlines()
            for line, name in ((one, "X.ring"), (other, "Y.ring")):
                assert name in line
                assert line.endswith(": not a regular file.")

    def test_sentences_end_alike(self, directory: Path) -> None:
        (directory / "X.ring").write_bytes(b"x")
        for command in ("verify", "inspect"):
            (line,) = fds(command, directory).stderr.splitlines()
            assert re.fullmatch(r"fds: .*X\.ring: expected a header of .*[^.]\.", line)
        assert fds("verify", directory, "Y").stderr == "fds: Symbol Y not found.\n"

    def test_the_time_of_a_symbol_is_not_that_of_loading_the_kernels(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = []

        def verify(*arguments: Any) -> LevelsReport:
            order.append("verify")
            return verify_levels(*arguments)

        monkeypatch.setattr(
            "financial_data_service.engine.running_stats.warm_up", lambda: order.append("warm up")
        )
        monkeypatch.setattr("financial_data_service.verify.levels.verify_levels", verify)
        assert fds("verify", directory).exit_code == 0
        assert order == ["warm up", "verify", "verify"]

    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_who_watches_it_compile_is_told(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
    ) -> None:
        def warm_up() -> None:
            with monkeypatch.context() as patch:
                patch.setattr(sys.stderr, "isatty", lambda: is_terminal)
                njit(lambda x: x + 1)(1)

        monkeypatch.setattr("financial_data_service.engine.running_stats.warm_up", warm_up)
        result = fds("verify", directory)
        assert result.exit_code == 0
        assert result.stderr == (f"fds: {SENTENCE}\n" if is_terminal else "")

    def test_one_symbol(self, directory: Path) -> None:
        result = fds("verify", directory, "BTC/USDT")
        assert result.exit_code == 0
        assert result.stdout.count("\n") == 1
        assert_one_sentence(fds("verify", directory, "X"), 1, "Symbol X not found")

    def test_an_empty_directory(self, tmp_path: Path) -> None:
        result = fds("verify", fill(tmp_path / "data", {}))
        assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'data'}: no symbols.\n")

    def test_real_prices(self, tmp_path: Path) -> None:
        data_dir = fill(tmp_path / "data", {"BTC/USDT": trades()}, Geometry(100_000))
        assert "agree with the prices, 2,001 held of 2,001" in fds("verify", data_dir).stdout

    def test_a_flipped_bit_of_a_price(self, directory: Path) -> None:
        """In a file that was closed cleanly: nothing but this command would notice."""
        slot = 1777 % SMALL.capacity
        spoil(directory / "BTC%2FUSDT.ring", (SMALL.offsets[0] + slot) * 8)
        result = fds("verify", directory)
        assert result.exit_code == 1
        assert result.stdout.startswith("AAPL: ")
        fault, sentence = result.stderr.splitlines()
        assert re.fullmatch(
            r"fds: BTC/USDT: level 1, block 222 \(prices 1,776 to 1,783\): sum is stored as \S+ \+ "
            r"\S+, its prices give \S+ \+ \S+: one of these prices has changed, for the level "
            r"above does not fit either\.",
            fault,
        )
        assert re.fullmatch(
            r"fds: BTC/USDT: 1 fault in \d+ summaries on 3 levels and 3 windows\.", sentence
        )

    def test_many_faults(self, directory: Path) -> None:
        words = np.memmap(directory / "BTC%2FUSDT.ring", "<f8", "r+")
        words[SMALL.offsets[1] : SMALL.offsets[2]] = 0.0
        words.flush()
        result = fds("verify", directory, "BTC/USDT")
        lines = result.stderr.splitlines()
        assert result.exit_code == 1
        assert len(lines) == 12
        assert all("min is stored as 0.0" in line for line in lines[:10])
        assert re.fullmatch(r"fds: BTC/USDT: and \d+ more\.", lines[10])
        assert re.search(r": \d+ faults in \d+ summaries", lines[11])

    def test_files_that_are_refused(self, directory: Path) -> None:
        spoil(directory / "AAPL.ring")
        result = fds("verify", directory)
        assert result.exit_code == 1
        assert result.stdout.startswith("BTC/USDT: ")
        assert f"fds: {directory / 'AAPL.ring'}: expected another checksum" in result.stderr

    def test_a_file_that_was_not_closed(self, tmp_path: Path) -> None:
        left = leave(tmp_path / "data", {"AAPL": PRICES})
        parts = ("left by a process that was killed", f"Start `fds serve --data-dir {left}` once")
        assert_one_sentence(fds("verify", left), 1, *parts)
        assert_one_sentence(fds("verify", left, "AAPL"), 1, *parts)

    def test_interrupted(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(levels, "verify_levels", interrupt)
        assert_one_sentence(fds("verify", directory), 130, "Interrupted")

    def test_a_directory_in_use(self, directory: Path) -> None:
        is_over = threading.Event()
        with in_use(directory) as manager:

            def write() -> None:
                while not is_over.wait(0.001):
                    manager.add_batch("BTC/USDT", PRICES[:100])

            writer = threading.Thread(target=write)
            writer.start()
            try:
                for _ in range(20):
                    result = fds("verify", directory)
                    assert (result.exit_code, result.stderr) == (0, "")
            finally:
                is_over.set()
                writer.join()

    def test_prices_that_come_too_fast_are_said(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with in_use(directory) as manager:
            run = RingView.run

            def slow(held: RingView, begin: int, end: int) -> Any:
                if held.symbol == "BTC/USDT":
                    add(manager, held.symbol, PRICES)
                return run(held, begin, end)

            monkeypatch.setattr(RingView, "run", slow)
            result = fds("verify", directory)
        assert result.exit_code == 1
        assert re.match(
            r"fds: BTC/USDT: the windows could not be compared. Prices [\d,]+ to [\d,]+ of symbol "
            r"BTC/USDT were overwritten by newer ones before they were read, again and again\.\n"
            r"fds: BTC/USDT: 1 fault in",
            result.stderr,
        )

    def test_a_bar_on_a_terminal_only(self, directory: Path, monkeypatch: Any) -> None:
        assert "━" not in fds("verify", directory).output
        monkeypatch.setattr("rich.console.Console.is_terminal", True)
        result = fds("verify", directory, env={"TERM": "xterm"})
        assert "BTC/USDT" in result.stderr
        assert "100%" in result.stderr
        assert "━" not in result.stdout


def exported(directory: Path, symbol: str, to: Path, *more: str) -> str:
    result = fds("export", symbol, "--to", to, "--data-dir", directory, *more)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert [path.name for path in to.parent.iterdir() if path.name.startswith(".")] == []
    line: str = result.stdout
    return line


def read_back(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the numbers of the prices and the prices."""
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        assert table.schema.names == ["sequence", "price"]
        assert [str(kind) for kind in table.schema.types] == ["int64", "double"]
        return table["sequence"].to_numpy(), table["price"].to_numpy()
    header, *lines = path.read_text().splitlines()
    assert header == "sequence,price"
    rows = [line.split(",") for line in lines]
    return np.array([int(row[0]) for row in rows]), np.array([float(row[1]) for row in rows])


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """To the bit."""
    return bool(one.dtype == other.dtype == np.float64) and one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.99, ""), (1.0, " (2,000 prices/s)"), (2.0, " (1,000 prices/s)")]
)
def test_a_rate_is_told_of_where_there_was_time_for_one(seconds: float, said: str) -> None:
    assert rate(2000, seconds) == said
    assert rate(0, seconds) == ""


class TestExport:
    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
    def test_every_price_reads_back_as_it_was(
        self, directory: Path, tmp_path: Path, suffix: str
    ) -> None:
        to = tmp_path / f"out{suffix}"
        line = exported(directory, "AAPL", to)
        # On a busy machine the first Parquet file may take long enough for a rate.
        said = rf"AAPL: prices 0 to 8 written to {to} in \d+\.\d\d s( \(\d+ prices/s\))?\.$"
        assert re.match(said, line)
        numbers, prices = read_back(to)
        assert numbers.tolist() == list(range(9))
        assert same(prices, ODD)
        # Of 2,000 prices the last 1,000 are in the largest window.
        exported(directory, "BTC/USDT", to, "--force")
        numbers, prices = read_back(to)
        assert numbers.tolist() == list(range(1000, 2000))
        assert same(prices, PRICES[1000:])

    def test_npy(self, directory: Path, tmp_path: Path) -> None:
        exported(directory, "BTC/USDT", tmp_path / "out.npy")
        assert same(np.load(tmp_path / "out.npy"), PRICES[1000:])
        np.save(tmp_path / "by_numpy.npy", PRICES[1000:])
        written = [(tmp_path / name).read_bytes() for name in ("out.npy", "by_numpy.npy")]
        assert written[0] == written[1]

    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
    def test_in_many_parts(
        self, directory: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for writer in (Writer, CsvWriter):
            monkeypatch.setattr(writer, "at_once", 77)
        to = tmp_path / f"out{suffix}"
        exported(directory, "BTC/USDT", to)
        prices = np.load(to) if suffix == ".npy" else read_back(to)[1]
        assert same(prices, PRICES[1000:])

    def test_the_last_prices(self, directory: Path, tmp_path: Path) -> None:
        to = tmp_path / "out.csv"
        assert "prices 1,993 to 1,999" in exported(directory, "BTC/USDT", to, "--last", "7")
        assert read_back(to)[0].tolist() == list(range(1993, 2000))
        assert "prices 0 to 8" in exported(directory, "AAPL", to, "--last", "1000", "--force")
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory, "-f", "-n", "1001")
        assert_one_sentence(result, 2, "--last must be at most 1000, got 1001")

    def test_the_directory_may_come_from_the_environment(
        self, directory: Path, tmp_path: Path
    ) -> None:
        to = tmp_path / "out.csv"
        result = fds("export", "AAPL", "--to", to, env={"FDS_DATA_DIR": str(directory)})
        assert result.exit_code == 0
        assert_one_sentence(
            fds("export", "AAPL", "--to", to), 2, "Give --data-dir DIRECTORY or set FDS_DATA_DIR"
        )

    def test_a_file_that_is_there_is_kept_unless_told(
        self, directory: Path, tmp_path: Path
    ) -> None:
        to = tmp_path / "out.csv"
        to.write_text("mine")
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, f"{to} is there already. To overwrite it, add --force.")
        assert to.read_text() == "mine"
        exported(directory, "AAPL", to, "--force")
        assert same(read_back(to)[1], ODD)

    @pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.gz", ".csv"])
    def test_a_suffix_that_is_not_known(self, directory: Path, tmp_path: Path, name: str) -> None:
        result = fds("export", "AAPL", "--to", tmp_path / name, "--data-dir", directory)
        assert_one_sentence(result, 2, "one of .csv, .npy, .parquet, got", name)

    def test_parquet_without_pyarrow(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        to = tmp_path / "out.parquet"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, "Writing Parquet needs pyarrow: make install")
        assert not to.exists()

    def test_a_symbol_that_is_not_there(self, directory: Path, tmp_path: Path) -> None:
        to = tmp_path / "out.csv"
        result = fds("export", "X", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, "Symbol X not found")
        assert not to.exists()

    @pytest.mark.parametrize(
        ("name", "reason"), [("missing", "no such file or directory"), ("file", "not a directory")]
    )
    def test_a_place_that_cannot_be_written_to(
        self, directory: Path, tmp_path: Path, name: str, reason: str
    ) -> None:
        (tmp_path / "file").touch()
        to = tmp_path / name / "out.csv"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, f"Cannot write {to}: {reason}.")

    def test_a_file_system_that_is_read_only(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It refuses to remove what is not there, too."""

        def refuse(path: Path, *_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        for name in ("open", "unlink"):
            monkeypatch.setattr(Path, name, refuse)
        to = tmp_path / "out.csv"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, f"Cannot write {to}: read-only file system.")

    def test_a_directory_is_refused_before_anything_is_written(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "financial_data_service.cli.progress.PriceProgress.advance", pytest.fail
        )
        to = tmp_path / "out.csv"
        to.mkdir()
        for force in ([], ["--force"]):
            result = fds("export", "AAPL", "--to", to, "--data-dir", directory, *force)
            assert_one_sentence(result, 1, f"Cannot write {to}: is a directory.")

    @pytest.mark.parametrize("is_there", [True, False])
    def test_a_link_is_followed(self, directory: Path, tmp_path: Path, is_there: bool) -> None:
        to, target = tmp_path / "link.csv", tmp_path / "elsewhere" / "out.csv"
        target.parent.mkdir()
        to.symlink_to(target)
        if is_there:
            target.write_text("mine")
        exported(directory, "AAPL", to, *(["--force"] if is_there else []))
        assert to.is_symlink()
        assert [path.name for path in target.parent.iterdir()] == ["out.csv"]
        assert same(read_back(target)[1], ODD)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_told_to_end_it_leaves_nothing(
        self,
        directory: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: signal.Signals,
    ) -> None:
        handler = signal.getsignal(number)
        monkeypatch.setattr(
            "financial_data_service.cli.progress.PriceProgress.advance",
            lambda *_: signal.raise_signal(number),
        )
        to = tmp_path / "out.csv"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 130, "Interrupted; nothing was written")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
        assert signal.getsignal(number) == handler

    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
    def test_interrupted_it_leaves_nothing(
        self, directory: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("financial_data_service.cli.progress.PriceProgress.advance", interrupt)
        to = tmp_path / f"out{suffix}"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 130, "Interrupted; nothing was written")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    def test_prices_that_come_too_fast_are_said(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The writer runs over what has not been exported yet: no file, and a way out."""
        monkeypatch.setattr(CsvWriter, "at_once", 77)
        with in_use(directory) as manager:
            monkeypatch.setattr(
                "financial_data_service.cli.progress.PriceProgress.advance",
                lambda *_: add(manager, "BTC/USDT", PRICES[:500]),
            )
            to = tmp_path / "out.csv"
            result = fds("export", "BTC/USDT", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, "Newer prices of BTC/USDT came faster", "--last")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    def test_a_directory_in_use(self, directory: Path, tmp_path: Path) -> None:
        """Each price says its number; every file is of one moment."""
        is_over = threading.Event()
        with in_use(directory) as manager:
            add(manager, "A", np.arange(2000.0))

            def write() -> None:
                number = 2000
                while not is_over.wait(0.0005):
                    manager.add_batch("A", np.arange(number, number + 3, dtype=float))
                    number += 3

            writer = threading.Thread(target=write)
            writer.start()
            try:
                for suffix in (".csv", ".parquet") * 3:
                    to = tmp_path / f"out{suffix}"
                    arguments = ("export", "A", "--to", to, "--data-dir", directory, "--force")
                    for _ in range(TRIES):
                        if (result := fds(*arguments)).exit_code == 0:
                            break
                        # On a busy machine the writer may come round: then that is said.
                        assert_one_sentence(result, 1, "Newer prices of A came faster")
                    assert (result.exit_code, result.stderr) == (0, ""), result.output
                    numbers, prices = read_back(to)
                    assert len(numbers) == 1000
                    assert (np.diff(numbers) == 1).all()
                    assert same(prices, numbers.astype(float))
            finally:
                is_over.set()
                writer.join()

    def test_what_was_exported_can_be_loaded(self, tmp_path: Path, stub: StubService) -> None:
        data_dir = fill(tmp_path / "data", {"BTC/USDT": trades()}, Geometry(100_000))
        for suffix in (".csv", ".parquet"):
            to = tmp_path / f"out{suffix}"
            exported(data_dir, "BTC/USDT", to)
            result = fds("load", to, "--symbol", suffix, "--url", stub.url)
            assert result.exit_code == 0, result.output
            assert same(np.array(stub.prices[suffix]), trades())


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
