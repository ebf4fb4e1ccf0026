"""Code blocks of Markdown pages: read from a page, run against a service, compared with the page.

A fenced block is a program (``sh``, ``python``) or the output of the program before it (``json``,
``text``). In an output, ``…`` stands for anything. A block without a language is a picture or a
layout. A block of another language, or one that cannot run in a test, has the line
``<!-- not run: the reason -->`` before it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from support.paths import EXAMPLES, ROOT
from support.service_process import environment, running

PROGRAMS = ("sh", "python")
OUTPUTS = ("json", "text")

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_ASKS = re.compile(r"127\.0\.0\.1:8000|/var/lib/fds|^fds ", re.MULTILINE)

# A refusal of the service is a failure, and `curl -N`, which does not end by itself, is ended.
_CURL = """\
curl() {
    if [ "$1" = -N ]; then
        command curl --silent --max-time 1.5 "$@" || [ $? -eq 28 ]
    else
        command curl --silent --show-error --fail-with-body "$@"
    fi
}
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    line: int
    language: str
    text: str
    reason: str | None
    """Why the block is not run."""


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page, named by its path from the repository's root."""
    text = (ROOT / page).read_text("utf-8")
    return [
        Block(text.count("\n", 0, found.start()) + 1, found["language"], found["text"], found[1])
        for found in _BLOCK.finditer(text)
    ]


def run_page(page: str, directory: Path) -> None:
    """Run the programs of a page, top to bottom, against a service of its own.

    Raises
    ------
    AssertionError
        When a program fails, or when its output is not the one that the page shows.
    """
    (directory / "examples").symlink_to(EXAMPLES)
    blocks = blocks_of(page)
    with _service_for(blocks, directory) as url:
        before: Block | None = None
        output = ""
        for block in blocks:
            where = f"{page}:{block.line}"
            if not block.language:
                continue
            if block.language in OUTPUTS and block.reason is None:
                assert before is not None, f"{where}: an output without a program"
                if before.reason is None:
                    _compare(block, output, where)
                continue
            if block.reason is None:
                assert block.language in PROGRAMS, f"{where}: `{block.language}` cannot be run"
                output = _run(block, directory, url, where)
            before = block


@contextmanager
def _service_for(blocks: list[Block], directory: Path) -> Iterator[str]:
    """Run a service if a program talks to one; its start is most of the time of a short page."""
    programs = [block.text for block in blocks if block.language in PROGRAMS]
    if not any(_ASKS.search(text) for text in programs if not text.startswith("fds serve")):
        yield "http://127.0.0.1:9"  # where nobody answers
        return
    data = str(directory / "data")
    flags = ("--port", "0", "--largest-window", "1000000", "--data-dir", data)
    with running(directory, flags) as service:
        yield service.url


def _run(block: Block, directory: Path, url: str, where: str) -> str:
    text = block.text
    for words, others in _replacements(directory, url).items():
        text = text.replace(words, others)
    if block.language == "python":
        command = [sys.executable, "-W", "error::DeprecationWarning", "-c", text]
    elif text.startswith("fds serve"):
        return "".join(_serve(line, directory) for line in _commands(text))
    else:
        command = ["bash", "-euo", "pipefail", "-c", _CURL + text]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=directory,
        env=environment(FDS_URL=url, PATH=path, COLUMNS="120"),
    )
    assert result.returncode == 0, f"{where}\n{result.stdout}{result.stderr}"
    return result.stdout


def _replacements(directory: Path, url: str) -> dict[str, str]:
    return {
        "http://127.0.0.1:8000": url,
        "ws://127.0.0.1:8000": url.replace("http", "ws"),
        ".venv/bin/": "",
        "/var/lib/fds": str(directory / "data"),
    }


def _commands(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        yield re.sub(r" +# .*", "", line)


def _serve(line: str, directory: Path) -> str:
    """Start the service as the page says, but on a free port and in a directory of its own."""
    own = directory / "served"
    own.mkdir(exist_ok=True)
    line = re.sub(r"--data-dir \S+", f"--data-dir {own / 'data'}", line)
    line = line.replace("--workers 4", "--workers 2")  # as good, and less to start
    flags = [*line.removeprefix("fds serve").split(), "--port", "0"]
    with running(own, flags, FDS_LARGEST_WINDOW="1000000") as service:
        assert service.get("/readyz")["status"] == "ok"
    return f"Serving on {service.url}\n"


def _compare(block: Block, output: str, where: str) -> None:
    if block.language == "json":
        expected, got = _values(block.text), _values(output)
        assert len(expected) == len(got), f"{where}: {output}"
        for one, other in zip(expected, got, strict=True):
            assert _is_like(one, other), f"{where}: expected {one}, got {other}"
        return
    expected_text, got_text = (
        "\n".join(map(str.rstrip, t.strip().splitlines())) for t in (block.text, output)
    )
    pattern = re.escape(expected_text).replace("…", ".*?")
    assert re.fullmatch(pattern, got_text, re.DOTALL), f"{where}: got\n{got_text}"


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _values(text: str) -> list[Any]:
    """Return the JSON values of a text, one behind the other."""
    decoder, values, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].lstrip()
    return values


def _is_like(expected: Any, got: Any) -> bool:
    if expected == "…":
        return True
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and expected.keys() == got.keys()
            and all(_is_like(value, got[key]) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and len(expected) == len(got)
            and all(map(_is_like, expected, got))
        )
    return bool(expected == got)
