"""Restarts over a full symbol: after a clean end, after ``kill -9``, with and without a page cache.

Every restart is a new process. What it answers first is compared with what was answered before.
"""

from __future__ import annotations

import http.client
import json
import mmap
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from financial_data_service import WindowStats
from financial_data_service.engine.layout import HEADER_BYTES
from financial_data_service.storage.file_names import file_name_of
from harness.table import Table, number
from measures.data_bench import SYMBOL, DataBench
from serving.process import SetupError, environment, python, started

__all__ = ["measure_restart"]

_CLEAN, _KILLED = "closed cleanly", "left by kill -9"
_SECONDS_MAX = {_CLEAN: 1.0, _KILLED: 3.0}
_SERVING = "Serving on "
_REPLY_SECONDS_MAX = 60.0
_PIECE_BYTES = 1 << 20


@dataclass(slots=True)
class _Found:
    """Seconds of each kind of restart, by ``(state of the file, whether the cache is cold)``."""

    opened: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    answered: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    least: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    served: dict[tuple[str, bool], list[float]] = field(default_factory=dict)
    in_memory: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)


def measure_restart(bench: DataBench) -> Table:
    """Start processes over the full symbol, end them, and start them again."""
    found = _Found()
    path = bench.full / file_name_of(SYMBOL)
    temperatures = (False, True) if _make_cold(path) else (False,)
    for _ in range(bench.scale.restarts):
        for is_cold in temperatures:
            prepare = _cool(path) if is_cold else _warm(path)
            _restart_engine(bench, found, path, prepare, is_cold=is_cold)
            _restart_service(bench, found, prepare, is_cold=is_cold)
        found.in_memory.append(_serve_in_memory(bench))
    _add_targets(bench, found)
    return _table(bench, found)


def _restart_engine(
    bench: DataBench, found: _Found, path: Path, prepare: Callable[[], object], *, is_cold: bool
) -> None:
    """Start twice: over a file that was closed cleanly, then over one that was left."""
    for state in (_CLEAN, _KILLED):
        key = state, is_cold
        prepare()
        least = _map_header(path) if state == _CLEAN else _read(path)
        found.least.setdefault(key, []).append(least)
        prepare()
        with _engine(bench) as process:
            assert process.stdout is not None
            opened, first, answer = json.loads(process.stdout.readline())
            assert WindowStats._make(answer) == bench.expected[-1]
            found.opened.setdefault(key, []).append(opened)
            found.answered.setdefault(key, []).append(opened + first)
            if state == _CLEAN:
                process.kill()
            else:
                said, _ = process.communicate()
                found.closed.append(json.loads(said))


@contextmanager
def _engine(bench: DataBench) -> Iterator[subprocess.Popen[str]]:
    window = str(bench.scale.largest_window)
    with subprocess.Popen(
        python("measures.restart_process", str(bench.full), window, SYMBOL),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # It has ended by now, unless something went wrong.


def _restart_service(
    bench: DataBench, found: _Found, prepare: Callable[[], object], *, is_cold: bool
) -> None:
    flags = ("--data-dir", str(bench.full), "--largest-window", str(bench.scale.largest_window))
    for state in (_CLEAN, _KILLED):
        prepare()
        path = f"/stats/{SYMBOL}/{bench.scale.k_max}"
        with _first_reply(flags, path) as (seconds, reply, process):
            found.served.setdefault((state, is_cold), []).append(seconds)
            assert reply.items() >= _reply_of(bench.expected[-1]).items(), reply
            if state == _CLEAN:
                process.kill()


def _serve_in_memory(bench: DataBench) -> float:
    """Return the seconds to a first reply where there is nothing to restore."""
    flags = ("--largest-window", str(bench.scale.largest_window))
    with _first_reply(flags, "/livez") as (seconds, _, _):
        return seconds


@contextmanager
def _first_reply(
    flags: tuple[str, ...], path: str
) -> Iterator[tuple[float, dict[str, Any], subprocess.Popen[str]]]:
    """Run the service; yield the seconds to its first reply, the reply, and the process."""
    command = python("financial_data_service", "serve", "--port", "0", *flags)
    began = perf_counter()
    with tempfile.TemporaryFile() as stderr, started(command, None, stderr) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(_SERVING):
            process.wait()
            stderr.seek(0)
            raise SetupError(f"The service did not start: {line}{stderr.read().decode()}")
        address = urlsplit(line.removeprefix(_SERVING).strip())
        assert address.hostname is not None
        connection = http.client.HTTPConnection(
            address.hostname, address.port, timeout=_REPLY_SECONDS_MAX
        )
        connection.request("GET", path)
        reply = json.loads(connection.getresponse().read())
        seconds = perf_counter() - began
        connection.close()
        yield seconds, reply, process


def _reply_of(answer: WindowStats) -> dict[str, float]:
    return {name: getattr(answer, name) for name in ("min", "max", "last", "avg", "var", "values")}


# The page cache


def _warm(path: Path) -> Callable[[], object]:
    return lambda: _read(path)


def _cool(path: Path) -> Callable[[], object]:
    return lambda: _make_cold(path)


def _make_cold(path: Path) -> bool:
    """Have the system forget a file that no process has open; tell whether it did."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        size_bytes = os.fstat(descriptor).st_size
        piece = bytearray(1)
        try:
            os.preadv(descriptor, [piece], size_bytes // 2, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:  # The file system cannot tell, as those in memory.
            return False
        return False
    finally:
        os.close(descriptor)


def _read(path: Path) -> float:
    """Return the seconds of reading a file once: the least that who looks at all prices does."""
    began = perf_counter()
    piece = bytearray(_PIECE_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(piece):
            pass
    return perf_counter() - began


def _map_header(path: Path) -> float:
    """Return the seconds of mapping a file and reading its header."""
    began = perf_counter()
    with path.open("rb", buffering=0) as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        assert len(mapping[:HEADER_BYTES]) == HEADER_BYTES
    return perf_counter() - began


# The table


def _table(bench: DataBench, found: _Found) -> Table:
    table = Table(
        f"Restart: seconds, a symbol of {bench.scale.largest_window:,} prices",
        (
            *("the file, the page cache", "open", "first answer", "min–max", "speed of light"),
            *("fds serve: first reply", "min–max"),
        ),
    )
    for key, seconds in found.answered.items():
        state, is_cold = key
        table.add(
            f"{state}, {'cold' if is_cold else 'warm'}",
            number(_median(found.opened[key])),
            *_cells(seconds),
            number(_median(found.least[key])),
            *_cells(found.served[key]),
        )
    table.add("none: in memory", "", "", "", "", *_cells(found.in_memory))
    size_mb = (bench.full / file_name_of(SYMBOL)).stat().st_size / 1e6
    table.notes += [
        f"A file of {size_mb:,.0f} MB, {bench.scale.restarts} restarts of each kind, each a new "
        "process. `open` opens the directory: after `kill -9` all levels are made again from the "
        "prices; `first answer` is `open` and a query of the largest window, kernels loaded "
        "before. `fds serve` is timed from its start as a command, the interpreter's and imports "
        "included, to its first reply over HTTP; the last row is what a service without a data "
        "directory takes to answer anything. Every first answer was that of before, to the bit.",
        "Speed of light: mapping the file and reading its header where it was closed cleanly, "
        "reading all of it once where it was left. Unfavourable: *cold*, when the page cache holds "
        "nothing of the file, as after a start of the machine. Closing cleanly after the levels "
        f"were made again, with all that has to be written, took {number(_median(found.closed))} "
        "s.",
    ]
    if all(not is_cold for _, is_cold in found.answered):
        table.notes.append("No cold rows: the system did not let go of the file's pages.")
    return table


def _add_targets(bench: DataBench, found: _Found) -> None:
    for state, limit in _SECONDS_MAX.items():
        key = state, False
        for what, seconds in (("first answer", found.answered), ("fds serve", found.served)):
            name = "first reply of fds serve" if what == "fds serve" else what
            bench.add_target(f"{name}, file {state}", _median(seconds[key]), limit, "s")


def _cells(seconds: list[float]) -> tuple[str, str]:
    return number(_median(seconds)), f"{number(min(seconds))}–{number(max(seconds))}"


def _median(values: list[float]) -> float:
    return float(np.median(values))
