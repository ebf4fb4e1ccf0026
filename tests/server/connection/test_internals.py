"""What the server relies on of uvicorn's and websockets' internals: all of it is listed, nothing
else is, and a release that lacks some of it ends the start with a sentence.

The code is read, not run: an attribute counts as one of the libraries' when its name is that of a
method, or of an attribute that some method sets, of a class whose internals are listed.
"""

from __future__ import annotations

import ast
import dis
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from types import FunctionType

import pytest
from uvicorn import Config
from websockets.server import ServerProtocol

from financial_data_service.server.connection.internals import (
    INTERNALS,
    HttpToolsProtocol,
    Internals,
    check,
)
from support.paths import ROOT

SERVER = ROOT / "src" / "financial_data_service" / "server"
WINGS = ("connection", "processes")

OUR_OWN = {"_serve", "accept", "access_log", "discard", "name", "run", "serve"}
"""Names that the libraries have too, and that mean something else here, or are public."""


@cache
def used() -> frozenset[str]:
    """Attributes read or set, and functions defined, where connections are made and served."""
    names = set()
    for wing in WINGS:
        for path in (SERVER / wing).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Attribute):
                    names.add(node.attr)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(node.name)
    return frozenset(names)


def owned_by(owner: type) -> Iterator[str]:
    for kind in owner.__mro__:
        if kind.__module__.startswith(("uvicorn", "websockets")):
            for name, member in vars(kind).items():
                if not name.startswith("__"):
                    yield name
                if isinstance(member, FunctionType):
                    for step in dis.get_instructions(member):
                        if step.opname == "STORE_ATTR":
                            yield str(step.argval)


@pytest.mark.parametrize("owner", [kind for kind in INTERNALS if kind is not Config])
def test_what_is_used_of_a_class_is_listed(owner: type) -> None:
    """Config's fields are public, but for those that are listed."""
    listed = {name for kind in INTERNALS.values() for names in kind for name in names}
    assert set(owned_by(owner)) & used() - OUR_OWN <= listed


@pytest.mark.parametrize("owner", INTERNALS)
def test_what_is_listed_of_a_class_is_used(owner: type) -> None:
    assert {name for names in INTERNALS[owner] for name in names} <= used()


def test_one_module_imports_what_is_private() -> None:
    private = ("uvicorn.protocols", "uvicorn.server", "websockets.protocol", "websockets.server")
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(private):
                assert path.name == "internals.py", f"{path}:{node.lineno}"


def test_the_installed_versions_have_all() -> None:
    check()


def test_what_is_missing_is_named_with_the_versions() -> None:
    with pytest.raises(ImportError) as caught:
        check(
            {
                HttpToolsProtocol: Internals(called=("on_body", "gone"), attributes=("cycle",)),
                ServerProtocol: Internals(overridden=("fail",), attributes=("state", "gone_too")),
            }
        )
    message = str(caught.value)
    assert f"got uvicorn {version('uvicorn')} and websockets {version('websockets')}" in message
    assert message.startswith("Expected uvicorn")
    assert message.endswith(": HttpToolsProtocol.gone, ServerProtocol.gone_too.")


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("del httptools_impl.HttpToolsProtocol._should_upgrade", "HttpToolsProtocol._should_upgr"),
        ("del httptools_impl.RequestResponseCycle", "cannot import name 'RequestResponseCycle'"),
        ("sys.modules['uvicorn.protocols.http.flow_control'] = None", "flow_control"),
    ],
)
def test_a_service_does_not_start_with_another_release(change: str, missing: str) -> None:
    code = (
        "import sys\n"
        "from uvicorn.protocols.http import httptools_impl\n"
        f"{change}\n"
        "from financial_data_service.cli import main\n"
        "sys.argv[1:] = ['serve', '--port', '0']\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("fds: ")
    assert missing in ended.stderr
    assert f"uvicorn {version('uvicorn')}" in ended.stderr
    assert "Traceback" not in ended.stderr
