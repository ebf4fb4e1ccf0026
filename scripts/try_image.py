r"""Carry out the steps of the Dockerfile without a container engine, and try the result.

    debootstrap --variant=minbase \
        --include=python3.13,python3.13-venv,python3-pip,ca-certificates trixie /tmp/base
    python scripts/try_image.py /tmp/base /tmp/image

Needs root, for chroot. The base directory stands for the base image: a Debian with Python 3.13.
RUN is carried out in a chroot with the variables of the Dockerfile. Of this machine's environment
it has only what pip needs to reach its index. Then the service is started there several times under
the image's user, and checked with the image's health check. The time from the start to the line
that says where it serves is measured. A kernel that is compiled at a start fails the run.

What it does not try: an engine, layers, volumes, the network, limits of a container.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = re.compile(r"PIP_|SSL_CERT_|.*_CA_BUNDLE$|.*_proxy$", re.IGNORECASE)
STARTS = 5


class Stage:
    """One stage of the Dockerfile: a directory, and what its instructions have set."""

    def __init__(self, root: Path, arguments: dict[str, str]) -> None:
        self.root = root
        self.variables: dict[str, str] = {"PATH": PATH}
        self.arguments = dict(arguments)
        self.directory = "/"
        self.user = "0"
        self.entry: list[str] = []
        self.command: list[str] = []
        self.health: list[str] = []

    def chroot(self, command: list[str], **more: str) -> list[str]:
        """Return the command that runs `command` in the stage, as its user."""
        variables = [f"{k}={v}" for k, v in (self.variables | more).items()]
        change = f"cd {shlex.quote(self.directory)} && exec {shlex.join(command)}"
        user = f"--userspec={self.user}:{self.user}"
        return ["env", "-i", *variables, "chroot", user, str(self.root), "sh", "-c", change]


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and arguments of each instruction."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name, rest.strip()


def expanded(text: str, stage: Stage) -> str:
    values = stage.arguments | stage.variables
    return re.sub(r"\$\{?(\w+)\}?", lambda name: values.get(name[1], ""), text)


def carry_out(dockerfile: str, base: Path, to: Path) -> Stage:
    """Carry out all instructions; return the last stage."""
    stages: dict[str, Stage] = {}
    arguments: dict[str, str] = {}
    stage = Stage(base, arguments)
    for name, rest in instructions(dockerfile):
        print(f"{name} {rest}"[:110], flush=True)
        if name == "FROM":
            title = rest.partition(" AS ")[2] or "final"
            stage = stages[title] = Stage(to / title, arguments)
            stage.root.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", "--reflink=auto", base, stage.root], check=True)
            prepare(stage.root)
        else:
            instruct(stage, stages, name, rest)
    return stage


def prepare(root: Path) -> None:
    """Make a Debian look like the base image: a `python`, and a way to the index."""
    python = root / "usr/local/bin/python"
    if not python.exists():
        python.symlink_to("/usr/bin/python3")
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        shutil.copy(name, root / name[1:])
    for file in {value for key, value in os.environ.items() if PASSED_ON.match(key)}:
        if file.startswith("/") and Path(file).is_file():
            (root / file[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file[1:])


def instruct(stage: Stage, stages: dict[str, Stage], name: str, rest: str) -> None:
    if name == "ARG":
        key, _, value = rest.partition("=")
        stage.arguments[key] = value
    elif name == "ENV":
        stage.variables |= dict(part.split("=", 1) for part in shlex.split(expanded(rest, stage)))
    elif name == "WORKDIR":
        stage.directory = rest
        (stage.root / rest[1:]).mkdir(parents=True, exist_ok=True)
    elif name == "USER":
        stage.user = rest
    elif name == "COPY":
        copy(stage, stages, rest.split())
    elif name == "RUN":
        passed_on = {key: value for key, value in os.environ.items() if PASSED_ON.match(key)}
        subprocess.run(stage.chroot(["sh", "-c", rest], **passed_on), check=True)
    elif name == "ENTRYPOINT":
        stage.entry = json.loads(rest)
    elif name == "CMD":
        stage.command = json.loads(rest)
    elif name == "HEALTHCHECK":
        stage.health = json.loads(rest.partition(" CMD ")[2])
    elif name not in ("VOLUME", "EXPOSE"):
        raise SystemExit(f"{name} is not known here.")


def copy(stage: Stage, stages: dict[str, Stage], words: list[str]) -> None:
    source = ROOT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    *names, target = words
    into = (
        stage.root / stage.directory[1:] / target if target[0] != "/" else stage.root / target[1:]
    )
    for name in names:
        origin = source / name.lstrip("/")
        goal = into / origin.name if target.endswith("/") else into
        goal.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if source == ROOT else None
            shutil.copytree(origin, goal, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(origin, goal)


def size_mb(path: Path) -> float:
    used = subprocess.run(["du", "-sx", "-B1", path], check=True, capture_output=True, text=True)
    return int(used.stdout.split()[0]) / 1e6


def start(stage: Stage, port: int) -> float:
    """Start the service, wait until it is ready, end it; return the seconds to the first reply."""
    command = stage.chroot([*stage.entry, *stage.command], FDS_PORT=str(port), FDS_HOST="127.0.0.1")
    check = stage.chroot(stage.health, FDS_PORT=str(port))
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        seconds = time.perf_counter() - began
        checked = subprocess.run(check, check=False)
        server.terminate()
        _, log = server.communicate(timeout=30)
    if not line.startswith("Serving on") or checked.returncode or server.returncode:
        raise SystemExit(f"The service did not start, answer and end well:\n{line}{log}")
    if "Compiling" in log:
        raise SystemExit("The service compiled kernels that the image should hold.")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("base", type=Path, help="a directory with a Debian and Python 3.13")
    parser.add_argument("to", type=Path, help="a new directory for the result")
    parser.add_argument("--port", type=int, default=8017)
    options = parser.parse_args()
    stage = carry_out((ROOT / "Dockerfile").read_text("utf-8"), options.base, options.to)
    # As a registry does: files keep whole seconds of their times.
    for path in stage.root.rglob("opt/fds/**/*.py"):
        seconds = int(path.stat().st_mtime)
        os.utime(path, (seconds, seconds))
    base, all_of_it = size_mb(options.base), size_mb(stage.root)
    print(f"size: {all_of_it:.0f} MB, of which {base:.0f} MB are this base")
    for part in ("opt/fds", "var/cache/fds"):
        print(f"  /{part}: {size_mb(stage.root / part):.1f} MB")
    times = [start(stage, options.port) for _ in range(STARTS)]
    print("seconds to serving:", *(f"{seconds:.2f}" for seconds in times))


if __name__ == "__main__":
    main()
