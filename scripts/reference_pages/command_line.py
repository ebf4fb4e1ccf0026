"""``command-line.md``: the commands of ``fds`` as their ``--help`` describes them."""

from __future__ import annotations

import re
from typing import Any

import typer

from financial_data_service.cli import app
from reference_pages.markdown import code, note, table

__all__ = ["page"]

_HEAD = """\
# Command line

`make shell` opens a shell in which `fds` is on the path; elsewhere it is `.venv/bin/fds`. Run any
command with `--help` to see its options.

The exit code is 0 on success, 1 if the command failed, 2 if it was called wrongly, and 130 after
Ctrl-C. A failure is one sentence on stderr.

"""

_LOAD_GENERATORS = """\
## Load generators and panes

| command | what it does |
|---|---|
| `make batches` | sends `POST /add_batch/` as fast as the service takes them, and reports |
| `make stats` | sends `GET /stats` as fast as the service answers, and reports |
| `make start-all` | shows the service, both generators and htop side by side in tmux |
| `make kill-session` | ends that session, the service properly |
| `make monitor` | shows the service and its workers in htop |
| `make monitor-ui` | serves the monitor on <http://127.0.0.1:8501> |

![make start-all: service, statistics, batches, htop](../images/tmux.png)
"""


def page() -> str:
    """Return the page."""
    command: Any = typer.main.get_command(app)
    text = note("the help of the commands") + _HEAD + _plain(command.help) + "\n\n"
    for name, each in command.commands.items():
        text += f"## fds {name}\n\n{_plain(each.help)}\n\n"
        text += f"```console\n{_usage(name, each)}\n```\n\n"
        if name == "serve":
            text += "The flags are in [Settings](settings.md).\n\n"
        else:
            text += table(["argument", "default", "meaning"], map(_row, each.params))
        text += f"```console\n{_examples(each.epilog)}\n```\n\n"
    return text + _LOAD_GENERATORS


def _plain(text: str) -> str:
    """Return Rich's markup as Markdown: bold stays, a variable is code, colours go."""
    text = re.sub(r"\[/?bold\]", "**", text)
    text = re.sub(r"\[/?yellow\]", "`", text)
    return re.sub(r"\[/?dim\]", "", text).strip()


def _examples(epilog: str) -> str:
    lines = re.sub(r"\[/?[a-z]+\]", "", epilog).splitlines()
    return "\n".join(f"$ {line.strip()}" for line in lines[1:])


def _usage(name: str, command: Any) -> str:
    words = [f"fds {name}"]
    if any(_is_option(each) for each in command.params):
        words.append("[OPTIONS]")
    for each in command.params:
        if not _is_option(each):
            metavar = each.metavar or each.name.upper()
            words.append(metavar if each.required else f"[{metavar}]")
    return " ".join(words)


def _is_option(parameter: Any) -> bool:
    return bool(parameter.opts[0].startswith("-"))


def _row(parameter: Any) -> list[str]:
    metavar = parameter.metavar or ""
    if _is_option(parameter):
        names = ", ".join(map(code, sorted(parameter.opts, key=len, reverse=True)))
        names += f" {code(metavar)}" if metavar else ""
    else:
        names = code(metavar)
    default = "" if parameter.default in (None, False) else code(parameter.default)
    if parameter.envvar:
        default = f"{code(parameter.envvar)}, or {default}" if default else code(parameter.envvar)
    if parameter.required and not parameter.envvar:
        default = "required"
    return [names, default, _plain(parameter.help or "")]
