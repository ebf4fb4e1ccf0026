"""``fds serve``: run the service.

The flags are generated from the fields of :class:`~financial_data_service.settings.Settings`, which
define name, help, default and check of each.
"""

from __future__ import annotations

import os
import re
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from financial_data_service.cli.console import UsageError
from financial_data_service.settings import Settings

__all__ = ["FLAGS", "flag_of", "is_secret", "serve", "settings_from", "variable_of"]

_METAVARS: dict[Any, str] = {int: "INTEGER", float: "NUMBER"}

_PANELS = {
    "Address": ("host", "port", "root_path", "forwarded_allow_ips"),
    "Prices": ("max_symbols", "largest_window", "batch_max", "data_dir", "durability"),
    "Processes": ("workers", "fast_lane"),
    "Who may ask": ("api_key", "cors_origins"),
    "TLS": ("ssl_certfile", "ssl_keyfile", "ssl_keyfile_password"),
    "Limits": ("body_max_bytes", "request_seconds", "in_flight_max"),
    "Streams": ("stream_connections_max", "stream_subscriptions_max", "stream_message_bytes_max"),
    "Log": ("log_level", "log_format", "access_log"),
}
"""The groups of flags in --help.

In a single table, the longest flag name would leave too little width for the help texts.
"""


def serve(**flags: str | bool | None) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    Each setting is a flag and an environment variable; the flag wins.
    """
    settings = settings_from(flags)
    if settings.workers > 1:
        # The supervisor does not load the engine; its workers do.
        from financial_data_service.server.processes import supervisor

        raise typer.Exit(supervisor.serve(settings))
    from financial_data_service.server.processes.startup import gc_paused

    with gc_paused():
        # After the settings are checked, because it loads the engine.
        from financial_data_service.server.processes import serve as single

        exit_code = single.serve(settings)
    raise typer.Exit(exit_code)


def settings_from(flags: dict[str, str | bool | None]) -> Settings:
    """Return the settings, from flags, the environment and the defaults.

    Raises
    ------
    UsageError
        When a value is invalid; the sentence names its flag or variable.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # Settings itself parses the text.
    except ValidationError as error:
        raise UsageError(" ".join(_sentence(detail, given) for detail in error.errors())) from None


def _sentence(detail: Any, given: dict[str, str | bool]) -> str:
    complaint = detail["msg"].replace("Input should be", "must be", 1).split(", unable")[0]
    if not detail["loc"]:  # Several settings contradict each other; the message names them.
        return re.sub("`(.+?)`", lambda name: _source(name[1], given), complaint) + "."
    name = str(detail["loc"][0])
    got = "" if is_secret(name) else f", got {detail['input']!r}"
    return f"{_source(name, given)} {complaint}{got}."


def is_secret(name: str) -> bool:
    """Whether the value of a setting must not be shown."""
    field = Settings.model_fields.get(name)
    return field is not None and SecretStr in get_args(field.annotation)


def _source(name: str, given: dict[str, str | bool]) -> str:
    """Return the environment variable if the value came from it, otherwise the flag."""
    variable = variable_of(name)
    is_set = variable in map(str.upper, os.environ)
    return variable if is_set and name not in given else flag_of(name)


def flag_of(name: str) -> str:
    """Return the flag of a setting."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{Settings.model_config['env_prefix']}{name}".upper()


def _parameter(panel: str, name: str) -> Parameter:
    """Return the flag of one setting in the form that Typer expects."""
    field = Settings.model_fields[name]
    is_switch = field.annotation is bool
    # A setting that is on by default needs a flag that turns it off.
    off = f"/--no-{name.replace('_', '-')}" if is_switch and field.default else ""
    option = typer.Option(
        flag_of(name) + off,
        metavar="" if is_switch else _metavar(name, field),
        show_default=False,
        help=_help(name, field),
        rich_help_panel=panel,
    )
    # Settings parses and checks the text, for flags and variables alike.
    kind: Any = bool | None if is_switch else str | None
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _metavar(name: str, field: FieldInfo) -> str:
    if Path in get_args(field.annotation):
        return "DIRECTORY" if name.endswith("_dir") else "FILE"
    return _METAVARS.get(field.annotation, "TEXT")


def _help(name: str, field: FieldInfo) -> str:
    text = field.description or ""
    if get_origin(field.annotation) is Literal:
        text += f" One of {', '.join(get_args(field.annotation))}."
    if isinstance(field.default, bool):
        default = "on" if field.default else "off"
    elif isinstance(field.default, tuple):
        default = ",".join(field.default) or "none"
    else:
        default = "none" if field.default is None else str(field.default) or "empty"
    source = f"[yellow]{variable_of(name)}[/yellow][dim], default {_escaped(default)}[/dim]"
    return f"{_escaped(text)}\n\n{source}"


def _escaped(text: str) -> str:
    """Escape markup as Rich does, without importing Rich at every start."""
    return re.sub(r"\[(?=[a-z#/@])", r"\\[", text)


FLAGS = [_parameter(panel, name) for panel, names in _PANELS.items() for name in names]
"""The flags, a setting each, as parameters of a command."""

# Typer reads the signature of a command, here the list of settings.
serve.__signature__ = Signature(FLAGS)  # type: ignore[attr-defined]
serve.__annotations__ = {parameter.name: parameter.annotation for parameter in FLAGS}
