"""A service that can be killed in any way, and clients that know every price they ever sent.

Each price is a function of its symbol and its number, so any answer can be checked, however old the
prices are. A client records the acknowledged batches and those in progress when its connection
broke. These determine exactly which states of a symbol are possible after a kill.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from math import ulp
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

import financial_data_service
from support.oracle import VAR_PROMISED, exact_moments
from support.raw_http import Connection, Reply, batch, get, post
from support.service_process import SERVING, Service, command, environment

Prices = npt.NDArray[np.float64]

WAIT_SECONDS_MAX = 60.0  # far longer than anything here takes; a test that hangs fails with it

EXPECTED_LINES = re.compile(
    r"INFO: +("
    r"Started server process \[\d+\]|Waiting for application startup\.|"
    r"Application startup complete\.|Uvicorn running on \S+ \(Press CTRL\+C to quit\)|"
    r"Shutting down|Waiting for connections to close\. \(CTRL\+C to force quit\)|"
    r"Waiting for application shutdown\.|Application shutdown complete\.|"
    r"Finished server process \[\d+\]|"
    r".+\.ring: left by a process that was killed; \d+ prices? kept, levels made again in \S+ s|"
    r"Compiling kernels; that takes some ten seconds, once for this machine\.|"
    r".+: waiting for (process \d+|\w+ process), which starts or ends there"
    r")|"
    r"WARNING: +Worker \d \[\d+\] was killed by SIGKILL(; another takes its place( in \S+ s)?)?\.|"
    r"Worker 1 \[\d+\] was killed by SIGKILL before it could serve\."
)
"""What the log may say, whatever happens to the service here."""


def prices(series: int, begin: int, end: int) -> Prices:
    """Return prices number ``begin`` to ``end`` of a series: 52 random bits each, 2^16 to 2^17.

    splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014,
    doi:10.1145/2660193.2660195), whose output number ``i`` does not need those before it.
    """
    index = np.arange(begin + 1, end + 1, dtype=np.uint64)
    bits = np.uint64(series << 32) + index * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    exponent = np.float64(2**16).view(np.uint64)
    return ((bits >> np.uint64(12)) | exponent).view(np.float64)


def poll(condition: Callable[[], Any], seconds: float = WAIT_SECONDS_MAX) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# What is sent


@dataclass
class Feed:
    """A symbol as one client sends it.

    Attributes
    ----------
    symbol : str
        Its name.
    series : int
        Whose prices it gets; another one after each deletion.
    is_numbered : bool
        Whether batches go with ``from_sequence``.
    is_shared : bool
        Whether another client sends the same series to the same symbol.
    is_deleted_at_times : bool
        Whether it is deleted now and then, and starts from its first price again.
    acknowledged : int
        Prices that this client knows to be stored.
    pending : int
        Prices of the batch under way; -1: a deletion is under way.
    found : int
        Sequence that was seen after the last kill, or -1 when it may have changed since.
    """

    symbol: str
    series: int
    is_numbered: bool = True
    is_shared: bool = False
    is_deleted_at_times: bool = False
    acknowledged: int = 0
    pending: int = 0
    found: int = -1

    @property
    def path(self) -> str:
        """Its name as part of a path."""
        return quote(self.symbol, safe="")

    def possible(self) -> set[int]:
        """Return the sequences that the symbol may have, as far as this client knows."""
        if self.pending < 0:
            return {self.acknowledged, 0}
        return {self.acknowledged, self.acknowledged + self.pending}

    def settle(self, sequence: int) -> None:
        """Take note of the sequence after a kill, one of those that are possible."""
        self.found = sequence
        if self.is_numbered:
            return  # What was under way is sent again, whatever became of it.
        if self.pending < 0 and sequence == 0:
            self.series += 1
        self.acknowledged, self.pending = sequence, 0


class Line(Connection):
    """A connection whose end is an ``OSError``."""

    def _more(self) -> None:
        try:
            super()._more()
        except AssertionError as error:
            raise ConnectionResetError(str(error)) from None


class Client:
    """Sends batches without end, each feed's one after the other; for one thread."""

    def __init__(self, feeds: Sequence[Feed], seed: str, batch_max: int) -> None:
        self.feeds = feeds
        self._random = random.Random(seed)
        self._batch_max = batch_max
        self.batches = 0

    def run(self, service: Service, stop: threading.Event) -> None:
        """Send until told to stop, over as many connections as it takes."""
        while not stop.is_set():
            try:
                with Line(service.url) as line:
                    self._settle(line)
                    while not stop.is_set():
                        self._send(line, self._random.choice(self.feeds))
            except TimeoutError:
                raise
            except OSError:  # The process at the other end was killed, or ends.
                for feed in self.feeds:
                    feed.found = -1
                stop.wait(0.005)

    def finish(self, service: Service) -> None:
        """Send again what was under way when the last connection broke."""
        with service.connect() as connection:
            for feed in self.feeds:
                if feed.pending:
                    self._send(connection, feed)

    def _settle(self, line: Connection) -> None:
        """Find out what became of batches that cannot be sent again."""
        for feed in self.feeds:
            if feed.pending and not feed.is_numbered:
                sequence = sequence_of(line, feed)
                assert sequence in feed.possible(), (feed, sequence)
                feed.settle(sequence)

    def _send(self, line: Connection, feed: Feed) -> None:
        self.batches += 1
        if feed.is_deleted_at_times and feed.acknowledged and self._random.random() < 0.1:
            feed.pending = -1
            reply = line.ask(get(f"/symbols/{feed.path}", method="DELETE"))
            assert reply.status == 200, reply
            feed.settle(0)
            return
        if not feed.pending:
            # As many sizes with one digit as with four.
            feed.pending = int(self._batch_max ** self._random.random())
        end = feed.acknowledged + feed.pending
        values = prices(feed.series, feed.acknowledged, end).tolist()
        number = feed.acknowledged if feed.is_numbered else None
        reply = line.ask(post(batch(feed.symbol, values, number)))
        if reply.status == 409 and feed.is_shared:  # The other client is a whole ring ahead.
            assert "older prices are no longer held" in reply.json()["detail"], reply
            end = reply.json()["sequence"]
            assert end > feed.acknowledged + feed.pending
        else:
            self._check(feed, end, reply)
            end = reply.json()["sequence"]
        feed.acknowledged, feed.pending, feed.found = end, 0, -1

    def _check(self, feed: Feed, end: int, reply: Reply) -> None:
        """Check what is said of a batch, all of which is stored now."""
        assert reply.status in (200, 201), reply
        content = reply.json()
        assert (reply.status == 200) == (content["added"] == 0), reply
        if feed.is_shared:
            assert content["sequence"] >= end, reply
            return
        assert content["sequence"] == end, reply
        possible = {feed.pending} | ({0} if feed.is_numbered else set())
        if feed.found >= 0:
            possible = {end - feed.found}
        assert content["added"] in possible, (reply, feed)


class Watcher:
    """Asks for windows while batches come, and checks each answer; for one thread."""

    def __init__(self, feeds: Sequence[Feed], seed: str, largest_window: int) -> None:
        self._feeds = feeds
        self._random = random.Random(seed)
        self._largest_window = largest_window

    def run(self, service: Service, stop: threading.Event) -> None:
        """Ask until told to stop."""
        while not stop.is_set():
            try:
                with Line(service.url) as line:
                    while not stop.is_set():
                        self._ask(line, self._random.choice(self._feeds))
            except TimeoutError:
                raise
            except OSError:
                stop.wait(0.005)

    def _ask(self, line: Connection, feed: Feed) -> None:
        least = feed.acknowledged
        length = int(self._largest_window ** self._random.random())
        reply = line.ask(get(f"/stats/{feed.path}?last={length}"))
        if reply.status == 404:
            assert least == 0, reply
            return
        assert reply.status == 200, reply
        assert reply.json()["sequence"] >= least, (reply, least)
        check_window(reply.json(), feed.series, reply.json()["sequence"])
        time.sleep(0.001)


@contextmanager
def loaded(service: Service, clients: Sequence[Client | Watcher]) -> Iterator[None]:
    """Have clients at work while the block runs."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(clients)) as executor:
        running = [executor.submit(client.run, service, stop) for client in clients]
        try:
            yield
        finally:
            stop.set()
    for each in running:
        each.result()


# What is there


def sequence_of(connection: Connection, feed: Feed) -> int:
    """Return how many prices a symbol has; 0 when it does not exist."""
    reply = connection.ask(get(f"/stats/{feed.path}/1"))
    assert reply.status in (200, 404), reply
    return int(reply.json()["sequence"]) if reply.status == 200 else 0


def check_window(entry: dict[str, Any], series: int, sequence: int) -> None:
    """Assert that a window is that of a series at some sequence, exactly as far as is promised."""
    length = min(entry["window"], sequence)
    assert entry["values"] == length
    window = prices(series, sequence - length, sequence)
    assert (entry["min"], entry["max"], entry["last"]) == (window.min(), window.max(), window[-1])
    mean, var = exact_moments(window)
    assert abs(Fraction(entry["avg"]) - mean) <= Fraction(ulp(float(mean)))
    assert abs(Fraction(entry["var"]) - var) <= Fraction(VAR_PROMISED) * var


class Book:
    """What all clients together know of the symbols.

    Parameters
    ----------
    feeds : iterable of Feed
        Of all clients.
    """

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self.symbols: dict[str, list[Feed]] = {}
        for feed in feeds:
            self.symbols.setdefault(feed.symbol, []).append(feed)

    def possible(self, symbol: str) -> set[int]:
        """Return the sequences that a symbol may have."""
        feeds = self.symbols[symbol]
        least = max(feed.acknowledged for feed in feeds)
        candidates = {sequence for feed in feeds for sequence in feed.possible()}
        return {sequence for sequence in candidates if sequence >= least or len(feeds) == 1}

    def check(self, service: Service, directory: Path, connections: int = 1) -> None:
        """Check all that the service says and all that stands in its files; nobody else is at work.

        With several processes, several connections reach all of them, which must agree.
        """
        with ExitStack() as stack:
            answers = []
            for _ in range(connections):  # All are open at once, and so shared out.
                connection = stack.enter_context(service.connect())
                answers.append(self._ask_all(connection))
        assert all(answer == answers[0] for answer in answers), answers
        self._check_answers(*answers[0])
        self.check_files(directory)

    def _ask_all(self, connection: Connection) -> tuple[dict[str, int], dict[str, Any]]:
        """Return the sequences that are listed, and the windows of each symbol that is there."""
        assert connection.ask(get("/readyz")).json() == {"status": "ok"}
        entries = connection.ask(get("/symbols")).json()["symbols"]
        windows = {}
        for symbol, feeds in self.symbols.items():
            reply = connection.ask(get(f"/stats/{feeds[0].path}"))
            assert reply.status in (200, 404), reply
            if reply.status == 200:
                windows[symbol] = reply.json()
        return {entry["symbol"]: entry["sequence"] for entry in entries}, windows

    def _check_answers(self, sequences: dict[str, int], windows: dict[str, Any]) -> None:
        assert sequences == {symbol: each["sequence"] for symbol, each in windows.items()}
        for symbol, feeds in self.symbols.items():
            sequence = sequences.get(symbol, 0)
            assert sequence in self.possible(symbol), (symbol, sequence, feeds)
            for feed in feeds:
                feed.settle(sequence)
            for entry in windows[symbol]["stats"] if sequence else []:
                check_window(entry, feeds[0].series, sequence)

    def check_files(self, directory: Path) -> None:
        """Check every price that is held, bit by bit; to be called behind :meth:`check`."""
        with financial_data_service.open(directory) as data:
            there = {symbol: feeds for symbol, feeds in self.symbols.items() if feeds[0].found > 0}
            assert sorted(data) == sorted(there)
            for symbol, feeds in there.items():
                reader, sequence = data[symbol], feeds[0].found
                assert reader.sequence == sequence
                geometry = reader.ring.geometry
                assert reader.oldest == max(0, sequence - geometry.capacity + geometry.batch_max)
                held = prices(feeds[0].series, reader.oldest, sequence)
                assert (reader.prices(reader.oldest, sequence) == held).all()
                last = reader.values(last=geometry.largest_window)
                assert last.tobytes() == held[-geometry.largest_window :].tobytes()


# What is killed


class Life:
    """One run of the service, in a process group of its own.

    Parameters
    ----------
    log : Path
        Where its log goes.
    flags : sequence of str
        Of ``fds serve``.
    program : str
        What is changed of the service before it is started, in Python.
    """

    def __init__(self, log: Path, flags: Sequence[str], program: str = "") -> None:
        self.log = log
        arguments = command("--port", "0", *flags)
        if program:
            main = "from financial_data_service.cli import main\nmain()\n"
            assert arguments[1] == "-m"
            arguments[1:3] = ["-c", program + main]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                arguments,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment(),
                process_group=0,
            )

    def serving(self) -> Service:
        """Wait until it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(SERVING), self.log.read_text() or f"not the serving line: {line!r}"
        return Service(line.removeprefix(SERVING).strip(), self.process, self.log)

    def members(self) -> list[int]:
        """Return the processes of the group that live."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(FileNotFoundError, ProcessLookupError):
                    # Behind the name, which may hold anything: state, parent, group.
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[2]) == self.process.pid and fields[0] not in "ZX":
                        found.append(int(entry.name))
        return found

    def workers(self) -> list[int]:
        """Return the processes that the first one has started."""
        return [pid for pid in self.members() if pid != self.process.pid]

    def kill(self) -> None:
        """Kill all processes at once."""
        # As long as nobody has waited for the first of them, its number is nobody else's.
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Tell it to stop in good order."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Have it stop in good order, which must go well."""
        self.terminate()
        assert self.process.wait(WAIT_SECONDS_MAX) == 0, self.log.read_text()

    def finish(self) -> None:
        """Wait until nothing of it is left; assert that its log says nothing unexpected."""
        poll(lambda: not self.members())
        self.process.wait(WAIT_SECONDS_MAX)
        assert self.process.stdout is not None
        self.process.stdout.close()
        lines = self.log.read_text().splitlines()
        assert all(map(EXPECTED_LINES.fullmatch, lines)), "\n".join(lines)
