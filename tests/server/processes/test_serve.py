"""The process of the service: how it starts, what it says when it cannot, and how it ends."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from financial_data_service.engine.compile_notice import SENTENCE
from support.raw_http import batch, get, post, post_chunked
from support.service_process import (
    LIGHT,
    SERVING,
    Service,
    command,
    end,
    environment,
    failure,
    running,
    started,
)

LANES = pytest.mark.parametrize("lane", ["slow", "fast"])


def poll(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_listening(service: Service) -> bool:
    try:
        service.connect().__exit__(None, None, None)
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_misspelt_variable_is_told_of_once(tmp_path: Path, workers: str) -> None:
    flags = (*LIGHT, "--workers", workers)
    with running(
        tmp_path, flags, FDS_MAX_SYMBOL="secret", FDS_XYZZY="", FDS_URL="x", FDS_LOG_FORMAT="json"
    ) as service:
        assert service.get("/symbols")["max_symbols"] == 10
    (line,) = [line for line in service.log.read_text().splitlines() if "FDS_" in line]
    said = json.loads(line)
    assert said["level"] == "WARNING"
    assert said["message"] == (
        "No setting has the name of these variables: FDS_MAX_SYMBOL (did you mean "
        "FDS_MAX_SYMBOLS?), FDS_XYZZY"
    )


def variables(lane: str) -> dict[str, str]:
    return {"FDS_FAST_LANE": str(int(lane == "fast"))}


def file_reports(directory: Path) -> dict[str, Any]:
    """What ``fds inspect`` says of each symbol's file."""
    run = [sys.executable, "-m", "financial_data_service", "inspect", str(directory), "--json"]
    said = json.loads(subprocess.run(run, capture_output=True, check=True, timeout=60).stdout)
    return {report["symbol"]: report for report in said["symbols"]}


def test_a_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where it serves once it does, leaves no files, and frees its port at once."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, sys.path)))
    monkeypatch.chdir(tmp_path)
    flags = LIGHT
    for _ in range(2):
        with started(tmp_path, flags) as service:
            assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", service.url)
            assert service.process.stdout is not None
            assert service.process.stdout.readline() == f"Try it: {service.url}/docs\n"
            assert service.get("/readyz") == {"status": "ok"}
            assert service.get("/symbols")["symbols"] == []
            service.add(batch("S", [1.0]))
            end(service)
            assert "GET" not in service.process.stdout.read() + service.log.read_text()
            flags = ("--port", service.url.rpartition(":")[2], *LIGHT[2:])
    assert [path.name for path in tmp_path.iterdir()] == ["stderr.log"]


def test_what_the_first_request_does_not_need_is_not_loaded_for_it() -> None:
    code = (
        "import sys\n"
        "from financial_data_service import cli\n"
        "from financial_data_service.server.app import create_app\n"
        "from financial_data_service.server.processes import serve, supervisor\n"
        "create_app()\n"
        "idle = {'prometheus_client', 'nanoarrow', 'rich', 'httpx'} & sys.modules.keys()\n"
        "assert not idle, idle\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment())


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("hard", "is_warned_of"), [(600, True), (4000, False)])
def test_it_opens_as_many_files_as_it_may_and_says_when_they_are_too_few(
    tmp_path: Path, workers: int, hard: int, is_warned_of: bool
) -> None:
    flags = (*LIGHT, "--workers", str(workers), "--data-dir", str(tmp_path / "prices"))
    code = (
        "import os, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        "os.execv(sys.executable, sys.argv[1:])\n"
    )
    log = tmp_path / "stderr.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", code, *command(*flags)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(),
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(SERVING), log.read_text()
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert len(children) == (workers if workers > 1 else 0)
            for pid in (process.pid, *map(int, children)):
                assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard)
        finally:
            process.terminate()
            assert process.wait(20) == 0
    warnings = [line for line in log.read_text().splitlines() if "may open" in line]
    assert len(warnings) == is_warned_of
    assert all(f"may open {hard} files, but 10 symbols" in line for line in warnings)


def test_ctrl_c_ends_it_with_0(tmp_path: Path) -> None:
    with started(tmp_path) as service, service.connect() as idle:
        assert idle.is_usable()
        end(service, signal.SIGINT)
        assert idle.is_closed()
        assert not is_listening(service)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_what_else_tells_a_process_to_end_leaves_its_files_clean(
    tmp_path: Path, number: signal.Signals
) -> None:
    prices = tmp_path / "prices"
    with started(tmp_path, (*LIGHT, "--data-dir", str(prices))) as service:
        service.add(batch("S", [1.0]))
        end(service, number)
    assert file_reports(prices)["S"]["state"] == "clean"


def test_nohup(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Who is started takes it over.
    try:
        with running(tmp_path) as service:
            service.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert service.get("/readyz") == {"status": "ok"}
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sigterm_while_it_starts(tmp_path: Path) -> None:
    log = tmp_path / "stderr.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            command(*LIGHT), stdout=subprocess.PIPE, stderr=stderr, env=environment()
        ) as process,
    ):
        poll(lambda: "Waiting for application startup" in log.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
    assert "Traceback" not in log.read_text()


@LANES
def test_sigterm_lets_an_upload_finish(tmp_path: Path, lane: str) -> None:
    request = post(batch("S", [1.0] * 5000))
    body = batch("T", [1.0, 2.5])
    chunked = post_chunked([body[:10], body[10:]])
    with started(tmp_path, **variables(lane)) as service, service.connect() as declared:
        with service.connect() as in_chunks, service.connect() as other:
            declared.send(request[: len(request) // 2])
            in_chunks.send(chunked[:-20])
            assert other.is_usable()  # The server has seen what was sent before.
            service.process.send_signal(signal.SIGTERM)
            poll(lambda: not is_listening(service))
            assert service.process.poll() is None
            declared.send(request[len(request) // 2 :])
            reply = declared.receive()
            assert (reply.status, reply.json()["sequence"]) == (201, 5000)
            assert reply.headers["connection"] == "close"
            assert declared.is_closed()
            assert in_chunks.ask(chunked[-20:]).status == 201
            assert in_chunks.is_closed()
        end(service)


@LANES
def test_an_upload_that_never_finishes_is_given_up(tmp_path: Path, lane: str) -> None:
    program = (
        "from financial_data_service.server.processes import serve, uvicorn_setup;"
        "uvicorn_setup.DRAIN_SECONDS = 1;"
        "from financial_data_service.settings import Settings;"
        "raise SystemExit(serve.serve(Settings(port=0, largest_window=1000)))"
    )
    log = tmp_path / "stderr.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(**variables(lane)),
        ) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix(SERVING).strip()
        service = Service(url, process, log)
        with service.connect() as connection, service.connect() as other:
            connection.send(post(batch("S", [1.0]))[:-1])
            assert other.is_usable()
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, log.read_text()
            assert time.monotonic() - begin < 8


def test_cold_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with running(tmp_path, NUMBA_CACHE_DIR=str(cache)) as service:
        assert service.add(batch("S", [1.0, 2.0])).status == 201
        assert service.get("/stats/S/1")["avg"] == 1.5
        assert service.log.read_text().count(SENTENCE) == 1
    assert list(cache.rglob("*.nbc")), "the next start is to be a warm one"
    with running(tmp_path, NUMBA_CACHE_DIR=str(cache)) as service:
        assert SENTENCE not in service.log.read_text()


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.touch()
    with running(tmp_path, NUMBA_CACHE_DIR=str(nowhere / "cache")) as service:
        assert service.add(batch("S", [1.0])).status == 201


@LANES
def test_what_does_not_arrive_or_end_is_given_up(tmp_path: Path, lane: str) -> None:
    with (
        running(tmp_path, (*LIGHT, "--request-seconds", "0.5"), **variables(lane)) as service,
        service.connect() as in_head,
        service.connect() as in_body,
        service.connect() as endless,
    ):
        in_head.send(get("/livez")[:-2])
        in_body.send(post(batch("S", [1.0]))[:-1])
        endless.send(get("/livez")[:-2])
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
            for _ in range(10_000):
                endless.send(b"X-Header: " + b"x" * 1000 + b"\r\n")
        for connection in (in_head, in_body):
            reply = connection.receive()
            assert (reply.status, reply.json()) == (
                408,
                {"detail": "Expected the whole request within 0.5 seconds"},
            )
            assert connection.is_closed()
        assert service.get("/symbols")["symbols"] == []


def without_ids(log: str) -> str:
    """Return a log without the ids that only the slow lane gives to requests."""
    return re.sub(r" \[[0-9a-f]{32}\]$", "", log, flags=re.MULTILINE)


def test_access_log_is_the_same_in_both_lanes(tmp_path: Path) -> None:
    lines = {}
    for lane in ("slow", "fast"):
        with started(tmp_path, (*LIGHT, "--access-log"), **variables(lane)) as service:
            service.add(batch("A/\N{ROCKET} b", [1.0]))
            name = "A%2F%F0%9F%9A%80%20b"
            for target in (f"/stats/{name}/1", f"/stats/?symbol={name}&k=1", "/stats/X/1"):
                for _ in range(2):
                    service.ask(get(target))
            end(service)
            assert service.process.stdout is not None
            text = service.process.stdout.read()
            text = re.sub(r"127\.0\.0\.1:\d+", "client", text.partition("/docs\n")[2])
            lines[lane] = without_ids(text)
    assert lines["slow"] == lines["fast"]
    assert (
        lines["slow"].splitlines()[0].endswith('client - "POST /add_batch/ HTTP/1.1" 201 Created')
    )
    assert lines["slow"].count("\n") == 7


class TestDataDirectory:
    """Prices in files: kept over every end, refused one by one, and a directory for one alone."""

    def test_prices_are_kept(self, tmp_path: Path) -> None:
        flags = (*LIGHT, "--data-dir", str(tmp_path / "a" / "prices"))
        with started(tmp_path, flags) as service:
            assert service.add(batch("BTC/USDT", [1.0, 2.5])).status == 201
            service.process.kill()
            service.process.wait(20)
        with started(tmp_path, flags) as service:
            assert service.get("/stats/BTC%2FUSDT/1")["avg"] == 1.75
            assert service.add(batch("BTC/USDT", [4.0])).json()["sequence"] == 3
            state = service.state()
            # A second Ctrl-C, too, leaves the files closed.
            with service.connect() as upload, service.connect() as other:
                upload.send(post(batch("S", [1.0]))[:-1])
                assert other.is_usable()
                service.process.send_signal(signal.SIGINT)
                poll(lambda: "Waiting for connections to close" in service.log.read_text())
                end(service, signal.SIGINT)
        with running(tmp_path, (*flags, "--durability", "power")) as service:
            assert service.state() == state
            assert "BTC" not in service.log.read_text(), "closed in good order, nothing to recover"

    def test_a_file_that_is_refused_is_told_of_and_the_others_are_served(
        self, tmp_path: Path
    ) -> None:
        prices = tmp_path / "prices"
        with running(tmp_path, (*LIGHT, "--data-dir", str(prices))) as service:
            for symbol in ("A", "B"):
                assert service.add(batch(symbol, [1.0])).status == 201
        (prices / "A.ring").write_bytes(b"not prices")
        for workers in ("1", "2"):
            flags = (*LIGHT, "--data-dir", str(prices), "--workers", workers)
            with running(tmp_path, flags) as service:
                assert service.get("/stats/B/1")["last"] == 1.0
                assert service.ask(get("/stats/A/1")).status == 503
                assert service.get("/readyz")["refused"][0]["file"] == "A.ring"
                (told,) = re.findall(r"WARNING: +A.ring is not served: .+", service.log.read_text())
                assert len(told) > len("WARNING:  A.ring is not served: ")

    def test_a_directory_that_is_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "prices"
        path.touch()
        said = failure("--port", "0", "--data-dir", str(path))
        assert said == f"{path}: expected a directory, got a file"

    def test_a_directory_in_use_with_other_settings(self, tmp_path: Path) -> None:
        prices = str(tmp_path / "prices")
        with running(tmp_path, (*LIGHT, "--data-dir", prices)) as service:
            said = failure(*LIGHT, "--data-dir", prices, "--max-symbols", "11")
            assert f"in use by process {service.process.pid} with max_symbols 10" in said
