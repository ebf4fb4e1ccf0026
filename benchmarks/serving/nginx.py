"""nginx with fixed replies: what a web server in C costs that does nothing.

By itself (``return``) it discards a body in pieces of 4 KB, a system call each. Larger bodies are
cheaper to read whole, into memory, which its echo module does (Debian's nginx-light brings it). So
it serves on two ports, and each row asks where nginx is at its best.
"""

from __future__ import annotations

import socket
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from serving.process import SetupError, children

__all__ = ["Ports", "configure", "free_port", "wait_for"]

_ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
_READY_SECONDS_MAX = 10.0

_CONFIGURATION = """\
{modules}
daemon off;
worker_processes {processes};
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_max_body_size 4m;
  client_body_buffer_size 512k;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{servers}
}}
"""


class Ports(NamedTuple):
    """Where bodies are discarded piece by piece, and where they are read whole."""

    discarding: int
    reading: int


def configure(
    directory: Path, replies: dict[str, tuple[int, str]], ports: Ports, processes: int = 1
) -> Path:
    """Write a configuration and return its path."""
    has_echo = _ECHO_MODULE.exists()
    servers = [_server(ports.discarding, replies, reads_whole=False)]
    servers.append(_server(ports.reading, replies, reads_whole=has_echo))
    text = _CONFIGURATION.format(
        directory=directory,
        processes=processes,
        modules=f"load_module {_ECHO_MODULE};" if has_echo else "",
        servers="\n".join(servers),
    )
    path = directory / "nginx.conf"
    path.write_text(text, encoding="ascii")
    return path


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_for(port: int, pid: int, count: int) -> tuple[int, ...]:
    """Wait until nginx serves, and return its workers' processes.

    Parameters
    ----------
    port : int
        Where it listens: before it has any worker.
    pid : int
        Its own process.
    count : int
        Workers that it is to have.

    Raises
    ------
    SetupError
        When that takes too long.
    """
    limit = monotonic() + _READY_SECONDS_MAX
    problem = ""
    while monotonic() < limit:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) != 0:
                problem = f"nothing listens on port {port}."
            elif len(workers := children(pid)) != count:
                problem = f"{len(workers)} processes instead of {count}."
            else:
                return tuple(workers)
        sleep(0.02)
    raise SetupError(problem)


def _server(port: int, replies: dict[str, tuple[int, str]], *, reads_whole: bool) -> str:
    locations = []
    for path, (status, body) in replies.items():
        reply = f"return {status} '{body}';"
        if reads_whole and status == 201:
            reply = f"echo_read_request_body; echo_status {status}; echo -n '{body}';"
        locations.append(f"    location = {path} {{ {reply} }}")
    return "\n".join([f"  server {{ listen 127.0.0.1:{port};", *locations, "  }"])
