"""``fds verify``: data that agree, data that do not, and data that change meanwhile."""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from financial_data_service.engine.compile_notice import SENTENCE
from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.ring_view import RingView
from financial_data_service.verify import levels
from financial_data_service.verify.levels import LevelsReport, verify_levels
from support.commands import assert_one_sentence, fds
from support.data_directories import SMALL, add, fill, in_use, leave, spoil, trades
from support.price_files import PRICES


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

    def test_the_order_of_its_words(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``[SYMBOL] --data-dir DIRECTORY``, as its siblings; the directory may also come first."""
        variable = {"FDS_DATA_DIR": str(directory)}
        wrong = {"FDS_DATA_DIR": str(tmp_path)}

        def verified(*words: str | Path, env: dict[str, str] | None = None) -> list[str]:
            result = fds("verify", *words, env=env)
            assert result.exit_code == 0, result.stderr
            return [line.partition(":")[0] for line in result.stdout.splitlines()]

        every = verified("--data-dir", directory)
        assert len(every) > 1
        assert verified(directory) == every
        assert verified(env=variable) == every
        assert verified(directory, env=wrong) == every, "a path given is no symbol"
        assert verified("--data-dir", directory, env=wrong) == every
        assert verified("BTC/USDT", "--data-dir", directory) == ["BTC/USDT"]
        assert verified("--data-dir", directory, "BTC/USDT", env=wrong) == ["BTC/USDT"]
        assert verified("BTC/USDT", env=variable) == ["BTC/USDT"]
        assert verified(directory, "BTC/USDT", env=wrong) == ["BTC/USDT"]
        monkeypatch.chdir(directory.parent)
        (directory.parent / "AAPL").mkdir()
        assert verified("AAPL", "--data-dir", directory) == ["AAPL"], "the option says it"

    def test_too_few_and_too_many_words(self, directory: Path) -> None:
        assert_one_sentence(fds("verify"), 2, "Give --data-dir DIRECTORY or set FDS_DATA_DIR")
        told = "Expected one symbol, got 'A' and 'B'"
        assert_one_sentence(fds("verify", "A", "B", "--data-dir", directory), 2, told)
        assert_one_sentence(fds("verify", directory, "A", "B"), 2, told)

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
        assert f"fds: {directory / 'AAPL.ring'}: the header's checksum does not" in result.stderr

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
