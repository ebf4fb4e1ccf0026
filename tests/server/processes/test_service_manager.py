"""What systemd is told, received on a datagram socket: by the class, and by ``fds serve``."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from financial_data_service.server.processes.service_manager import ServiceManager
from support.service_process import LIGHT, end, started

SECONDS_MAX = 20.0


class Manager:
    """The other end: systemd's socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self.socket.settimeout(SECONDS_MAX)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.pids: set[int] = set()

    def next(self) -> str:
        """Wait for a message, and note who sent it."""
        message, [(_, _, credentials)], *_ = self.socket.recvmsg(4096, 100)
        self.pids.add(int.from_bytes(credentials[:4], "little"))
        return message.decode()

    def waits(self, seconds: float = 0.0) -> bool:
        """Tell whether there is a message, or comes one in time."""
        return bool(select.select([self.socket], [], [], seconds)[0])


@pytest.fixture(params=["path", "name"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    # The path of a socket has at most 108 bytes.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        address = f"{directory}/notify" if request.param == "path" else f"@fds-test-{os.getpid()}"
        other_end = Manager(address)
        with other_end.socket:
            yield other_end


class TestServiceManager:
    def told(self, manager: Manager, **variables: str) -> ServiceManager:
        return ServiceManager.of_environment({"NOTIFY_SOCKET": manager.address, **variables})

    def test_a_life(self, manager: Manager) -> None:
        """Signs of life come at half of the silence that is allowed, from readiness to the end."""
        told = self.told(manager, WATCHDOG_USEC="4000000", WATCHDOG_PID=str(os.getpid()))
        told.sign(1e9)
        told.ready(100.0)
        assert manager.next() == "READY=1"
        for now in (100.1, 101.9):
            told.sign(now)
        assert not manager.waits()
        assert told.next_sign == 102.0
        told.sign(102.5)
        assert manager.next() == "WATCHDOG=1"
        assert told.next_sign == 104.5
        told.stopping()
        assert manager.next() == "STOPPING=1"
        told.sign(1e9)
        assert not manager.waits()
        told.close()
        told.close()
        told.ready(1.0)
        assert not manager.waits()

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"WATCHDOG_USEC": ""},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "-5"},
            {"WATCHDOG_USEC": "soon"},
            {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        ],
    )
    def test_no_signs_of_life_unless_they_are_asked_for(
        self, manager: Manager, variables: dict[str, str]
    ) -> None:
        told = self.told(manager, **variables)
        told.ready(0.0)
        assert manager.next() == "READY=1"
        assert told.next_sign == float("inf")
        told.sign(1e9)
        assert not manager.waits()
        told.close()

    def test_a_manager_that_does_not_listen_is_not_waited_for(self, manager: Manager) -> None:
        told = self.told(manager, WATCHDOG_USEC="2000000")
        told.ready(0.0)
        for second in range(1, 5000):  # The queue of the socket is full long before.
            told.sign(second)
        assert manager.next() == "READY=1"
        told.close()

    def test_a_manager_that_has_gone(self) -> None:
        told = ServiceManager("/nonexistent/notify", 1.0)
        told.ready(0.0)
        told.sign(10.0)
        told.stopping()
        told.close()

    @pytest.mark.parametrize("address", ["vsock:2:1234", "notify", "tcp://x"])
    def test_other_kinds_of_sockets(self, address: str, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            told = ServiceManager.of_environment({"NOTIFY_SOCKET": address})
        told.ready(0.0)
        assert address in caplog.text

    def test_nobody(self) -> None:
        told = ServiceManager.of_environment({"WATCHDOG_USEC": "1000000"})
        told.ready(0.0)
        assert told.next_sign == float("inf")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service(manager: Manager, workers: str, tmp_path: Path) -> None:
    """One process tells everything: the one that systemd started."""
    variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
    with started(tmp_path, (*LIGHT, "--workers", workers), **variables) as service:
        assert manager.next() == "READY=1"
        assert service.get("/readyz")["status"] == "ok"
        assert [manager.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
        end(service)
    messages: list[str] = []
    while not messages or messages[-1] != "STOPPING=1":
        messages.append(manager.next())
    assert set(messages[:-1]) <= {"WATCHDOG=1"}
    assert not manager.waits()
    assert manager.pids == {service.process.pid}


def test_a_service_that_hangs_gives_no_sign_of_life(manager: Manager, tmp_path: Path) -> None:
    variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    with started(tmp_path, LIGHT, **variables) as service:
        assert [manager.next(), manager.next()] == ["READY=1", "WATCHDOG=1"]
        service.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, service.process.pid, os.WSTOPPED | os.WNOWAIT)
        while manager.waits():
            manager.next()
        assert not manager.waits(0.5)
        service.process.send_signal(signal.SIGCONT)
        assert manager.next() == "WATCHDOG=1"
        end(service)
