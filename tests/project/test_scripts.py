"""The load generators: what they send, what they report, and how they end.

Their parts are tested here as modules; whole runs are processes, against the real service, and
against a stand-in where the service has to misbehave.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.stub_service import Reply, StubService

SCRIPTS = ROOT / "scripts"
HFT, STATS = SCRIPTS / "test_hft_stream.py", SCRIPTS / "test_stats_stream.py"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of ``scripts/``."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FDS_URL", raising=False)


@pytest.fixture
def _children_hear_sigint() -> Iterator[None]:
    # A test run in the background of a shell would hand down its ignored SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(script: Path, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *map(str, options)]
    env = {**os.environ, "COLUMNS": "150"}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=env)


def report_of(stdout: str) -> dict[str, str]:
    """Read the rows of the framed report: label to value."""
    lines = [line.strip("│ \n") for line in stdout.splitlines()]
    return dict(
        re.split(r" {2,}", line, maxsplit=1) for line in lines if re.search(r"\S {2,}", line)
    )


def count_of(text: str) -> int:
    return int(text.split(maxsplit=1)[0].rstrip(",").replace(",", ""))


class TestParts:
    def test_percentiles_are_of_the_nearest_rank(self, module: Any) -> None:
        percentile = module("load_report").percentile
        ordered = [float(n) for n in range(1, 101)]
        assert [percentile(ordered, p) for p in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]
        assert percentile([7.0], 50) == percentile([7.0], 99) == 7
        assert percentile([1.0, 2.0], 50) == 1

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("2", ["AAPL", "MSFT"]),
            ("AAPL", ["AAPL"]),
            (" a/b , ü,a/b,", ["a/b", "ü"]),
        ],
    )
    def test_symbols(self, module: Any, text: str, names: list[str]) -> None:
        assert module("load_report").symbol_names(text) == names

    def test_many_symbols_are_numbered(self, module: Any) -> None:
        names = module("load_report").symbol_names("13")
        assert len(set(names)) == 13
        assert names[-1] == "SYM13"

    @pytest.mark.parametrize("text", ["0", "", ",", " , "])
    def test_no_symbols(self, module: Any, text: str) -> None:
        report = module("load_report")
        with pytest.raises(report.LoadError, match="Expected a number from 1 or names"):
            report.symbol_names(text)

    def batches(self, module: Any, **changes: Any) -> Any:
        hft = module("test_hft_stream")
        options = {"count": 50, "batch_size": None, "symbols": ["A", "B"], "seed": 1} | changes
        return hft.prepare(hft.Options(url="", concurrency=1, **options))

    def test_batches_are_random_walks_of_prices(self, module: Any) -> None:
        batches = self.batches(module)
        assert [batch.symbol for batch in batches] == ["A", "B"] * 25
        walk: list[float] = []
        for batch in batches:
            body = json.loads(batch.body)
            assert body["symbol"] == batch.symbol
            assert len(body["values"]) == batch.size
            assert 1 <= batch.size <= 10_000
            if batch.symbol == "A":
                walk += body["values"]
        assert all(price > 0 and round(price, 2) == price for price in walk)
        steps = [abs(math.log(b / a)) for a, b in itertools.pairwise(walk)]
        assert 0 < max(steps) < 0.01, "no jumps, not even between batches"
        assert len({batch.size for batch in batches}) > 40

    def test_the_seed_decides_all(self, module: Any) -> None:
        assert self.batches(module) == self.batches(module)
        assert self.batches(module) != self.batches(module, seed=2)

    def test_the_pool_of_batches_is_bounded(self, module: Any) -> None:
        batches = self.batches(module, count=10**9, batch_size=10_000)
        assert sum(batch.size for batch in batches) == module("test_hft_stream").POOL_PRICES_MAX

    def test_questions_hold_any_symbol(self, module: Any) -> None:
        stats = module("test_stats_stream")
        path = stats.question("http://h", "a/b ü?", 3, stats.Form.path)
        assert str(path) == "http://h/stats/a%2Fb%20%C3%BC%3F/3"
        query = stats.question("http://h", "a/b ü?", 3, stats.Form.query)
        assert str(query) == "http://h/stats/?symbol=a%2Fb+%C3%BC%3F&k=3"

    def test_pytest_does_not_collect_them(self, pytestconfig: pytest.Config) -> None:
        assert pytestconfig.getini("testpaths") == ["tests"]


class TestRuns:
    def test_batches_then_statistics(self, live_server: str) -> None:
        result = run(HFT, "--url", live_server, "--count", 60, "--symbols", "AAPL,a/b ü")
        assert result.returncode == 0, result.stdout + result.stderr
        report = report_of(result.stdout)
        assert report["Requests"] == "60, all successful"
        trades = count_of(report["Trades"])
        assert float(report["Average batch"].split()[0].replace(",", "")) == pytest.approx(
            trades / 60, abs=0.06
        )
        assert report["Errors"] == "none"
        assert report["Sequences"] == f"grew by {trades:,}, exactly the trades acknowledged"
        for label in ("Time per request", "Time per trade"):
            assert re.fullmatch(r"[\d.,]+ µs wall, [\d.,]+ µs latency", report[label])
        assert re.fullmatch(r"p50 .+ µs, p99 .+ µs, max .+ µs", report["Latency"])

        for form in ("path", "query"):
            result = run(STATS, "--url", live_server, "--count", 300, "--form", form)
            assert result.returncode == 0, result.stdout + result.stderr
            report = report_of(result.stdout)
            assert report["Requests"] == "300, all successful"
            assert count_of(report["Prices"]) > 300
            assert "k = 1 … 5 (random), 2 symbols" in result.stdout

    def test_fixed_sizes(self, live_server: str) -> None:
        options = ["--url", live_server, "--count", 30, "--concurrency", 3]
        result = run(HFT, *options, "--batch-size", 7, "--symbols", 1, "--seed", 5)
        report = report_of(result.stdout)
        assert report["Trades"] == "210"
        assert report["Average batch"] == "7.0 trades"
        assert "30 batches of 7 for 1 symbol, 3 at once, seed 5" in result.stdout
        report = report_of(run(STATS, *options, "--symbols", "AAPL", "--k", 1).stdout)
        assert report["Average window"] == "10.0 prices"

    def test_errors_are_grouped_by_reason(self, live_server: str) -> None:
        result = run(STATS, "--url", live_server, "--count", 20, "--symbols", "NOPE")
        assert result.returncode == 1
        report = report_of(result.stdout)
        assert report["Requests"] == "20, 20 failed"
        assert report["Errors"] == "20 × 404 Symbol NOPE not found"
        assert "Latency" not in report

    def test_more_symbols_than_the_service_keeps(self, live_server: str) -> None:
        result = run(HFT, "--url", live_server, "--symbols", 11)
        assert result.returncode == 1
        assert result.stderr.startswith("The service keeps 10 symbols and has room for")
        assert result.stdout == ""

    @pytest.mark.parametrize("script", [HFT, STATS])
    def test_a_server_that_is_down(self, script: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = run(script, "--url", url)
        assert result.returncode == 1
        assert result.stderr.startswith(f"Cannot reach {url} ")
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""

    @pytest.mark.parametrize(
        ("status", "key", "sentence"),
        [
            (401, "", "wants its API key in FDS_API_KEY, got none (401 Unauthorized)."),
            (401, "k" * 16, "wants its API key in FDS_API_KEY, got another (401 Unauthorized)."),
            (429, "", "has as many requests under way as it takes (429 Too Many Requests)."),
            (503, "", "is not available now (503 Service Unavailable)."),
            (500, "", "answers, but is not a financial-data-service."),
        ],
    )
    @pytest.mark.parametrize("script", [HFT, STATS])
    def test_a_service_that_does_not_answer_now(
        self,
        script: Path,
        status: int,
        key: str,
        sentence: str,
        stub: StubService,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(stub, "symbols", lambda: (status, {"detail": "no"}))
        monkeypatch.setenv("FDS_API_KEY", key)
        result = run(script, "--url", stub.url)
        assert result.returncode == 1
        assert result.stderr.startswith(f"{stub.url} {sentence}")
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://h", "http://", ""])
    def test_a_bad_url(self, module: Any, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        hft = module("test_hft_stream")
        with pytest.raises(SystemExit) as end:
            hft.app(["--url", url])
        assert end.value.code == 1
        assert capsys.readouterr().err.startswith("Expected a URL such as http://")

    def test_no_symbols_to_ask_for(self, stub: StubService) -> None:
        result = run(STATS, "--url", stub.url, "--wait", 0)
        assert result.returncode == 1
        assert "holds no symbols yet" in result.stderr

    def test_help_teaches(self) -> None:
        text = run(HFT, "--help").stdout
        for word in ("--url", "--count", "--batch-size", "--concurrency", "--symbols", "--seed"):
            assert word in text
        assert "before the clock starts" in text


class TestMisbehaviour:
    def stream(self, stub: StubService, *options: object) -> Any:
        fixed = ["--batch-size", 5, "--symbols", 1, "--concurrency", 1]
        return run(HFT, "--url", stub.url, "--count", 10, *fixed, *options)

    def test_refused_and_lost_replies(self, stub: StubService) -> None:
        def misbehave(request: int) -> Reply | None:
            return {2: (503, {"detail": "draining"}), 4: (422, {"detail": [{"msg": "no"}]})}.get(
                request
            )

        stub.before_batch = misbehave
        result = self.stream(stub)
        assert result.returncode == 1
        report = report_of(result.stdout)
        assert report["Requests"] == "10, 2 failed"
        assert "1 × 503 draining" in result.stdout
        assert "1 × 422 no" in result.stdout
        assert report["Sequences"] == "grew by 40, exactly the trades acknowledged"

    def test_a_lost_reply_leaves_a_doubt_and_says_so(self, stub: StubService) -> None:
        def lose_the_reply(request: int) -> Reply | None:
            if request == 10:
                stub.prices["AAPL"] += [1.0] * 5
                return 0, None
            return None

        stub.before_batch = lose_the_reply
        report = report_of(self.stream(stub).stdout)
        assert report["Sequences"] == (
            "grew by 50: 45 acknowledged, the rest of the 5 in requests that got no reply"
        )

    def test_prices_from_elsewhere_are_noticed(self, stub: StubService) -> None:
        def add(request: int) -> Reply | None:
            if request == 10:
                stub.prices["AAPL"] = [*stub.prices["AAPL"], 1.0]
            return None

        stub.before_batch = add
        result = self.stream(stub)
        assert result.returncode == 1
        assert "AAPL grew by 51, but 50 trades were acknowledged" in result.stdout

    @pytest.mark.usefixtures("_children_hear_sigint")
    @pytest.mark.parametrize("is_stuck", [False, True])
    def test_ctrl_c_reports_what_was_done(self, stub: StubService, is_stuck: bool) -> None:
        arrived, release = threading.Event(), threading.Event()

        def hold(request: int) -> Reply | None:
            if request == 5:
                arrived.set()
                release.wait(20)
            return None

        stub.before_batch = hold
        options = ["--count", "1000", "--batch-size", "5", "--symbols", "1", "--concurrency", "1"]
        command = [sys.executable, str(HFT), "--url", stub.url, *options]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert arrived.wait(30)
                process.send_signal(signal.SIGINT)
                if not is_stuck:
                    release.set()
                stdout, stderr = process.communicate(timeout=20)
            finally:
                release.set()
                process.kill()
        assert process.returncode == 130, stderr
        report = report_of(stdout)
        done = 4 if is_stuck else count_of(report["Requests"])
        assert report["Requests"] == f"{done}, all successful, interrupted"
        assert count_of(report["Trades"]) == done * 5
        assert "Sequences" in report
