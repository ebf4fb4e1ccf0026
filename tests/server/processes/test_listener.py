"""The listening socket: where it is, and one sentence when the address cannot be used."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from support.service_process import (
    LIGHT,
    failure,
    running,
)


def test_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(tmp_path, (*LIGHT, "--host", "::1")) as service:
        assert re.fullmatch(r"http://\[::1\]:\d+", service.url)
        assert service.get("/livez") == {"status": "ok"}


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert failure("--port", str(port)) == (
            f"Cannot serve on 127.0.0.1:{port}: the port is in use. Stop what listens there, or "
            "choose another with --port."
        )


def test_unknown_host() -> None:
    said = failure("--port", "0", "--host", "no such host")
    assert said.startswith("Cannot serve on no such host:0: the host name is not known (")


def test_host_of_another_machine() -> None:
    said = failure("--port", "0", "--host", "192.0.2.1")
    assert said == "Cannot serve on 192.0.2.1:0: Cannot assign requested address."
