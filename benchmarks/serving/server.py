"""The servers that are compared, each pinned to the same core and asked one at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving import nginx
from serving.process import SetupError, children, processor_seconds, python, started
from serving.work import Row

__all__ = ["BARE", "NGINX", "OURS", "SLOW", "Replies", "Server", "bare", "fixed", "service"]

OURS, SLOW, BARE, NGINX = "ours", "FastAPI alone", "bare ASGI", "nginx"

Replies = dict[str, tuple[int, str]]
"""By path: status and body."""

_SERVING = "Serving on "


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes
    ----------
    name : str
        As the tables show it.
    url : str
        Where it listens.
    url_large : str
        Where it wants large bodies sent; the same for all but nginx.
    pids : tuple of int
        The processes that do the work.
    """

    name: str
    url: str
    url_large: str
    pids: tuple[int, ...]

    def url_of(self, row: Row) -> str:
        """Return where a row's requests go."""
        return self.url_large if row.is_large else self.url

    def processor_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        return sum(map(processor_seconds, self.pids))

    @property
    def is_service(self) -> bool:
        """Whether it is the service itself, with or without its fast lane."""
        return self.name in (OURS, SLOW)


@contextmanager
def service(name: str, core: int) -> Iterator[Server]:
    """Run the service as it is set up by default, or without its fast lane."""
    command = python("financial_data_service", "serve", "--port", "0")
    with _python_server(name, command, core, {} if name == OURS else {"FDS_FAST_LANE": "0"}) as it:
        yield it


@contextmanager
def service_with(name: str, *flags: str) -> Iterator[Server]:
    """Run the service with flags, on whatever cores the system takes."""
    command = python("financial_data_service", "serve", "--port", "0", *flags)
    with _python_server(name, command, None, {}) as it:
        yield it


@contextmanager
def bare(core: int, replies: Replies, directory: Path) -> Iterator[Server]:
    """Run uvicorn with fixed replies."""
    path = directory / "replies.json"
    path.write_text(json.dumps(replies))
    with _python_server(BARE, python("serving.bare_asgi", str(path)), core, {}) as it:
        yield it


@contextmanager
def fixed(
    executable: str,
    core: int | None,
    replies: Replies,
    directory: Path,
    *,
    name: str = NGINX,
    processes: int = 1,
) -> Iterator[Server]:
    """Run nginx with fixed replies."""
    ports = nginx.Ports(nginx.free_port(), nginx.free_port())
    configuration = nginx.configure(directory, replies, ports, processes)
    command = [executable, "-c", str(configuration), "-p", str(directory)]
    with ExitStack() as stack:
        stderr = stack.enter_context(tempfile.TemporaryFile())
        process = stack.enter_context(started(command, core, stderr))
        try:
            workers = nginx.wait_for(ports.reading, process.pid, processes)
        except (SetupError, OSError) as error:
            stderr.seek(0)
            raise SetupError(f"nginx did not start: {error} {stderr.read().decode()}") from error
        small, large = (f"http://127.0.0.1:{port}" for port in ports)
        yield Server(name, small, large, workers)


@contextmanager
def _python_server(
    name: str, command: list[str], core: int | None, variables: dict[str, str]
) -> Iterator[Server]:
    with (
        tempfile.TemporaryFile() as stderr,
        started(command, core, stderr, variables) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(_SERVING):
            process.wait()
            stderr.seek(0)
            raise SetupError(f"{name} did not start: {line}{stderr.read().decode()}")
        url = line.removeprefix(_SERVING).strip()
        yield Server(name, url, url, (process.pid, *children(process.pid)))
