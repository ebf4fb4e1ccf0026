"""The signals that the parent of several workers waits for, as bytes of a socket."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["STOP_SIGNALS", "caught_signals"]

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


@contextmanager
def caught_signals() -> Iterator[socket.socket]:
    """Catch signals during the block; yield a socket that has a byte for each."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        caught = STOP_SIGNALS | {signal.SIGCHLD}
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
