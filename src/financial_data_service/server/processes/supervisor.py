"""The parent of several worker processes: binds the socket, starts, replaces and ends the workers.

The parent serves no requests. Worker 1 starts alone: it compiles the kernels, fills Numba's cache
on disk and recovers the data directory. The other workers start when worker 1 serves. By then this
work is done.

Workers are forked, as in gunicorn. Forking is safe, because the parent does not load the engine or
uvloop and has only one thread. A worker inherits the socket, the settings and the shared memory.
uvicorn spawns its workers, because it also runs on Windows. Each worker starts a new interpreter
and gets pickled arguments. A protocol class created at run time cannot be pickled. uvicorn also
asks each worker every half second whether it is alive, and kills one that is slow to answer, for
instance while it compiles. Here the kernel reports a death (SIGCHLD).

Life and death
--------------
* A worker writes a byte to a pipe of its own when it serves.
* All workers hold the reading end of one pipe, and only the parent the writing end. End of file
  means that the parent has ended, for whatever reason. The workers then drain and end.
* After SIGTERM, Ctrl-C or SIGHUP the parent sends SIGTERM to every worker and waits. A second
  Ctrl-C, or SIGQUIT, makes it send SIGQUIT, and the workers end at once. Workers that do not end in
  time are killed. Workers ignore Ctrl-C and SIGHUP, which a terminal sends to them as well.

Invariants
----------
* The code has one place that forks a worker, one that waits for it, and one that removes it. So
  there are no zombies and no untracked workers.
* The loop waits for signals and pipes; it never polls. Where a service manager expects signs of
  life, it wakes up to send them.
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
from contextlib import suppress
from typing import NoReturn

import uvicorn

from financial_data_service.server.connection.acceptor import WorkerLoad
from financial_data_service.server.processes.listener import announce, bound_socket
from financial_data_service.server.processes.service_manager import ServiceManager
from financial_data_service.server.processes.signals import STOP_SIGNALS, caught_signals
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
from financial_data_service.server.processes.worker_slot import WorkerSlot, ending
from financial_data_service.server.telemetry import logs
from financial_data_service.server.telemetry.counters import Counters
from financial_data_service.settings import Settings

__all__ = ["serve"]

END_SECONDS_MAX = DRAIN_SECONDS + 15
"""How long a worker may take to end: requests in flight, then writes to disk. Below the 30 s after
which process managers kill the parent."""

QUIT_SECONDS_MAX = 5.0  # the same after SIGQUIT, when requests are not waited for

logger = logging.getLogger("financial_data_service.processes")


def serve(settings: Settings) -> int:
    """Serve with ``settings.workers`` processes until a signal; return the exit code.

    Returns
    -------
    int
        0 after SIGTERM or Ctrl-C. 1, with the reason on stderr, when the address or the data
        directory cannot be used, the first worker does not come up, a worker is killed during the
        end, or no worker was left to end in good order.
    """
    if not has_fit_certificate(settings):
        return 1
    listener = bound_socket(settings)
    if listener is None:
        return 1
    listener.setblocking(False)
    # This configuration is not served. Creating it configures logging in the same way as in the
    # workers.
    uvicorn.Config(
        "", log_config=logs.configuration(settings), log_level=settings.log_level, access_log=False
    )
    raise_descriptor_limit(settings)
    remove_stale()
    with listener, caught_signals() as wake_up:
        if settings.data_dir is not None:
            return _Supervisor(settings, listener, wake_up, None).run()
        with TemporaryDirectory(settings) as directory:
            settings = settings.model_copy(update={"data_dir": directory.path})
            return _Supervisor(settings, listener, wake_up, directory).run()


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
        self._workers = [WorkerSlot(index) for index in range(settings.workers)]
        self._parent_reader, self._parent_writer = os.pipe()
        # This selector uses no file descriptor, because a fork would share it.
        self._selector = selectors.PollSelector()
        self._selector.register(wake_up, selectors.EVENT_READ)
        self._has_served = False  # worker 1, ever
        self._is_announced = False
        self._is_stopping = False
        self._kill_at = float("inf")
        self._manager = ServiceManager.of_environment()
        self._exit_code = 0
        self._killed = ""  # the last worker to end, if it was killed and left the files open

    def run(self) -> int:
        """Start, replace and end workers until all have ended; return the exit code."""
        try:
            self._start_due()
            while self._living() or self._to_start():
                self._wait()
                self._manager.sign(time.monotonic())
                self._reap()
                if not self._is_stopping:
                    self._start_due()
                elif time.monotonic() >= self._kill_at:
                    self._kill()
            self._report_end()
        finally:
            # A worker is left here only after a bug.
            self._signal_all(signal.SIGKILL)
            for worker in self._living():
                os.waitpid(worker.pid, 0)
            os.close(self._parent_reader)
            os.close(self._parent_writer)
            self._manager.close()
        return self._exit_code

    def _living(self) -> list[WorkerSlot]:
        return [worker for worker in self._workers if worker.pid]

    def _wait(self) -> None:
        """Wait for a signal, for a worker's ready byte, or for the next scheduled time."""
        now = time.monotonic()
        due = [
            self._kill_at,
            self._manager.next_sign,
            *(worker.start_at for worker in self._to_start()),
        ]
        seconds = max(0.0, min(due) - now)
        timeout = None if seconds == float("inf") else seconds
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._wake_up:
                for number in self._wake_up.recv(4096):
                    if number in STOP_SIGNALS:
                        self._stop(number)
            else:
                self._read_ready(key.data)

    def _to_start(self) -> list[WorkerSlot]:
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

    def _start(self, worker: WorkerSlot) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or the child would print its copy of the buffer as well
        ready, serving = os.pipe()
        # Block the signals until the child has installed its own handlers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS | {signal.SIGCHLD})
        try:
            worker.pid = os.fork()
            if not worker.pid:
                self._run_child(worker, serving, mask)
        except OSError as error:
            os.close(ready)
            self._on_death(worker, f"cannot be started ({error.strerror})")
        else:
            worker.ready = ready
            self._selector.register(ready, selectors.EVENT_READ, worker)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(serving)

    def _run_child(self, worker: WorkerSlot, serving: int, mask: set[int]) -> NoReturn:
        """Run the worker in the forked process; never return."""
        exit_code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGQUIT, lambda _signal, _frame: os._exit(1))
            # The server unblocks SIGTERM when it can shut down cleanly.
            signal.pthread_sigmask(signal.SIG_SETMASK, {*mask, signal.SIGTERM})
            os.close(self._parent_writer)
            self._manager.close()
            if self._temporary is not None:
                self._temporary.release_lock()
            for other in self._workers:
                if other.ready >= 0:
                    os.close(other.ready)
            exit_code = self._serve(worker, serving)
        except SystemExit as end:  # uvicorn's, when the application does not start
            exit_code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001  # The child must not return into the parent's code.
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(exit_code)

    def _serve(self, worker: WorkerSlot, serving: int) -> int:
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

    def _read_ready(self, worker: WorkerSlot) -> None:
        """Read a worker's pipe: a byte when it serves, end of file when it is dead."""
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
            self._temporary.hold_lock()
        if self._is_announced or self._is_stopping:
            return
        if all(each.is_serving for each in self._workers):
            self._is_announced = True
            announce(self._listener, is_tls=self._settings.ssl_certfile is not None)
            self._manager.ready(time.monotonic())

    def _reap(self) -> None:
        """Wait for the workers that have ended, and decide what follows for each."""
        for worker in self._living():
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                if worker.ready >= 0:
                    self._read_ready(worker)
                worker.pid = 0
                self._counts.retire(worker.index)
                self._counters.retire(worker.index)
                exit_code = os.waitstatus_to_exitcode(status)
                how = f"[{pid}] {ending(exit_code)}"
                if exit_code < 0:
                    self._killed = f"{worker.name} {how}"
                elif worker.is_serving:
                    self._killed = ""  # It has closed the files, after all that died before it.
                if exit_code or not self._is_stopping:
                    self._on_death(worker, how, exit_code)

    def _on_death(self, worker: WorkerSlot, how: str, exit_code: int | None = None) -> None:
        """Log how a worker ended, and start a new one if the service continues."""
        if self._is_stopping:
            if worker.is_serving:  # Its requests in flight have been cut off.
                self._exit_code = 1
            logger.warning("%s %s.", worker.name, how)
        elif self._has_served:
            pause = worker.postpone(time.monotonic())
            after = f" in {pause:g} s" if pause else ""
            logger.warning("%s %s; another takes its place%s.", worker.name, how, after)
        else:
            self._is_stopping = True
            self._exit_code = 1
            if exit_code != 1:  # With 1 it has printed the reason.
                print(f"{worker.name} {how} before it could serve.", file=sys.stderr)

    def _stop(self, number: int) -> None:
        """End the workers: in good order, or at once after SIGQUIT or a second Ctrl-C."""
        is_first = not self._is_stopping
        if is_first:
            self._is_stopping = True
            self._manager.stopping()
            # Close the listener in the parent too. Otherwise the kernel would queue connections
            # that no process accepts.
            self._listener.close()
        if number == signal.SIGQUIT or (number == signal.SIGINT and not is_first):
            self._end_within(QUIT_SECONDS_MAX, signal.SIGQUIT)
        elif is_first:
            self._end_within(END_SECONDS_MAX, signal.SIGTERM)

    def _end_within(self, seconds: float, number: signal.Signals) -> None:
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)
        self._signal_all(number)

    def _report_end(self) -> None:
        """Log a warning if the last worker did not end cleanly. Called after all have ended."""
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
            self._exit_code = 1  # Its requests in flight have been cut off.
        self._signal_all(signal.SIGKILL)
        self._kill_at = float("inf")

    def _signal_all(self, number: signal.Signals) -> None:
        # The pid of a worker cannot be reused before the parent has waited for it. So each pid is
        # still that of the worker.
        for worker in self._living():
            os.kill(worker.pid, number)
