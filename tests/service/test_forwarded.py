"""What proxies say about a client: believed if the proxy is trusted, ignored otherwise.

The scheme shows in the address of a redirect, the client's address in the access log.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.raw_http import get
from support.service_process import LIGHT, end, started

HEADERS = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")


@pytest.mark.parametrize("fast_lane", ["0", "1"])
@pytest.mark.parametrize(
    ("trusted", "is_believed"),
    [(None, True), ("127.0.0.0/8", True), ("*", True), ("192.0.2.1", False), ("", False)],
)
def test_only_trusted_proxies_are_believed(
    tmp_path: Path, trusted: str | None, is_believed: bool, fast_lane: str
) -> None:
    flags = LIGHT if trusted is None else (*LIGHT, "--forwarded-allow-ips", trusted)
    variables = {"FDS_ACCESS_LOG": "1", "FDS_FAST_LANE": fast_lane}
    with started(tmp_path, flags, **variables) as service:
        with service.connect() as connection:
            location = connection.ask(get("/symbols/", *HEADERS)).headers["location"]
            connection.ask(get("/symbols", *HEADERS))
            connection.ask(get("/stats/S/1", *HEADERS))
        end(service)
        assert service.process.stdout is not None
        log = service.process.stdout.read()
    assert location.startswith("https://" if is_believed else "http://")
    lines = [line for line in log.splitlines() if '"GET /s' in line]
    assert len(lines) == 3
    assert all(("192.0.2.7:0" in line) == is_believed for line in lines), lines
