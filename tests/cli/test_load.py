"""``fds load``: the exact float64 of every cell arrives, once, whatever breaks in between.

The load is tested against a stand-in that loses replies, restarts and hangs on demand, and once
against the real service. The interruption is a real SIGINT to a real process, sent while a known
batch is under way.
"""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from financial_data_service.cli import app
from support.price_files import EXAMPLE, bits
from support.stub_service import Reply, StubService


def load(*arguments: object) -> Any:
    words = ["load", *map(str, arguments)]
    return CliRunner().invoke(app, words, env={"NO_COLOR": "1"}, prog_name="fds")


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("financial_data_service.client.retries.Retries.pause", lambda *_: 0.001)


@pytest.fixture
def trades(tmp_path: Path) -> Path:
    """25 prices, in the second column of a CSV file."""
    path = tmp_path / "trades.csv"
    rows = "".join(f"{i},{100 + i / 3!r}\n" for i in range(25))
    path.write_text("time,price\n" + rows)
    return path


TRADES = [100 + i / 3 for i in range(25)]


class TestLoad:
    def test_a_file_is_loaded_in_batches(self, stub: StubService, trades: Path) -> None:
        result = load(trades, "--symbol", "S", "--batch-size", 10, "--url", stub.url)
        assert result.exit_code == 0, result.stderr
        assert bits(stub.prices["S"]) == bits(TRADES)
        assert stub.batch_requests == 3
        assert result.stdout.startswith(f"S: 25 added from {trades}, column 'price', in ")
        assert result.stdout.endswith("; 25 prices in all.\n")
        assert result.stdout.count("\n") == 1

    def test_again_changes_nothing(self, stub: StubService, trades: Path) -> None:
        load(trades, "--symbol", "S", "--url", stub.url)
        result = load(trades, "--symbol", "S", "--url", stub.url)
        assert result.exit_code == 0
        assert "S: 25 already stored, 0 added from" in result.stdout
        assert stub.prices["S"] == TRADES

    @pytest.mark.parametrize("held", range(26))
    def test_again_adds_what_is_missing(self, stub: StubService, trades: Path, held: int) -> None:
        stub.prices["S"] = TRADES[:held]
        result = load(trades, "--symbol", "S", "--batch-size", 10, "--url", stub.url)
        known = f"{held} already stored, " if held else ""
        assert f"S: {known}{25 - held} added" in result.stdout
        assert stub.prices["S"] == TRADES

    @pytest.mark.parametrize("largest_window", [1, 7, 10, 25, 100])
    def test_again_passes_over_what_cannot_be_compared(
        self, stub: StubService, trades: Path, largest_window: int
    ) -> None:
        stub.prices["S"], stub.largest_window = TRADES[:21], largest_window
        result = load(trades, "--symbol", "S", "--batch-size", 10, "--url", stub.url)
        assert result.exit_code == 0, result.stderr
        assert stub.prices["S"] == TRADES
        skipped = max(0, 21 - largest_window)
        told = f"{skipped} skipped since they have left the service's window, "
        assert (told in result.stdout) == (skipped > 0)
        assert f"{21 - skipped} already stored, 4 added" in result.stdout

    def test_a_file_that_has_left_the_window_altogether(
        self, stub: StubService, trades: Path
    ) -> None:
        stub.prices["S"], stub.largest_window = [5.0] * 99, 10
        result = load(trades, "--symbol", "S", "--url", stub.url)
        assert result.exit_code == 0
        assert "S: 25 skipped since" in result.stdout
        assert "None could be compared; --append would add them after" in result.stdout
        assert stub.batch_requests == 0

    def test_other_prices_are_left_alone(self, stub: StubService, trades: Path) -> None:
        stub.prices["S"] = [*TRADES[:12], 5.0]
        result = load(trades, "--symbol", "S", "--batch-size", 10, "--url", stub.url)
        assert result.exit_code == 1
        assert "from row 11 on" in result.stderr
        assert "Another program" in result.stderr
        stub.prices["S"] = [5.0]
        result = load(trades, "--symbol", "S", "--url", stub.url)
        assert result.exit_code == 1
        assert f"S holds other prices than {trades} from row 1 on" in result.stderr
        assert "add --append" in result.stderr
        assert stub.prices["S"] == [5.0]

    def test_append(self, stub: StubService, trades: Path) -> None:
        stub.prices["S"] = [5.0, 6.0]
        result = load(trades, "--symbol", "S", "--append", "--url", stub.url)
        assert result.exit_code == 0
        assert stub.prices["S"] == [5.0, 6.0, *TRADES]
        assert result.stdout.endswith("; 27 prices in all.\n")

    def test_append_to_nothing(self, stub: StubService, trades: Path) -> None:
        assert load(trades, "--symbol", "S", "--append", "--url", stub.url).exit_code == 0
        assert stub.prices["S"] == TRADES

    def test_from_sequence_goes_on_with_an_append(self, stub: StubService, trades: Path) -> None:
        stub.prices["S"] = [5.0, 6.0, *TRADES[:9]]
        result = load(trades, "--symbol", "S", "--from-sequence", 2, "--url", stub.url)
        assert "9 already stored, 16 added" in result.stdout
        assert stub.prices["S"] == [5.0, 6.0, *TRADES]

    def test_from_sequence_beyond_the_end(self, stub: StubService, trades: Path) -> None:
        stub.prices["S"] = [5.0]
        result = load(trades, "--symbol", "S", "--from-sequence", 9, "--url", stub.url)
        assert result.exit_code == 1
        assert "--from-sequence 9 leaves a gap: S holds 1 price." in result.stderr

    def test_append_and_from_sequence_exclude_each_other(self, trades: Path) -> None:
        result = load(trades, "--symbol", "S", "--append", "--from-sequence", 0)
        assert result.exit_code == 2
        assert "exclude each other" in result.stderr

    def test_a_bad_cell_is_met_before_anything_is_stored(
        self, stub: StubService, trades: Path
    ) -> None:
        trades.write_text(trades.read_text().replace("\n17,", "\n17,x"))
        result = load(trades, "--symbol", "S", "--batch-size", 5, "--url", stub.url)
        assert result.exit_code == 1
        assert stub.prices == {}
        assert f"{trades}, line 19, column 'price': 'x" in result.stderr
        assert "Broken off" not in result.stderr

    def test_a_file_without_prices(self, stub: StubService, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_text("price\n")
        result = load(tmp_path / "p.csv", "--symbol", "S", "--url", stub.url)
        assert result.exit_code == 1
        assert "p.csv holds no prices." in result.stderr

    @pytest.mark.parametrize(
        "fault",
        [
            (0, None),
            (503, {"detail": "draining"}),
            (502, b"<html>"),
            (429, {"detail": "too many requests"}),
        ],
    )
    def test_lost_replies_are_asked_for_again(
        self, stub: StubService, trades: Path, fault: Reply, quick_retries: None
    ) -> None:
        def lose_the_reply(request: int) -> Reply | None:
            if request == 2:  # Stored, but the client gets no reply.
                stub.prices["S"] = TRADES[:20]
            return fault if request in (2, 3, 4) else None

        stub.before_batch = lose_the_reply
        result = load(trades, "--symbol", "S", "--batch-size", 10, "--url", stub.url)
        assert result.exit_code == 0, result.stderr
        assert stub.prices["S"] == TRADES
        assert stub.batch_requests == 6

    def test_waiting_for_the_service_is_said_once_with_the_reason(
        self, stub: StubService, trades: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("financial_data_service.client.retries.Retries.pause", lambda *_: 0.6)
        stub.before_batch = lambda request: (503, {"detail": "draining"}) if request < 4 else None
        result = load(trades, "--symbol", "S", "--url", stub.url)
        assert result.exit_code == 0, result.stderr
        assert stub.prices["S"] == TRADES
        assert result.stderr.count("\n") == 1
        assert "The service is not available now: draining (503 from " in result.stderr
        assert result.stderr.endswith("; trying again for up to 30 s.\n")

    def test_a_service_that_stays_away(
        self, stub: StubService, trades: Path, quick_retries: None
    ) -> None:
        stub.before_batch = lambda request: (503, {"detail": "draining"}) if request > 1 else None
        result = load(trades, "--symbol", "S", "--batch-size", 10, "--append", "--url", stub.url)
        assert result.exit_code == 1
        assert "is not available now: draining (503 from POST" in result.stderr
        assert f"--from-sequence 0 --url {stub.url} --batch-size 10" in result.stderr
        assert stub.batch_requests == 1 + 21

    def test_a_service_that_forgot(self, stub: StubService, trades: Path) -> None:
        stub.before_batch = lambda request: stub.prices.clear() if request == 2 else None
        result = load(trades, "--symbol", "S", "--batch-size", 10, "--url", stub.url)
        assert result.exit_code == 1
        assert "S held 10 prices and now holds 0: the service was restarted" in result.stderr

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            ((400, {"detail": "Maximum number of symbols (10) reached"}), "Maximum number of symb"),
            ((413, {"detail": "Body too large"}), "Body too large"),
            (
                (422, {"detail": [{"loc": ["body", "values", 3], "msg": "too large a price"}]}),
                "values[3]: too large a price",
            ),
        ],
    )
    def test_a_refusal_is_told_in_the_service_s_words(
        self, stub: StubService, trades: Path, reply: Reply, reason: str
    ) -> None:
        stub.before_batch = lambda _: reply
        result = load(trades, "--symbol", "S", "--url", stub.url)
        assert result.exit_code == 1
        assert f"Rows 1 to 25 of {trades} cannot be stored: {reason}" in result.stderr

    def test_a_refusal_of_all_has_nothing_to_go_on_from(
        self, stub: StubService, trades: Path
    ) -> None:
        stub.before_batch = lambda _: (400, {"detail": "Maximum number of symbols (10) reached"})
        result = load(trades, "--symbol", "S", "--append", "--url", stub.url)
        assert result.stderr.endswith("Maximum number of symbols (10) reached.\n")

    def test_a_symbol_that_is_not_utf8(self, trades: Path) -> None:
        result = load(trades, "--symbol", "a\udcff")
        assert result.exit_code == 2
        assert "Expected a symbol in UTF-8, got 'a\\udcff'." in result.stderr

    def test_standard_input(self, stub: StubService) -> None:
        command = [sys.executable, "-m", "financial_data_service", "load", "-"]
        result = subprocess.run(
            [*command, "--symbol", "S", "--url", stub.url],
            input=gzip.compress(b"price\n1.5\n2.5\n"),
            capture_output=True,
            timeout=30,
            check=True,
        )
        assert stub.prices["S"] == [1.5, 2.5]
        assert b"2 added from the standard input, column 'price'" in result.stdout


class TestInterruption:
    """SIGINT while the third batch is under way."""

    @pytest.fixture(autouse=True)
    def _children_hear_sigint(self) -> Iterator[None]:
        # A test run in the background of a shell would hand down its ignored SIGINT.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def interrupted(
        self, stub: StubService, *arguments: object
    ) -> subprocess.CompletedProcess[str]:
        arrived, release = threading.Event(), threading.Event()

        def hold_the_third(request: int) -> Reply | None:
            if request == 3:
                arrived.set()
                release.wait(20)
            return None

        stub.before_batch = hold_the_third
        command = [sys.executable, "-m", "financial_data_service", "load", *map(str, arguments)]
        with subprocess.Popen(
            [*command, "--url", stub.url, "--batch-size", "10"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert arrived.wait(20)
                process.send_signal(signal.SIGINT)
                stdout, stderr = process.communicate(timeout=20)
            finally:
                release.set()
                process.kill()
        stub.before_batch = lambda _: None
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def test_one_line_tells_how_to_go_on_and_it_does(self, stub: StubService, trades: Path) -> None:
        result = self.interrupted(stub, trades, "--symbol", "S")
        assert result.returncode == 130
        assert result.stdout == ""
        assert result.stderr == (
            "fds: Interrupted after row 20; all prices up to it are stored. To go on: "
            f"fds load {trades} --symbol S --url {stub.url} --batch-size 10\n"
        )
        again = load(trades, "--symbol", "S", "--url", stub.url)
        assert again.exit_code == 0
        # The third batch may or may not have been stored behind the client's back.
        assert "20 already stored, 5 added" in again.stdout or "25 already" in again.stdout
        assert stub.prices["S"] == TRADES

    def test_an_append_goes_on_where_it_began(self, stub: StubService, trades: Path) -> None:
        stub.prices["a b"] = [5.0, 6.0]
        result = self.interrupted(stub, trades, "--symbol", "a b", "--append", "-c", "price")
        assert result.returncode == 130
        _, _, command = result.stderr.partition("To go on: fds ")
        assert command == (
            f"load {trades} --symbol 'a b' --column price --from-sequence 2 "
            f"--url {stub.url} --batch-size 10\n"
        )
        shell = f"{sys.executable} -m financial_data_service {command}"
        subprocess.run(shell, shell=True, check=True, capture_output=True, timeout=30)
        assert stub.prices["a b"] == [5.0, 6.0, *TRADES]


class TestRealService:
    def test_the_example_and_again(self, live_server: str) -> None:
        first = load(EXAMPLE, "--symbol", "BTCUSDT", "--batch-size", 700, "--url", live_server)
        assert "BTCUSDT: 2,001 added" in first.stdout, first.stderr
        again = load(EXAMPLE, "--symbol", "BTCUSDT", "--url", live_server)
        assert "BTCUSDT: 2,001 already stored, 0 added" in again.stdout, again.stderr

    def test_one_more_row(self, live_server: str, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        path.write_text("".join(f"{price!r}\n" for price in TRADES))
        load(path, "--symbol", "T", "--url", live_server)
        with path.open("a") as file:
            file.write("0.1\n")
        result = load(path, "--symbol", "T", "--batch-size", 10, "--url", live_server)
        assert "T: 25 already stored, 1 added" in result.stdout, result.stderr

    def test_a_file_longer_than_the_window(self, live_server: str, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        path.write_text("".join(f"{100 + i % 977 / 7!r}\n" for i in range(250_123)))
        first = load(path, "--symbol", "LONG", "--url", live_server)
        assert "LONG: 250,123 added" in first.stdout, first.stderr
        again = load(path, "--symbol", "LONG", "--url", live_server)
        assert again.exit_code == 0, again.stderr
        assert "150,123 skipped since they have left the service's window" in again.stdout
        assert "100,000 already stored, 0 added" in again.stdout

    def test_other_prices_and_refusals(self, live_server: str, tmp_path: Path) -> None:
        path = tmp_path / "p.csv"
        path.write_text("1\n2\n")
        load(path, "--symbol", "U", "--url", live_server)
        path.write_text("1\n3\n")
        result = load(path, "--symbol", "U", "--url", live_server)
        assert result.exit_code == 1
        assert "add --append" in result.stderr
        path.write_text("1\n2\n1e151\n")
        result = load(path, "--symbol", "V", "--url", live_server)
        assert result.exit_code == 1
        assert "Rows 1 to 3 of" in result.stderr
        assert "values[2]" in result.stderr
