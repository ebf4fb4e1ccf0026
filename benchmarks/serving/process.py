"""Processes of the benchmark: started on a core, timed by the kernel, ended by their id."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from serving.cores import pinned

__all__ = ["SetupError", "children", "environment", "processor_seconds", "python", "started"]

_END_SECONDS_MAX = 15.0  # longer than the service lets requests under way finish
_ROOT = Path(__file__).parents[2]
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class SetupError(Exception):
    """Something that the benchmark needs did not start; the message says why."""


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without settings of a service, and with `variables`."""
    bare = {key: value for key, value in os.environ.items() if not key.upper().startswith("FDS_")}
    paths = [str(_ROOT / "src"), str(_ROOT / "benchmarks")]
    if "PYTHONPATH" in bare:
        paths.append(bare["PYTHONPATH"])
    return bare | {"PYTHONPATH": os.pathsep.join(paths)} | variables


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module."""
    return [sys.executable, "-m", module, *arguments]


@contextmanager
def started(
    command: Sequence[str],
    core: int | None,
    stderr: IO[bytes],
    variables: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a command on a core, or on any (None), while the block runs.

    It is in a process group of its own: Ctrl-C is for the benchmark alone, which then ends it.
    """
    with pinned(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(**(variables or {})),
            process_group=0,
        )
    with process:
        try:
            yield process
        finally:
            _end(process)


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process so far, in its own code and in the kernel."""
    # The name of the command comes before and may hold anything; its closing bracket is the last.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.terminate()
        process.wait(_END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        pass
    finally:  # a second Ctrl-C finds nothing left running either
        process.kill()
