"""The Makefile and its scripts as a newcomer meets them: help, missing variables, the tmux session.

Each session test has a tmux server and a port of its own, so that no session of a person is
touched; the targets run in the environment that runs these tests.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.paths import ROOT

TARGETS = {
    *("run", "install", "shell", "batches", "stats", "monitor", "monitor-ui"),
    *("start-all", "kill-session", "test", "test-deep", "test-cov", "test-file", "test-method"),
    *("lint", "format", "docs", "bench", "bench-http", "bench-smoke", "screenshots"),
    *("lock", "release", "clean", "help"),
}

needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")
needs_tmux = pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
needs_venv = pytest.mark.skipif(
    not (Path(sys.prefix) / ".made-by-make").exists(), reason="needs the environment of `make test`"
)
needs_htop = pytest.mark.skipif(not shutil.which("htop"), reason="needs htop")

pytestmark = [needs_make, pytest.mark.one_python]


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    # What the outer `make test` was called with is not for an inner one.
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "PYTHON", "TMUX"}
    outer |= {"args", "file", "method"}
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(["make", *arguments], **variables)


def poll(condition: Callable[[], bool], timeout: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_help_is_the_default_and_lists_every_target() -> None:
    listed = re.findall(r"^  ([a-z-]+) +\S", make().stdout, re.MULTILINE)
    assert sorted(listed) == sorted(TARGETS)
    assert make("help").stdout == make().stdout
    assert "\033" not in make().stdout


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        (["test-file"], "make test-file file=test_running_stats.py"),
        (["test-method"], "make test-method file=test_running_stats.py method=test_running"),
        (["test-method", "file=test_locks.py"], "method=test_running_stats_initialization"),
    ],
)
def test_missing_variables_are_asked_for_with_an_example(
    arguments: list[str], example: str
) -> None:
    finished = make(*arguments)
    assert finished.returncode == 2
    assert example in finished.stderr
    assert "Traceback" not in finished.stderr


def test_every_target_is_phony_and_documented() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: ([a-z-]+)$", text, re.MULTILINE)
    assert sorted(phony) == sorted(TARGETS)


def server_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "scripts/server_process.py", *arguments])


def test_server_process_finds_the_listener(free_port: int) -> None:
    port = str(free_port)
    nobody = server_process("pid", "--port", port)
    assert nobody.returncode == 1
    assert nobody.stderr == f"No server listens on port {port}; `make run` starts one.\n"
    with socket.create_server(("127.0.0.1", free_port)):
        assert server_process("pid", "--port", port).stdout == f"{os.getpid()}\n"


def test_waiting_for_a_server_ends_with_a_sentence(free_port: int) -> None:
    finished = server_process("wait", "--port", str(free_port), "--timeout", "0.1")
    assert finished.returncode == 1
    assert "is not ready after 0 s." in finished.stderr


@pytest.fixture
def session(free_port: int) -> Iterator[dict[str, str]]:
    """Variables of a tmux session of our own, which is gone afterwards whatever happens."""
    name = "fds-test"
    # Not pytest's tmp_path: the path of a socket may have 107 characters only.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as sockets:
        variables = {"SESSION": name, "FDS_PORT": str(free_port), "VENV": sys.prefix}
        variables |= {"TMUX_TMPDIR": sockets}
        yield variables
        tmux(variables, "kill-server")


def tmux(session: dict[str, str], *arguments: str) -> str:
    return run(["tmux", "-L", session["SESSION"], *arguments], **session).stdout


def is_ready(port: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@needs_venv
@needs_tmux
@needs_htop
def test_session_has_four_panes_and_ends_gracefully(session: dict[str, str]) -> None:
    port = session["FDS_PORT"]
    started = make("start-all", **session)
    assert started.returncode == 0, started.stderr
    assert f"tmux -L {session['SESSION']} attach" in started.stdout
    assert f"make kill-session SESSION={session['SESSION']}" in started.stdout
    panes = tmux(session, "list-panes", "-s", "-F", "#{pane_id} #{pane_title}").splitlines()
    titles = [pane.partition(" ")[2] for pane in panes]
    assert [title.split(":")[0] for title in sorted(titles)] == [
        "htop",
        "make batches",
        "make run",
        "make stats",
    ]
    assert tmux(session, "show-options", "-gv", "mouse") == "on\n"
    assert poll(lambda: is_ready(port)), tmux(
        session, "capture-pane", "-p", "-t", panes[0].split()[0]
    )

    htop = next(pane.split()[0] for pane in panes if "htop" in pane)
    pid = server_process("pid", "--port", port).stdout.strip()
    assert poll(lambda: pid in tmux(session, "capture-pane", "-p", "-t", htop))
    assert "is there already" in make("start-all", **session).stderr

    ended = make("kill-session", **session)
    assert ended.returncode == 0, ended.stderr
    assert not is_ready(port)
    assert tmux(session, "list-sessions") == ""


@needs_venv
@needs_tmux
def test_kill_session_without_a_session_says_so(session: dict[str, str]) -> None:
    ended = make("kill-session", **session)
    assert ended.returncode == 0
    assert ended.stdout == f"There is no session {session['SESSION']}; make start-all opens one.\n"


@needs_venv
@needs_tmux
@needs_htop
def test_start_all_refuses_a_port_in_use(session: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(session["FDS_PORT"]))):
        started = make("start-all", **session)
    assert started.returncode != 0
    assert f"is taken by process {os.getpid()}" in started.stderr
