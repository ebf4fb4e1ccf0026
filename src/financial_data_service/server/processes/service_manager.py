"""What a service manager such as systemd is told: ready, stopping, alive (``sd_notify``).

systemd names a datagram socket in ``NOTIFY_SOCKET`` and, with ``WatchdogSec=``, the longest silence
in ``WATCHDOG_USEC``. Without these variables nothing is sent.

Invariant: nothing here blocks or fails. A message that the manager does not take is lost; a service
that serves is worth more than the message.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["ServiceManager"]

logger = logging.getLogger("financial_data_service.processes")


class ServiceManager:
    """The manager that started this process, if there is one.

    Parameters
    ----------
    address : str, optional
        Of its socket: a path, or ``@`` and a name. Nothing is sent without one.
    watchdog_seconds : float, optional
        The silence after which the manager ends the service. None means that it does not.

    Attributes
    ----------
    next_sign : float
        When the next sign of life is due, on the monotonic clock; infinite if none is expected.
    """

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        # systemd writes the zero byte that begins an abstract name as @.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._pause = None if watchdog_seconds is None else watchdog_seconds / 2
        self.next_sign = float("inf")

    @classmethod
    def of_environment(cls, variables: Mapping[str, str] = os.environ) -> ServiceManager:
        """Return the manager that the environment names.

        Other values than systemd's are logged and ignored, for instance an address of another
        kind of socket.
        """
        address = variables.get("NOTIFY_SOCKET", "")
        if not address:
            return cls()
        if address[0] not in "/@":
            logger.warning("NOTIFY_SOCKET: expected a path or @name, got %r: ignored.", address)
            return cls()
        return cls(address, _watchdog_seconds(variables))

    def ready(self, now: float) -> None:
        """Tell it that the service serves; signs of life are due from now on."""
        self._send("READY=1")
        if self._socket is not None and self._pause is not None:
            self.next_sign = now + self._pause

    def sign(self, now: float) -> None:
        """Send a sign of life if it is due."""
        if now >= self.next_sign and self._pause is not None:
            self.next_sign = now + self._pause
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell it that the service ends; no more signs of life are expected."""
        self.next_sign = float("inf")
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto(message.encode(), self._address)


def _watchdog_seconds(variables: Mapping[str, str]) -> float | None:
    """Return the longest silence that is allowed to this process; None if there is no limit."""
    text = variables.get("WATCHDOG_USEC", "")
    # Another process may have inherited the variables of the one that is watched.
    if not text or variables.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        logger.warning("WATCHDOG_USEC: expected microseconds, got %r: ignored.", text)
        return None
    return int(text) / 1e6
