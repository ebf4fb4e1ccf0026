"""Connections shared out among worker processes that listen on one socket.

Every worker waits on the same listening socket, so any live worker can take a waiting connection.
By default the worker that wakes first takes the connection. Measured with 32 connections opened at
once and two workers on uvloop, six trials: 32 and 0 in three of them, 28 and 4 or worse in two
more. The imbalance lasts as long as the connections. With one socket per worker (``SO_REUSEPORT``),
the kernel distributes connections by a hash. The worst result was 22 and 10, or 9 and 23 when the
connections were opened one after the other. Connections that wait at a worker that dies are lost.
Here a worker with more connections than another pauses for a millisecond. Meanwhile the other
worker accepts the waiting connections. The result was 16 and 16, plus or minus one. The rate of
short connections is the same (10,300/s).

Invariant: a worker that could accept never waits longer than :data:`HOLD_BACK_SECONDS`, whatever
the other workers do.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import socket
import ssl
from collections.abc import Callable

__all__ = ["AcceptedProtocol", "Acceptor", "WorkerLoad"]

HOLD_BACK_SECONDS = 0.001  # the shortest time an event loop's timer knows

EXHAUSTED_SECONDS = 1.0
"""Pause when the process has no file descriptor or memory left for a connection, as in asyncio."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_NOT_SERVING = 2**62  # more connections than any worker has

logger = logging.getLogger("financial_data_service.connection")


class WorkerLoad:
    """The number of open connections of each worker.

    The numbers are in shared memory, which the parent allocates before it forks the workers.

    Each worker writes only its own count, one aligned word. The counts of the other workers may be
    slightly out of date.
    """

    def __init__(self, workers: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, 8 * workers)).cast("q")
        for index in range(workers):
            self.retire(index)

    def set(self, index: int, connections: int) -> None:
        """Set how many connections a worker has."""
        self._counts[index] = connections

    def retire(self, index: int) -> None:
        """Mark a worker as one that accepts nothing: not started, ending, or dead."""
        self._counts[index] = _NOT_SERVING

    def may_accept(self, index: int) -> bool:
        """Tell whether a worker has at most an eighth more connections than the one with fewest."""
        counts = self._counts.tolist()
        mine = counts[index]
        least = min(counts)
        return bool(mine <= least + least // 8)


class Acceptor:
    """Accepts the connections of one worker. Only the thread of the worker's event loop may use it.

    Parameters
    ----------
    listener : socket.socket
        Bound, not blocking, shared with the other workers.
    counts : WorkerLoad
        Of all workers.
    index : int
        Which of them this one is.
    """

    def __init__(self, listener: socket.socket, counts: WorkerLoad, index: int) -> None:
        self._listener = listener
        self._counts = counts
        self._index = index
        self._connections = 0
        self._is_watching = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self,
        protocol: Callable[[], asyncio.Protocol],
        backlog: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Start listening. Create a protocol for each connection, with or without TLS."""
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._listener.listen(backlog)
        self._counts.set(self._index, 0)
        self._watch()

    async def stop(self) -> None:
        """Accept nothing more, and finish connecting what was accepted."""
        self._counts.retire(self._index)
        self._pause(None)
        self._listener.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """Decrease the number of connections.

        Called once for each accepted connection, when it ends.
        """
        self._connections -= 1
        if self._listener.fileno() >= 0:
            self._counts.set(self._index, self._connections)
            # This worker may have the fewest now.
            self._watch()

    def _watch(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            self._loop.add_reader(self._listener, self._on_connection)

    def _pause(self, seconds: float | None) -> None:
        """Stop watching the socket for `seconds`. None means permanently."""
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_reader(self._listener)
        if seconds is None:
            self._unset_timer()
        elif self._timer is None:
            self._timer = self._loop.call_later(seconds, self._on_timer)

    def _unset_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_connection(self) -> None:
        if self._counts.may_accept(self._index):
            self._unset_timer()
            self._accept()
        else:
            self._pause(HOLD_BACK_SECONDS)

    def _on_timer(self) -> None:
        """Accept what no other worker has taken during the pause."""
        self._timer = None
        self._watch()
        self._accept()

    def _accept(self) -> None:
        # One at a time, because another worker may have the fewest after it.
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:
            # Others were faster, or the client has gone.
            if error.errno in _EXHAUSTED:
                logger.error("Cannot accept connections for now: %s", error.strerror)
                self._pause(EXHAUSTED_SECONDS)
            return
        accepted.setblocking(False)
        self._connections += 1
        self._counts.set(self._index, self._connections)
        task = self._loop.create_task(self._connect(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted, ssl=self._tls)
        except OSError:  # The client has gone.
            accepted.close()
            self.forget()


class AcceptedProtocol(asyncio.Protocol):
    """Part of a worker's protocols: tells the acceptor when the connection ends.

    Attributes
    ----------
    acceptor : Acceptor
        The acceptor of the process.
    """

    acceptor: Acceptor

    def connection_lost(self, exc: Exception | None) -> None:
        """End as the protocol does, then count one connection less."""
        super().connection_lost(exc)
        self.acceptor.forget()
