"""Try an installed wheel: the command, a service of its own process, the library.

Run by the interpreter of an environment that holds the wheel and its dependencies, nothing else:
files that were left out of the wheel are missed here, and so are dependencies that only the tests
declare.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

BIN = Path(sys.executable).parent
PRICES = [189.5, 189.7, 189.6]
PAGES = ("/", "/docs", "/redoc", "/openapi.json", "/asyncapi.yaml", "/metrics", "/readyz")


def try_the_command(directory: str) -> None:
    printed = subprocess.run(
        [BIN / "fds", "--help"], check=True, cwd=directory, capture_output=True, text=True
    ).stdout
    for command in ("serve", "load", "stats", "inspect", "verify", "export", "doctor"):
        assert command in printed, printed


def try_the_service(directory: str) -> None:
    command = [str(BIN / "fds"), "serve", "--port", "0", "--data-dir", "prices"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Serving on "), line
            try_requests(line.removeprefix("Serving on ").strip())
        finally:
            process.send_signal(signal.SIGTERM)
            exit_code = process.wait(timeout=30)
    assert exit_code == 0, exit_code


def try_requests(url: str) -> None:
    batch = json.dumps({"symbol": "AAPL", "values": PRICES}).encode()
    request = urllib.request.Request(
        f"{url}/add_batch/", data=batch, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.status == 201, reply.status
    with urllib.request.urlopen(f"{url}/stats/AAPL/1", timeout=30) as reply:
        stats = json.load(reply)
    assert (stats["min"], stats["max"], stats["last"]) == (189.5, 189.7, 189.6), stats
    for path in PAGES:
        with urllib.request.urlopen(f"{url}{path}", timeout=30) as reply:
            assert reply.status == 200, path
            assert reply.read(), path


def try_the_library() -> None:
    import financial_data_service as fds

    assert Path(fds.__file__).is_relative_to(sys.prefix), fds.__file__
    stats = fds.RunningStats(largest_window=1000)
    stats.append(PRICES)
    assert stats.stats(1).min == min(PRICES)
    assert fds.Client is not None
    print(f"The wheel of {fds.__version__} works on Python {sys.version.split()[0]}.")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        try_the_command(directory)
        try_the_service(directory)
    try_the_library()
