"""Fixtures of several test modules: the real service as a process, its stub, Hypothesis's profiles.

By default Hypothesis looks at the same examples in every run. ``HYPOTHESIS_PROFILE=deep`` looks at
many more, new ones each time; a failure prints the line that brings it back.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from support.stub_service import StubService

SERVING = "Serving on "

settings.register_profile(
    "ci",
    deadline=None,  # the first example may compile a kernel
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no defect
)
settings.register_profile("deep", settings.get_profile("ci"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Under nohup a hang-up is ignored, and so it would be by every process that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# A shell starts what it runs in the background with Ctrl-C ignored: the same holds.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a service of its own process, which must end with exit code 0 when told to."""
    log = tmp_path_factory.mktemp("live_server") / "stderr.log"
    flags = ["--port", "0", "--largest-window", "100000"]
    command = [sys.executable, "-m", "financial_data_service", "serve", *flags]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith(SERVING), log.read_text() or f"not the serving line: {line!r}"
            yield line.removeprefix(SERVING).strip()
        finally:
            os.kill(process.pid, signal.SIGTERM)
            exit_code = process.wait(timeout=20)
        assert exit_code == 0, log.read_text()


@pytest.fixture
def stub() -> Iterator[StubService]:
    """A stand-in for the service, empty."""
    with StubService() as service:
        yield service
