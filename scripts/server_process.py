"""Finds the running server for make, tmux and htop.

``server_process.py pid`` prints the process id of what listens on the port; ``pids`` that and those
of its workers, with commas between; ``wait`` returns once the server answers ``/readyz``. Standard
library only, so that any Python 3.11 runs it. The pid is read from ``/proc`` rather than from a
file, so that it is right however the server was started and there is nothing to go stale.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp


def listening_inodes(port: int) -> set[str]:
    """Inodes of the sockets that listen on `port`, over IPv4 and IPv6."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def holds_any(process: Path, links: set[str]) -> bool:
    """Whether the process has one of the sockets open; False for processes of other users."""
    try:
        return any(os.readlink(fd) in links for fd in (process / "fd").iterdir())
    except OSError:  # not ours, or gone in the meantime
        return False


def parent_of(pid: int) -> int:
    """Process id of a process's parent; 0 when it has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])  # the name before may hold anything


def server_pids(port: int) -> list[int]:
    """Process ids of what has the listener on `port`: the server, then its workers if any."""
    links = {f"socket:[{inode}]" for inode in listening_inodes(port)}
    if not links:
        return []
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    pids = sorted(int(p.name) for p in processes if holds_any(p, links))
    # The workers share the socket of the process that started them; numbers of processes wrap.
    return sorted(pids, key=lambda pid: parent_of(pid) in pids)


def is_ready(url: str) -> bool:
    """Whether the server answers ``/readyz`` with 200; never by way of a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def wait(url: str, timeout: float) -> int:
    """Wait until the server is ready; the exit code is 1 when it is not within `timeout` s."""
    deadline = time.monotonic() + timeout
    if not is_ready(url):
        print(f"Waiting for the server at {url} …", flush=True)
    while not is_ready(url):
        if time.monotonic() > deadline:
            print(f"The server at {url} is not ready after {timeout:.0f} s.", file=sys.stderr)
            return 1
        time.sleep(0.2)
    return 0


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["pid", "pids", "wait"])
    parser.add_argument("--host", default=os.environ.get("FDS_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("FDS_PORT", "8000")))
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait at most")
    options = parser.parse_args()
    if options.action == "wait":
        host = "127.0.0.1" if options.host == "0.0.0.0" else options.host
        return wait(f"http://{host}:{options.port}", options.timeout)
    pids = server_pids(options.port)
    if not pids:
        print(f"No server listens on port {options.port}; `make run` starts one.", file=sys.stderr)
        return 1
    print(*(pids if options.action == "pids" else pids[:1]), sep=",")
    return 0


if __name__ == "__main__":
    sys.exit(main())
