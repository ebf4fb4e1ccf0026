"""Several processes that serve as one: a parent that binds the socket and looks after workers.

The parent holds the socket, forks the workers, replaces each that dies, and ends them; it serves
nothing itself. Worker 1 starts alone: it compiles the kernels, fills Numba's cache on disk and
recovers the data directory; the others start when it serves, and find all of that done.

Forked, rather than spawned: the parent is small (no engine, no uvloop, one thread), so nothing that
a fork breaks is there to be broken, and a worker takes socket, settings and shared memory over as
they are. That is gunicorn's way. uvicorn spawns, because it also runs on Windows: a worker is then
an interpreter from scratch, and what it is given has to be pickled, which our protocol, made at run
time, cannot be. uvicorn also asks each worker every half second whether it is alive, and kills one
that is slow to answer, as while compiling; here the kernel tells of a death.

Life and death
--------------
* A worker writes a byte to a pipe of its own when it serves.
* All workers hold the reading end of one pipe, the parent alone the writing end: when it reads as
  ended, the parent is gone, whatever the reason, and they drain and end.
* SIGTERM, Ctrl-C and SIGHUP make the parent tell every worker (SIGTERM) and wait for it; a second
  Ctrl-C, or SIGQUIT, makes them end at once (SIGQUIT); who is late is killed. Workers do not heed
  Ctrl-C and SIGHUP themselves, which a terminal sends to them as well.

Invariants
----------
* A worker is forked, waited for and forgotten in one place each, so there are neither zombies nor
  workers nobody knows of.
* The loop waits for signals and pipes, never by polling.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import uvicorn

from financial_data_service.server.connection.acceptor import WorkerLoad
from financial_data_service.server.processes.listener import announce, bound_socket
from financial_data_service.server.processes.startup import (
    DRAIN_SECONDS,
    gc_paused,
    has_fit_certificate,
    raise_descriptor_limit,
)
from financial_data_service.server.processes.temporary_directory import (
    TemporaryDirectory,
    remove_stale,
)
from financial_data_service.server.telemetry import logs
from financial_data_service.server.telemetry.counters import Counters
from financial_data_service.settings import Settings

__all__ = ["serve"]

END_SECONDS_MAX = DRAIN_SECONDS + 15
"""How long a worker may take to end: requests under way, then what is to be written to disk. Below
the 30 s after which supervisors kill the parent."""

QUIT_SECONDS_MAX = 5.0  # the same when nothing is to be waited for

STEADY_SECONDS = 10.0
"""A worker that has served so long is replaced at once when it dies, whatever became of those
before it."""

PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 8.0
"""Pause before a worker is started that died early more than once in a row; it doubles each time.
Eight seconds of a core a minute is what a worker that never comes up may cost."""

_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}

logger = logging.getLogger("uvicorn.error")


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and the process that fills it."""

    index: int
    pid: int = 0  # 0: there is no process
    ready: int = -1  # reading end of its pipe, until it serves or dies
    is_serving: bool = False
    serving_since: float = 0.0
    early_deaths: int = 0  # in a row
    start_at: float = 0.0

    @property
    def name(self) -> str:
        return f"Worker {self.index + 1}"


def serve(settings: Settings) -> int:
    """Serve with ``settings.workers`` processes until told to stop; return the exit code.

    Returns
    -------
    int
        0 after SIGTERM or Ctrl-C; 1 when the address or the data directory cannot be had, the
        first worker does not come up, one had to be killed at the end or was killed meanwhile, or
        none was left that could end in good order; stderr says which.
    """
    if not has_fit_certificate(settings):
        return 1
    listener = bound_socket(settings)
    if listener is None:
        return 1
    listener.setblocking(False)
    # Nothing is served by this; it sets up the log as that of the workers.
    uvicorn.Config(
        "", log_config=logs.configuration(settings), log_level=settings.log_level, access_log=False
    )
    raise_descriptor_limit(settings)
    remove_stale()
    with listener, _caught_signals() as wake_up:
        if settings.data_dir is not None:
            return _Supervisor(settings, listener, wake_up, None).run()
        with TemporaryDirectory(settings) as directory:
            settings = settings.model_copy(update={"data_dir": directory.path})
            return _Supervisor(settings, listener, wake_up, directory).run()


@contextmanager
def _caught_signals() -> Iterator[socket.socket]:
    """Catch signals for the while; a socket can be read of them, a byte each."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        caught = _STOP | {signal.SIGCHLD}
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
            caught.remove(signal.SIGHUP)
        before = {number: signal.signal(number, lambda *_: None) for number in caught}
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)


class _Supervisor:
    """Starts the workers, replaces those that die, and ends them."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        wake_up: socket.socket,
        temporary: TemporaryDirectory | None,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._wake_up = wake_up
        self._temporary = temporary
        self._counts = WorkerLoad(settings.workers)
        self._counters = Counters(settings.workers)
        self._workers = [_Worker(index) for index in range(settings.workers)]
        self._parent_reader, self._parent_writer = os.pipe()
        # Without a file descriptor of its own, which a fork would share.
        self._selector = selectors.PollSelector()
        self._selector.register(wake_up, selectors.EVENT_READ)
        self._has_served = False  # worker 1, ever
        self._is_announced = False
        self._is_stopping = False
        self._kill_at = float("inf")
        self._exit_code = 0
        self._killed = ""  # the last worker to end, if it was: the prices are as it left them

    def run(self) -> int:
        """Look after the workers until all have ended; return the exit code."""
        try:
            self._start_due()
            while self._living() or self._to_start():
                self._wait()
                self._reap()
                if not self._is_stopping:
                    self._start_due()
                elif time.monotonic() >= self._kill_at:
                    self._kill()
            self._judge_end()
        finally:
            # Only a fault of ours leaves any.
            self._signal_all(signal.SIGKILL)
            for worker in self._living():
                os.waitpid(worker.pid, 0)
            os.close(self._parent_reader)
            os.close(self._parent_writer)
        return self._exit_code

    def _living(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.pid]

    def _wait(self) -> None:
        """Wait for a signal, for a worker that serves, or for the next thing due."""
        now = time.monotonic()
        due = [self._kill_at, *(worker.start_at for worker in self._to_start())]
        seconds = max(0.0, min(due) - now)
        timeout = None if seconds == float("inf") else seconds
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._wake_up:
                for number in self._wake_up.recv(4096):
                    if number in _STOP:
                        self._stop(number)
            else:
                self._hear(key.data)

    def _to_start(self) -> list[_Worker]:
        """Return the workers to be started, now or after a pause: the first before all others."""
        if self._is_stopping:
            return []
        places = self._workers if self._has_served else self._workers[:1]
        return [worker for worker in places if not worker.pid]

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._to_start():
            if worker.start_at <= now:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or it would be said twice
        ready, serving = os.pipe()
        # Held back until the child has its own ways with them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP | {signal.SIGCHLD})
        try:
            worker.pid = os.fork()
            if not worker.pid:
                self._become(worker, serving, mask)
        except OSError as error:
            os.close(ready)
            self._lose(worker, f"cannot be started ({error.strerror})")
        else:
            worker.ready = ready
            self._selector.register(ready, selectors.EVENT_READ, worker)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(serving)

    def _become(self, worker: _Worker, serving: int, mask: set[int]) -> NoReturn:
        """Be the worker, in the process that was forked for it."""
        exit_code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGQUIT, lambda _signal, _frame: os._exit(1))
            # The server lets SIGTERM through once it can end in good order.
            signal.pthread_sigmask(signal.SIG_SETMASK, {*mask, signal.SIGTERM})
            os.close(self._parent_writer)
            if self._temporary is not None:
                self._temporary.let_go()
            for other in self._workers:
                if other.ready >= 0:
                    os.close(other.ready)
            exit_code = self._serve(worker, serving)
        except SystemExit as end:  # uvicorn's, when the application does not start
            exit_code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001  # Nothing may run on into what is the parent's.
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(exit_code)

    def _serve(self, worker: _Worker, serving: int) -> int:
        with gc_paused():
            from financial_data_service.server.processes import (
                worker as worker_module,  # It loads the engine.
            )

            link = worker_module.WorkerLink(
                index=worker.index,
                is_first=not self._has_served,
                listener=self._listener,
                counts=self._counts,
                counters=self._counters,
                parent=self._parent_reader,
                serving=serving,
                temporary=self._temporary is not None,
            )
            return worker_module.serve_as_worker(self._settings, link)

    def _hear(self, worker: _Worker) -> None:
        """Take note that a worker serves, or that it never will."""
        is_serving = bool(os.read(worker.ready, 1))
        self._selector.unregister(worker.ready)
        os.close(worker.ready)
        worker.ready = -1
        if not is_serving:
            return
        worker.is_serving = True
        worker.serving_since = time.monotonic()
        self._has_served = True
        if self._temporary is not None:
            self._temporary.keep()
        if self._is_announced or self._is_stopping:
            return
        if all(each.is_serving for each in self._workers):
            self._is_announced = True
            announce(self._listener, is_tls=self._settings.ssl_certfile is not None)

    def _reap(self) -> None:
        """Take leave of the workers that have ended."""
        for worker in self._living():
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                if worker.ready >= 0:
                    self._hear(worker)
                worker.pid = 0
                self._counts.retire(worker.index)
                self._counters.retire(worker.index)
                exit_code = os.waitstatus_to_exitcode(status)
                how = f"[{pid}] {_how(exit_code)}"
                if exit_code < 0:
                    self._killed = f"{worker.name} {how}"
                elif worker.is_serving:
                    self._killed = ""  # Whatever became of others before, it has closed the files.
                if exit_code or not self._is_stopping:
                    self._lose(worker, how, exit_code)

    def _lose(self, worker: _Worker, how: str, exit_code: int | None = None) -> None:
        """Say what became of a worker, and have it replaced where there is sense in it."""
        if self._is_stopping:
            if worker.is_serving:  # What it had under way has been cut off.
                self._exit_code = 1
            logger.warning("%s %s.", worker.name, how)
        elif self._has_served:
            pause = self._postpone(worker)
            after = f" in {pause:g} s" if pause else ""
            logger.warning("%s %s; another takes its place%s.", worker.name, how, after)
        else:
            self._is_stopping = True
            self._exit_code = 1
            if exit_code != 1:  # With 1 it has said why.
                print(f"{worker.name} {how} before it could serve.", file=sys.stderr)

    def _postpone(self, worker: _Worker) -> float:
        """Have a worker started again, and return after how many seconds."""
        now = time.monotonic()
        if worker.is_serving and now - worker.serving_since >= STEADY_SECONDS:
            worker.early_deaths = 0
        worker.is_serving = False
        worker.early_deaths += 1
        pause = 0.0
        if worker.early_deaths > 1:
            pause = min(PAUSE_SECONDS_MIN * 2 ** (worker.early_deaths - 2), PAUSE_SECONDS_MAX)
        worker.start_at = now + pause
        return pause

    def _stop(self, number: int) -> None:
        """Have the workers end: in good order, or at once when told so or told again."""
        is_first = not self._is_stopping
        if is_first:
            self._is_stopping = True
            # Or clients would wait in a queue that nobody takes from.
            self._listener.close()
        if number == signal.SIGQUIT or (number == signal.SIGINT and not is_first):
            self._end_within(QUIT_SECONDS_MAX, signal.SIGQUIT)
        elif is_first:
            self._end_within(END_SECONDS_MAX, signal.SIGTERM)

    def _end_within(self, seconds: float, number: signal.Signals) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)
        self._signal_all(number)

    def _judge_end(self) -> None:
        """Say so, now that all have ended, when the last did not do it in good order."""
        if not (self._killed and self._has_served):
            return
        self._exit_code = 1
        outcome = ""
        if self._temporary is None:
            outcome = (
                " The files of the data directory count as left by a killed process: no "
                "acknowledged price is lost to that"
            )
            # With durability power they were synced before they were acknowledged.
            is_synced = self._settings.durability == "power"
            outcome += "." if is_synced else ", but the newest were not synced to disk."
        logger.warning(
            "The service did not end in good order: %s, and no other was left to close the "
            "prices.%s",
            *(self._killed, outcome),
        )

    def _kill(self) -> None:
        for worker in self._living():
            logger.error("%s [%d] does not end; it is killed.", worker.name, worker.pid)
            self._exit_code = 1  # What it had under way has been cut off.
        self._signal_all(signal.SIGKILL)
        self._kill_at = float("inf")

    def _signal_all(self, number: signal.Signals) -> None:
        # None has been waited for, so each pid is still that of the worker.
        for worker in self._living():
            os.kill(worker.pid, number)


def _how(exit_code: int) -> str:
    """Return how a process ended, in words."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-exit_code}"
