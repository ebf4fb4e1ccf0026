"""``settings.md``: every setting with its flag, variable, default and range."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from financial_data_service.cli import app
from financial_data_service.settings import Settings
from reference_pages.markdown import code, note, table

__all__ = ["page"]

_HEAD = """\
# Settings

Each setting is a flag of `fds serve` and an environment variable. The flag wins over the variable,
the variable over the default. A value that is out of range ends the start with a sentence that
names the setting. `fds serve --help` shows the same table.

"""

_OTHERS = """\
## Variables of the other commands

| variable | meaning |
|---|---|
| `FDS_URL` | the service that `fds load`, `fds stats`, `fds doctor` and the monitor talk to; `http://127.0.0.1:8000` by default |
| `FDS_API_KEY` | the key that they send |
| `FDS_DATA_DIR` | the data directory of `fds inspect`, `fds verify` and `fds export` |
| `FDS_DEBUG=1` | show the traceback of an error instead of one sentence |
| `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID` | set by systemd: where `fds serve` says that it serves, lives and ends |
| `NUMBA_CACHE_DIR` | the directory of the compiled kernels, if the installed package is read-only |
"""  # noqa: E501


def page() -> str:
    """Return the page."""
    text = note("`settings.py`") + _HEAD
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    groups: dict[str, list[Any]] = {}
    for option in serve.params:
        groups.setdefault(option.rich_help_panel, []).append(option)
    for group, options in groups.items():
        rows = [_row(option, Settings.model_fields[option.name]) for option in options]
        text += f"## {group}\n\n" + table(
            ["flag and variable", "default", "range", "meaning"], rows
        )
    return text + _OTHERS


def _row(option: Any, field: FieldInfo) -> list[str]:
    variable = f"{Settings.model_config['env_prefix']}{option.name}".upper()
    names = "<br>".join(map(code, [*option.opts, *option.secondary_opts, variable]))
    return [names, _default(field), _range(field), field.description or ""]


def _default(field: FieldInfo) -> str:
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    if field.default in (None, (), ""):
        return "none"
    return code(",".join(field.default) if isinstance(field.default, tuple) else field.default)


def _range(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not None and not _is_optional(field):
        choices = [str(choice) for choice in get_args(field.annotation) if choice is not Ellipsis]
        if isinstance(field.default, str):
            return ", ".join(map(code, choices))
        return "addresses, networks" if field.default else "origins"
    if Path in get_args(field.annotation):
        return "a path"
    bounds = {type(bound).__name__: bound for bound in field.metadata}
    low = getattr(bounds.get("Ge"), "ge", None)
    high = getattr(bounds.get("Le"), "le", None)
    if "Gt" in bounds:
        return f"more than {bounds['Gt'].gt}"
    if low is None:
        return ""
    return f"{low} or more" if high is None else f"{low} to {high}"


def _is_optional(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)
