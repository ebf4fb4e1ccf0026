"""``fds doctor``: whether the service would start here, and everything a bug report needs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from pydantic import SecretStr

from financial_data_service.cli import diagnosis
from financial_data_service.cli.console import (
    CliError,
    UsageError,
    counted,
    output,
    print_text,
    printable,
    sentence_of,
)
from financial_data_service.cli.diagnosis import FAULT, NOTE, Finding
from financial_data_service.cli.options import DEFAULT_URL, Url, connect
from financial_data_service.cli.serve import FLAGS, flag_of, is_secret, settings_from, variable_of
from financial_data_service.errors import ServiceError, UnauthorizedError
from financial_data_service.settings import Settings
from financial_data_service.version import __version__

if TYPE_CHECKING:
    from financial_data_service.client.blocking import PlanRunner

__all__ = ["doctor"]

_MARKS = {"ok": "ok", NOTE: "note", FAULT: "FAULT"}
_STYLES = {"ok": "green", NOTE: "yellow", FAULT: "bold red"}
_MARK_COLUMNS = 7
_NAME_COLUMNS = 16


class SettingInForce(NamedTuple):
    """One setting as ``fds serve`` would use it.

    Attributes
    ----------
    name : str
        Its flag.
    value : str
        Its value as text. Of a secret it only says whether there is one.
    origin : str
        ``flag``, the name of the variable, or ``default``.
    """

    name: str
    value: str
    origin: str


def doctor(
    *,
    url: str = DEFAULT_URL,
    as_json: bool = False,
    **flags: str | bool | None,
) -> None:
    """Check whether the service would start here, and print what a bug report needs.

    It takes the flags of fds serve, and reads the same variables. Each line says ok, or what to do
    about it. The exit code is 1 if something would stop the service. Nothing is compiled, made or
    changed, and neither the API key nor a password is printed.
    """
    try:
        settings = settings_from(flags)
        found, in_force = list(diagnosis.findings(settings)), list(_in_force(settings, flags))
    except UsageError as error:
        # The rest is judged by the defaults: one wrong setting hides no other fault.
        settings, in_force = Settings.model_construct(), []
        found = [Finding("settings", "invalid", FAULT, str(error))]
        found += diagnosis.findings(settings)
    service, answering = _service(url)
    found += [diagnosis.address(settings, answering), service]
    if as_json:
        _print_json(found, in_force)
    else:
        _print_lines(found, in_force)
    if any(finding.state == FAULT for finding in found):
        raise typer.Exit(1)


def _in_force(settings: Settings, flags: dict[str, str | bool | None]) -> Iterator[SettingInForce]:
    variables = {name.upper() for name in os.environ}
    for name in Settings.model_fields:
        origin = "default"
        if flags.get(name) is not None:
            origin = "flag"
        elif variable_of(name) in variables:
            origin = variable_of(name)
        yield SettingInForce(flag_of(name), _text_of(name, getattr(settings, name)), origin)


def _text_of(name: str, value: object) -> str:
    if is_secret(name) or isinstance(value, SecretStr):
        return "none" if value is None else "set, not shown"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        value = ",".join(value)
    return "none" if value is None or value == "" else str(value)


def _service(url: str) -> tuple[Finding, str | None]:
    """Ask for a service at `url` once; return the finding, and the URL if one answers."""
    from financial_data_service.client import asking
    from financial_data_service.client.blocking import PlanRunner

    try:
        with connect(PlanRunner, url, 0.0) as service:
            return _answer(service, asking.ready, asking.symbols), service.url
    except CliError as error:  # The URL or the key is invalid. The URL may hold a password.
        reason = re.sub(r"//\S*@", "//…@", str(error))
        return Finding("service", "not asked", NOTE, reason), None
    except UnauthorizedError as error:
        advice = "Set FDS_API_KEY to the key of the service, for fds load and fds stats too."
        return Finding("service", f"{error.url} answers 401", NOTE, advice), error.url
    except ServiceError as error:
        reason = sentence_of(error).partition(" Is the service running?")[0]
        advice = "Start it if it is to run: fds serve. If it is elsewhere, give --url or FDS_URL."
        return Finding("service", reason, NOTE, advice), None


def _answer(service: PlanRunner, ready: Any, symbols: Any) -> Finding:
    """Return what a service says of itself."""
    table = service.run(symbols(service.session))
    readiness = service.run(ready(service.session))
    what = f"{service.url} answers, {counted(len(table), 'symbol')}"
    if not readiness:
        return Finding("service", what, NOTE, f"It is not ready: {readiness.detail}")
    if not readiness.refused:
        return Finding("service", what)
    files = "; ".join(f"{each.file}: {each.reason}" for each in readiness.refused)
    return Finding("service", what, NOTE, f"It cannot serve {files}.")


def _print_json(found: list[Finding], in_force: list[SettingInForce]) -> None:
    content = {
        "version": __version__,
        "would_start": all(finding.state != FAULT for finding in found),
        "checks": [finding._asdict() for finding in found],
        "settings": [setting._asdict() for setting in in_force],
    }
    print_text(json.dumps(content, indent=2))


def _print_lines(found: list[Finding], in_force: list[SettingInForce]) -> None:
    from rich.text import Text

    console = output()
    for finding in found:
        line = Text(f"{_MARKS[finding.state]:<{_MARK_COLUMNS}}", _STYLES[finding.state])
        line.append(f"{finding.name:<{_NAME_COLUMNS}}{printable(finding.value)}", "default")
        console.print(line, soft_wrap=True)
        if finding.advice:
            console.print(
                Text(f"{'':{_MARK_COLUMNS}}→ {printable(finding.advice)}"), soft_wrap=True
            )
    if in_force:
        console.print("\nSettings, and where each is from")
    for setting in in_force:
        line = Text(f"{'':{_MARK_COLUMNS}}{setting.name:<28}{printable(setting.value)}")
        line.append(f"  ({setting.origin})", "dim" if setting.origin == "default" else "bold")
        console.print(line, soft_wrap=True)


_OWN = [
    Parameter("url", Parameter.KEYWORD_ONLY, default=DEFAULT_URL, annotation=Url),
    Parameter(
        "as_json",
        Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool, typer.Option("--json", metavar="", help="Print the same as JSON.")
        ],
    ),
]
# Typer reads the signature of a command.
doctor.__signature__ = Signature([*_OWN, *FLAGS])  # type: ignore[attr-defined]
doctor.__annotations__ = {each.name: each.annotation for each in (*_OWN, *FLAGS)}
