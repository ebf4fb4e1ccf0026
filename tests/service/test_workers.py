"""Several processes that serve as one: they start, share the work, die, are replaced, and end.

Each test runs the real command with two workers. Who the workers are is read from ``/proc``: the
children of the process that was started. Which worker has a connection is read there too, from who
holds its socket. Whatever way a service ends here, no process and no directory may be left of it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from financial_data_service.engine.compile_notice import SENTENCE
from financial_data_service.server.processes import temporary_directory
from support.paths import ROOT
from support.raw_http import Connection, Reply, batch, get, post
from support.service_process import (
    LIGHT,
    SERVING,
    Service,
    command,
    end,
    environment,
    running,
    started,
    started_in_group,
)

pytestmark = pytest.mark.one_python

WORKERS = (*LIGHT, "--workers", "2")
SYMBOLS_MAX = 5
HEAVY = ("numpy", "numba", "llvmlite", "uvloop")


def poll(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    """Whether there is such a process, or a zombie of it."""
    return Path(f"/proc/{pid}").exists()


def workers_of(service: Service) -> list[int]:
    pid = service.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sockets_of(pid: int) -> set[str]:
    links = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(os.readlink(entry))
        except FileNotFoundError:  # closed meanwhile
            continue
    return links


def connections_of(service: Service, pid: int) -> int:
    """How many connections a worker has accepted."""
    port = int(service.url.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    accepted = {
        f"socket:[{row[9]}]"
        for row in rows
        if row[3] == "01" and int(row[1].rpartition(":")[2], 16) == port
    }
    return len(accepted & sockets_of(pid))


@contextmanager
def connected_to_all(service: Service) -> Iterator[list[Connection]]:
    """Connections to every worker, at least one each; waits for workers that are starting."""
    with ExitStack() as stack:
        connections: list[Connection] = []

        def reach_all() -> bool:
            workers = workers_of(service)
            counts = [connections_of(service, worker) for worker in workers]
            if len(workers) == 2 and all(counts):
                return True
            if len(connections) == 4:
                connections.pop(0).__exit__(None, None, None)
            # A new one goes to the worker with the fewest.
            connections.append(stack.enter_context(service.connect()))
            assert connections[-1].is_usable()
            return False

        poll(reach_all)
        yield connections


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for the tests that leave it as it was."""
    flags = (*WORKERS, "--max-symbols", str(SYMBOLS_MAX))
    with running(tmp_path_factory.mktemp("shared"), flags) as service:
        yield service


def directory_of(service: Service) -> Path:
    """The temporary directory of a service: where the file is that marks it and that it locks."""
    links = (os.readlink(entry) for entry in Path(f"/proc/{service.process.pid}/fd").iterdir())
    (mark,) = [Path(link) for link in links if Path(link).name == temporary_directory.MARK]
    return mark.parent


@contextmanager
def from_program(
    tmp_path: Path, program: str, *, data_dir: str | None = None
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A service with two workers of which something is changed; `program` says what."""
    prefix = (
        "import os, signal, time\n"
        "from financial_data_service.server.processes import supervisor as workers, worker_slot\n"
        "from financial_data_service.settings import Settings\n"
        "serve_worker = workers._Supervisor._serve\n"
    )
    prices = None if data_dir is None else str(tmp_path / data_dir)
    suffix = (
        "\nworkers._Supervisor._serve = serve\n"
        f"settings = Settings(port=0, largest_window=1000, workers=2, data_dir={prices!r})\n"
        "raise SystemExit(workers.serve(settings))\n"
    )
    log = tmp_path / "stderr.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", prefix + program + suffix],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(),
        ) as process,
    ):
        try:
            yield process, log
        finally:
            if process.poll() is None:
                process.kill()


class TestLife:
    def test_a_life(self, tmp_path: Path) -> None:
        """Said once, a parent that stays small, a directory that nobody else sees and that goes."""
        with started(tmp_path, (*WORKERS, "--access-log")) as service:
            assert service.process.stdout is not None
            assert service.process.stdout.readline() == f"Try it: {service.url}/docs\n"
            assert service.get("/readyz") == {"status": "ok"}
            workers = workers_of(service)
            assert len(workers) == 2
            maps = Path(f"/proc/{service.process.pid}/maps").read_text()
            assert not [name for name in HEAVY if name in maps]
            prices = directory_of(service)
            assert prices.name.startswith("fds-")
            assert prices.stat().st_mode & 0o777 == 0o700
            assert service.add(batch("S", [1.0, 2.5])).status == 201
            with connected_to_all(service) as connections:
                for connection in connections:
                    connection.send(get("/stats/S/1") * 50)
                for connection in connections:
                    for _ in range(50):
                        assert connection.receive().json()["avg"] == 1.75
                end(service)
                assert all(connection.is_closed() for connection in connections)
            accesses = service.process.stdout.read().splitlines()
        assert not prices.exists()
        assert not any(map(is_there, workers))
        # Whole lines, from every worker.
        pattern = (
            r'INFO: +127\.0\.0\.1:\d+ - "(GET|POST) /\S+ HTTP/1\.1" 20[01] (OK|Created)'
            r"( \[[0-9a-f]{32}\])?"
        )
        assert all(re.fullmatch(pattern, line) for line in accesses), accesses
        assert sum("/stats/S/1" in line for line in accesses) == 50 * len(connections)
        lines = service.log.read_text().splitlines()
        assert all(re.match(r"INFO: +\w", line) for line in lines), lines
        assert sum("Started server process" in line for line in lines) == 2

    def test_connections_are_shared_out(self, shared: Service) -> None:
        with ExitStack() as stack:
            for _ in range(40):
                assert stack.enter_context(shared.connect()).is_usable()
            counts = [connections_of(shared, worker) for worker in workers_of(shared)]
            assert sum(counts) == 40
            # 20 and 20 but for a worker that the machine has kept waiting; left to the kernel, one
            # has them all.
            assert min(counts) >= 10, counts

    def test_ctrl_c_in_a_terminal_lets_an_upload_finish(self, tmp_path: Path) -> None:
        request = post(batch("S", [1.0] * 5000))
        with (
            started_in_group(tmp_path, WORKERS) as service,
            connected_to_all(service) as connections,
        ):
            workers = workers_of(service)
            for connection in connections:
                connection.send(request[: len(request) // 2])
            # The workers have seen what was sent before.
            with connected_to_all(service):
                os.killpg(service.process.pid, signal.SIGINT)
            assert service.process.poll() is None
            replies = []
            for connection in connections:
                connection.send(request[len(request) // 2 :])
                replies.append(connection.receive())
            assert [reply.status for reply in replies] == [201] * len(replies)
            sequences = sorted(reply.json()["sequence"] for reply in replies)
            assert sequences == [5000 * (i + 1) for i in range(len(replies))]
            assert service.process.wait(20) == 0
        assert not any(map(is_there, workers))
        assert "Traceback" not in service.log.read_text()

    def test_a_second_ctrl_c_waits_for_nobody(self, tmp_path: Path) -> None:
        with (
            started_in_group(tmp_path, WORKERS) as service,
            connected_to_all(service) as connections,
        ):
            workers, prices = workers_of(service), directory_of(service)
            for connection in connections:
                connection.send(post(batch("S", [1.0]))[:-1])
            with connected_to_all(service):
                os.killpg(service.process.pid, signal.SIGINT)
            poll(lambda: service.log.read_text().count("Waiting for connections to close") == 2)
            began = time.monotonic()
            os.killpg(service.process.pid, signal.SIGINT)
            assert service.process.wait(20) == 0
            assert time.monotonic() - began < 5
        assert not any(map(is_there, workers))
        assert not prices.exists()
        assert "Traceback" not in service.log.read_text()

    @pytest.mark.parametrize(
        ("number", "begun"), [(signal.SIGTERM, 1), (signal.SIGKILL, 1), (signal.SIGTERM, 2)]
    )
    def test_an_end_while_the_workers_start(
        self, tmp_path: Path, number: signal.Signals, begun: int
    ) -> None:
        """The first alone, or the second behind it; in no case is it said where they serve."""
        log = tmp_path / "stderr.log"
        with (
            log.open("wb") as stderr,
            subprocess.Popen(
                command(*WORKERS), stdout=subprocess.PIPE, stderr=stderr, env=environment()
            ) as process,
        ):
            service = Service("", process, log)  # type: ignore[arg-type]
            poll(lambda: log.read_text().count("Started server process") == begun)
            workers, prices = workers_of(service), directory_of(service)
            process.send_signal(number)
            assert process.wait(60) == (0 if number == signal.SIGTERM else -number)
            poll(lambda: not any(map(is_there, workers)))
            assert process.stdout is not None
            assert process.stdout.read() == b""
        assert not prices.exists()
        assert "Traceback" not in log.read_text()
        assert log.read_text().count("Started server process") == begun


class TestDeath:
    def test_the_killed_are_replaced_and_no_price_is_lost(self, tmp_path: Path) -> None:
        """Post without end, to whichever worker; end one, then all at once."""
        posted = threading.Event()
        stop = threading.Event()

        def post_all(service: Service) -> int:
            """Post batch after batch, each until it is acknowledged; return how many prices."""
            sequence = 0
            while not stop.wait(0.002):  # The machine has workers to start meanwhile.
                body = batch("S", [float(sequence + i) for i in range(10)], sequence)
                try:
                    reply = service.add(body)
                except (OSError, AssertionError):  # the worker was killed in mid-request
                    continue
                assert reply.status in (200, 201), reply
                sequence += 10
                posted.set()
            return sequence

        with started(tmp_path, WORKERS) as service, ThreadPoolExecutor(1) as executor:
            posting = executor.submit(post_all, service)
            try:
                # The last of all to end, in good order, leaves the prices to those who come.
                for numbers in ([signal.SIGKILL], [signal.SIGKILL, signal.SIGTERM]):
                    with connected_to_all(service):  # Both serve.
                        victims = workers_of(service)[: len(numbers)]
                        for victim, number in zip(victims, numbers, strict=True):
                            os.kill(victim, number)
                    while set(victims) & set(workers_of(service)):
                        time.sleep(0.01)
                    posted.clear()
                    assert posted.wait(30), service.log.read_text()
            finally:
                stop.set()
            sequence = posting.result(30)
            with connected_to_all(service) as connections:
                for connection in connections:
                    answer = connection.ask(get(f"/stats/S?last={min(sequence, 100_000)}")).json()
                    assert answer["sequence"] == sequence
                    assert (answer["last"], answer["max"]) == (sequence - 1.0, sequence - 1.0)
                    assert answer["avg"] == (answer["min"] + answer["max"]) / 2
                    assert answer["max"] - answer["min"] == answer["values"] - 1
            end(service)
        deaths = [line for line in service.log.read_text().splitlines() if "another takes" in line]
        assert len(deaths) == 3
        assert re.fullmatch(
            r"WARNING: +Worker [12] \[\d+\] was killed by SIGKILL; another takes its place\.",
            deaths[0],
        )

    @pytest.mark.parametrize(
        "flags", [LIGHT, (*LIGHT, "--data-dir", "prices"), (*WORKERS, "--data-dir", "prices")]
    )
    def test_whatever_service_is_next_removes_what_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        left = tmp_path / "fds-left"
        left.mkdir()
        (left / temporary_directory.MARK).touch()
        flags = tuple(str(tmp_path / flag) if flag == "prices" else flag for flag in flags)
        with running(tmp_path, flags):
            assert not left.exists()

    def test_no_way_to_be_killed_leaves_anything(self, tmp_path: Path) -> None:
        """Killed whole, a service leaves its directory to the next; without its parent, nothing."""
        with started_in_group(tmp_path, WORKERS) as service:
            left = directory_of(service)
            assert service.add(batch("S", [1.0])).status == 201
            os.killpg(service.process.pid, signal.SIGKILL)
            service.process.wait(20)
        assert left.exists()
        with started(tmp_path, WORKERS) as service:
            assert not left.exists()
            assert service.get("/symbols")["symbols"] == []
            assert service.add(batch("S", [1.0])).status == 201
            workers, prices = workers_of(service), directory_of(service)
            service.process.kill()
            poll(lambda: not any(map(is_there, workers)))
        assert not prices.exists()
        assert "Traceback" not in service.log.read_text()

    def test_a_worker_that_dies_early_again_and_again_is_given_time(self, tmp_path: Path) -> None:
        program = (
            "def serve(self, worker, serving):\n"
            "    if worker.index == 1: os._exit(7)\n"
            "    return serve_worker(self, worker, serving)\n"
        )
        with from_program(tmp_path, program) as (process, log):
            poll(lambda: "in 1 s." in log.read_text())
            process.terminate()
            assert process.wait(20) == 0
        deaths = [
            line.split("] ")[1] for line in log.read_text().splitlines() if "Worker 2" in line
        ]
        assert deaths == [
            f"ended with exit code 7; another takes its place{pause}."
            for pause in ("", " in 0.5 s", " in 1 s")
        ]

    @pytest.mark.parametrize("data_dir", [None, "prices"])
    def test_a_stop_while_no_worker_lives_is_no_good_end(
        self, tmp_path: Path, data_dir: str | None
    ) -> None:
        program = (
            "worker_slot.PAUSE_SECONDS_MIN = worker_slot.PAUSE_SECONDS_MAX = 60\n"
            "def serve(self, worker, serving):\n"
            "    os.write(serving, b'1')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        with from_program(tmp_path, program, data_dir=data_dir) as (process, log):
            poll(lambda: log.read_text().count("in 60 s.") == 2)
            process.terminate()
            assert process.wait(20) == 1
        (said,) = re.findall(r"WARNING: +(The service did not .+)", log.read_text())
        assert re.match(
            r"The service did not end in good order: Worker [12] \[\d+\] was killed by SIGKILL, "
            r"and no other was left to close the prices\.",
            said,
        )
        assert ("count as left by a killed process" in said) == (data_dir is not None)

    @pytest.mark.parametrize("killed", [1, 2])
    def test_a_worker_that_is_killed_during_the_stop(self, tmp_path: Path, killed: int) -> None:
        """Of whichever it cuts requests off; how the last ends is what the files are left by."""
        prices = tmp_path / "prices"
        with started(tmp_path, (*WORKERS, "--data-dir", str(prices))) as service:
            assert service.add(batch("S", [1.0])).status == 201
            with connected_to_all(service) as connections:
                workers = workers_of(service)
                for connection in connections:
                    connection.send(post(batch("S", [1.0]))[:-1])
                with connected_to_all(service):  # They have seen what was sent before.
                    service.process.send_signal(signal.SIGTERM)
                poll(lambda: service.log.read_text().count("Waiting for connections to") == 2)
                for pid in workers[:killed]:
                    os.kill(pid, signal.SIGKILL)
            assert service.process.wait(30) == 1
        log = service.log.read_text()
        assert log.count("was killed by SIGKILL.") == killed
        assert ("did not end in good order" in log) == (killed == 2)
        report = subprocess.run(
            [sys.executable, "-m", "financial_data_service", "inspect", str(prices)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert ("closed cleanly" in report.stdout) == (killed == 1)

    def test_a_worker_that_does_not_end_is_killed(self, tmp_path: Path) -> None:
        program = (
            "workers.END_SECONDS_MAX = 0.5\n"
            "def serve(self, worker, serving):\n"
            "    os.write(serving, b'1')\n"
            "    while True: time.sleep(60)\n"
        )
        with from_program(tmp_path, program) as (process, log):
            assert process.stdout is not None
            assert process.stdout.readline().startswith(SERVING)
            process.terminate()
            assert process.wait(20) == 1
        assert (
            len(re.findall(r"Worker [12] \[\d+\] does not end; it is killed\.", log.read_text()))
            == 2
        )


class TestStart:
    @pytest.mark.parametrize(
        ("act", "said"),
        [
            ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL before it could serve"),
            ("os._exit(3)", "ended with exit code 3 before it could serve"),
            ("raise MemoryError('none left')", "MemoryError: none left"),
        ],
    )
    def test_a_first_worker_that_does_not_come_up(
        self, tmp_path: Path, act: str, said: str
    ) -> None:
        with from_program(tmp_path, f"def serve(self, worker, serving):\n    {act}\n") as (
            process,
            log,
        ):
            assert process.wait(30) == 1
            assert process.stdout is not None
            assert process.stdout.read() == ""
        assert said in log.read_text().splitlines()[-1]

    def test_a_data_directory_that_is_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "prices"
        path.touch()
        run = subprocess.run(
            command(*WORKERS, "--data-dir", str(path)),
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
            check=False,
        )
        assert (run.returncode, run.stdout) == (1, "")
        assert run.stderr == f"{path}: expected a directory, got a file\n"

    @pytest.mark.deep
    def test_cold_cache(self, tmp_path: Path) -> None:
        """One compiles, however many there are: those who come later find its work."""
        cache = tmp_path / "cache"
        with running(tmp_path, (*LIGHT, "--workers", "3"), NUMBA_CACHE_DIR=str(cache)) as service:
            assert service.add(batch("S", [1.0, 2.0])).status == 201
            assert service.get("/stats/S/1")["avg"] == 1.5
        assert service.log.read_text().count(SENTENCE) == 1
        indices = list(cache.rglob("*.nbi"))
        assert indices
        data = [path.name.rpartition(".")[0] for path in cache.rglob("*.nbc")]
        assert len(data) == len(set(data))


class TestSymbols:
    def test_the_limit_holds_for_all_workers_together(self, shared: Service) -> None:
        """Threads create three times as many symbols as there may be, all of them at once."""
        names = [f"S{i}" for i in range(3 * SYMBOLS_MAX)]

        def create(connection: Connection, offset: int) -> list[Reply]:
            rotated = names[offset:] + names[:offset]
            return [connection.ask(post(batch(name, [1.0]))) for name in rotated]

        with connected_to_all(shared) as connections, ExitStack() as stack:
            connections += [stack.enter_context(shared.connect()) for _ in range(4)]
            with ThreadPoolExecutor(len(connections)) as executor:
                parts = executor.map(create, connections, range(0, 3 * len(connections), 3))
                replies = [reply for part in parts for reply in part]
            created = {reply.json()["symbol"] for reply in replies if reply.status == 201}
            refused = [reply for reply in replies if reply.status != 201]
            assert len(created) == SYMBOLS_MAX
            assert {reply.status for reply in refused} == {400}
            refusal = {"detail": f"Maximum number of symbols ({SYMBOLS_MAX}) reached"}
            assert all(reply.json() == refusal for reply in refused)
            replies = [connection.ask(get("/symbols")) for connection in connections]
            listed = [reply.json()["symbols"] for reply in replies]
            assert {entry["symbol"] for entry in listed[0]} == created
            assert all(each == listed[0] for each in listed)
        shared.empty()

    def test_what_one_worker_deletes_is_gone_for_all(self, shared: Service) -> None:
        with connected_to_all(shared) as connections:
            for i, connection in enumerate(connections):
                for other in connections:
                    assert other.ask(post(batch("S", [float(i)]))).status == 201
                assert connection.ask(get("/symbols/S", method="DELETE")).status == 200
                assert {other.ask(get("/stats/S/1")).status for other in connections} == {404}


def test_scripts_find_the_parent_first_then_its_workers(shared: Service) -> None:
    script = ROOT / "scripts" / "server_process.py"
    port = shared.url.rpartition(":")[2]

    def found(action: str) -> list[int]:
        arguments = [sys.executable, str(script), action, "--port", port]
        run = subprocess.run(arguments, capture_output=True, text=True, check=True)
        return list(map(int, run.stdout.split(",")))

    assert found("pid") == [shared.process.pid]
    assert found("pids") == [shared.process.pid, *sorted(workers_of(shared))]
