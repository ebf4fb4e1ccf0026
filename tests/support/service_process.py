"""The real service as a process of its own, to be asked, signalled and ended by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from support.raw_http import Connection, Reply, get, post

SERVING = "Serving on "
END_SECONDS_MAX = 30.0

# The tests of HTTP are as good with a smaller ring, and the machine has less to do.
LIGHT = ("--port", "0", "--largest-window", "100000")


class Service(NamedTuple):
    """A service that runs."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def connect(self) -> Connection:
        """Return a new connection."""
        return Connection(self.url)

    def ask(self, request: bytes) -> Reply:
        """Send one request on a connection of its own."""
        with self.connect() as connection:
            return connection.ask(request)

    def get(self, target: str) -> Any:
        """Return the JSON of a reply that must be 200."""
        reply = self.ask(get(target))
        assert reply.status == 200, reply
        return reply.json()

    def add(self, body: bytes) -> Reply:
        """Send a batch."""
        return self.ask(post(body))

    def state(self) -> tuple[Any, Any]:
        """Return all that the service says of its symbols."""
        return self.get("/symbols"), self.get("/stats/")

    def empty(self) -> None:
        """Delete every symbol."""
        for entry in self.get("/symbols")["symbols"]:
            target = f"/symbols/{quote(entry['symbol'], safe='')}"
            assert self.ask(get(target, method="DELETE")).status == 200


def command(*flags: str) -> list[str]:
    """Return the command that runs the service."""
    return [sys.executable, "-m", "financial_data_service", "serve", *flags]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without settings of a service, and with ``variables``."""
    bare = {key: value for key, value in os.environ.items() if not key.upper().startswith("FDS_")}
    return bare | variables


@contextmanager
def started(directory: Path, flags: Sequence[str] = LIGHT, **variables: str) -> Iterator[Service]:
    """Start the service and wait until it serves; kill it if the test did not end it."""
    with _started(directory, flags, variables) as service:
        yield service


@contextmanager
def started_in_group(directory: Path, flags: Sequence[str] = LIGHT) -> Iterator[Service]:
    """Start the service in a process group of its own: what a terminal's Ctrl-C goes to."""
    with _started(directory, flags, {}, process_group=0) as service:
        yield service


@contextmanager
def _started(
    directory: Path,
    flags: Sequence[str],
    variables: Mapping[str, str],
    process_group: int | None = None,
) -> Iterator[Service]:
    log = directory / "stderr.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            command(*flags),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(**variables),
            process_group=process_group,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(SERVING), log.read_text() or f"not the serving line: {line!r}"
            yield Service(line.removeprefix(SERVING).strip(), process, log)
        finally:
            if process.poll() is None:
                process.kill()


def end(service: Service, number: signal.Signals = signal.SIGTERM) -> None:
    """Tell the service to stop; it must exit with 0, and must not have met an error of its own."""
    service.process.send_signal(number)
    assert service.process.wait(END_SECONDS_MAX) == 0, service.log.read_text()
    assert "Traceback" not in service.log.read_text(), service.log.read_text()


@contextmanager
def running(directory: Path, flags: Sequence[str] = LIGHT, **variables: str) -> Iterator[Service]:
    """Run the service while the block runs, and have it end well."""
    with started(directory, flags, **variables) as service:
        yield service
        end(service)


def failure(*flags: str, **variables: str) -> str:
    """Return what the service says when it cannot start: one line, and exit code 1."""
    run = subprocess.run(
        command(*flags),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**variables),
        check=False,
    )
    assert run.returncode == 1, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    return run.stderr.strip()
