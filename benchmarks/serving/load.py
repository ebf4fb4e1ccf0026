"""Load: wrk, or a small client in Python where wrk is not installed, and what it reports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from serving.process import SetupError, python, started

__all__ = ["Load", "Report"]

_SCRIPT = Path(__file__).with_name("wrk.lua")
_PATIENCE_SECONDS = 30.0
_LONGER_THAN_ANY_RUN = "1h"


@dataclass(frozen=True, slots=True)
class Report:
    """What was sent in a run.

    Attributes
    ----------
    seconds : float
        From the first request to the last reply.
    completed : int
        Replies that came.
    sent, posts : int
        Requests sent and how many of them were POST; up to one a connection may have been without
        a reply when the clock stopped.
    refused : int
        Replies that were no success.
    errors : int
        Connections that broke, and replies that took seconds.
    p50_us, p99_us, p999_us : float
        Latency.
    """

    seconds: float
    completed: int
    sent: int
    posts: int
    refused: int
    errors: int
    p50_us: float
    p99_us: float
    p999_us: float

    @property
    def rate(self) -> float:
        return self.completed / self.seconds


@dataclass(frozen=True, slots=True)
class Load:
    """Who sends the requests.

    Attributes
    ----------
    wrk : str or None
        Path of wrk; None for the client in Python.
    core : int or None
        Where it runs; None for anywhere.
    seconds : float
        How long.
    """

    wrk: str | None
    core: int | None
    seconds: float

    def run(self, url: str, requests: Path, connections: int) -> Report:
        """Send the requests of a file over so many connections.

        Raises
        ------
        SetupError
            When who sends them fails.
        """
        with tempfile.TemporaryFile() as stderr:
            with started(self._command(url, requests, connections), self.core, stderr) as process:
                if self._is_interrupted:
                    _interrupt(process.pid, self.seconds)
                try:
                    process.communicate(timeout=self.seconds + _PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    raise SetupError(f"The load on {url} did not come to an end") from None
            stderr.seek(0)
            said = stderr.read().decode()
        if process.returncode or not said.strip().endswith("}"):
            raise SetupError(f"The load on {url} failed: {said.strip() or process.returncode}")
        return Report(**json.loads(said.splitlines()[-1]))

    @property
    def _is_interrupted(self) -> bool:
        """Whether it has to be: wrk knows whole seconds only."""
        return self.wrk is not None and self.seconds != int(self.seconds)

    def _command(self, url: str, requests: Path, connections: int) -> list[str]:
        if self.wrk is None:
            arguments = (url, str(requests), str(connections), str(self.seconds))
            return python("serving.keep_alive", *arguments)
        duration = _LONGER_THAN_ANY_RUN if self._is_interrupted else f"{self.seconds:.0f}s"
        options = ["-t1", f"-c{connections}", f"-d{duration}", "-s", str(_SCRIPT)]
        return [self.wrk, *options, url, "--", str(requests)]


def _interrupt(pid: int, seconds: float) -> None:
    """Have wrk report after a while: as soon as it heeds interrupts, its clock runs."""
    limit = monotonic() + _PATIENCE_SECONDS
    while not _heeds_interrupts(pid) and monotonic() < limit:
        sleep(0.005)
    sleep(seconds)
    os.kill(pid, signal.SIGINT)


def _heeds_interrupts(pid: int) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    # A process that has ended already has no such line; what it said tells why.
    return caught is None or bool(int(caught[1], 16) >> (signal.SIGINT - 1) & 1)
