"""The layers of the package: imports point down, without cycles, and every piece is small.

The tests read the code and do not run it. An import inside a function or under ``TYPE_CHECKING``
counts like any other: a reader who follows a name from one room into another has to know both.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from support.paths import ROOT

SOURCE = ROOT / "src"

PACKAGE = "financial_data_service"

LAYERS: list[set[str]] = [
    {"version", "errors"},
    {"prices", "symbols", "windows"},
    {"wire"},
    {"settings"},
    {"engine"},
    {"verify"},
    {"storage"},
    {"client"},
    {"server.formats"},
    {"server.telemetry"},
    {"server.middleware"},
    {"server.api"},
    {"server.stream", "server.page"},
    {"server.connection"},
    {"server.app"},
    {"server.processes"},
    {"cli", "monitor"},
]
"""From the bottom to the top: a module imports from its own layer and from those below."""

APART = {
    "client": {"engine", "verify", "storage"},
    "monitor": {"engine", "verify", "storage", "server", "cli"},
}
"""Layers below that a layer must not import all the same: the client runs without the engine, and
the monitor knows the service by its client alone."""

CLASS_LINES_MAX = 300
FUNCTION_LINES_MAX = 50  # without the docstring


@cache
def modules() -> dict[str, Path]:
    """Name within the package → file; a package by its own name, the whole as ''."""
    return {
        ".".join(path.relative_to(SOURCE / PACKAGE).with_suffix("").parts)
        .removesuffix("__init__")
        .removesuffix("."): path
        for path in sorted((SOURCE / PACKAGE).rglob("*.py"))
    }


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imports_of(module: str) -> Iterator[tuple[str, int]]:
    """The modules of the package that a module imports, anywhere in it, with the line."""
    known = modules()
    for node in ast.walk(tree_of(known[module])):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                target = name.removeprefix(PACKAGE).removeprefix(".")
                while target not in known:
                    target = target.rpartition(".")[0]
                if target != module:
                    yield target, node.lineno


def layer_of(module: str) -> int | None:
    """Index in LAYERS; None of the package itself and its entry, which stand above all."""
    for index, layer in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in layer):
            return index
    return None


def test_every_module_has_a_layer() -> None:
    without = {module for module in modules() if layer_of(module) is None}
    assert without == {"", "__main__", "server"}


def test_imports_point_down() -> None:
    wrong = []
    for module in modules():
        own = layer_of(module)
        for target, line in imports_of(module):
            other = layer_of(target)
            # The package itself holds public names only; what imports it imports everything.
            if own is not None and (other is None or other > own) and target != "server":
                wrong.append(f"{module}:{line} imports {target or PACKAGE}")
    assert wrong == []


def test_layers_side_by_side_do_not_import_each_other() -> None:
    wrong = []
    for module in modules():
        own = layer_of(module)
        for target, line in imports_of(module):
            if own is not None and layer_of(target) == own:
                one, other = (
                    next(n for n in LAYERS[own] if m == n or m.startswith(f"{n}."))
                    for m in (module, target)
                )
                if one != other and not {one, other} <= LAYERS[1]:
                    wrong.append(f"{module}:{line} imports {target}")
    assert wrong == []


@pytest.mark.parametrize("layer", APART)
def test_layers_that_stand_apart(layer: str) -> None:
    wrong = [
        f"{module}:{line} imports {target}"
        for module in modules()
        if module.split(".")[0] == layer
        for target, line in imports_of(module)
        if target.split(".")[0] in APART[layer]
    ]
    assert wrong == []


def test_no_imports_go_in_circles() -> None:
    graph = {module: {target for target, _ in imports_of(module)} for module in modules()}
    # Modules that import nothing which is left, or that nothing left imports, are in no circle.
    while True:
        imported = set().union(*graph.values())
        free = {
            m for m, targets in graph.items() if not targets & graph.keys() or m not in imported
        }
        if not free:
            break
        graph = {m: targets - free for m, targets in graph.items() if m not in free}
    assert graph == {}


def definitions() -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module, path in modules().items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}:{node.lineno} {node.name}", node


def lines_of(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_classes_can_be_read_in_one_sitting() -> None:
    long = {
        name: lines_of(node)
        for name, node in definitions()
        if isinstance(node, ast.ClassDef) and lines_of(node) > CLASS_LINES_MAX
    }
    assert long == {}


def test_functions_fit_on_a_screen() -> None:
    long = {}
    for name, node in definitions():
        if not isinstance(node, ast.ClassDef):
            docstring = lines_of(node.body[0]) if ast.get_docstring(node) is not None else 0
            if lines_of(node) - docstring > FUNCTION_LINES_MAX:
                long[name] = lines_of(node) - docstring
    assert long == {}


def test_no_private_name_is_imported_by_another_module() -> None:
    wrong = defaultdict(list)
    for module, path in modules().items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                for alias in node.names:
                    if alias.name.startswith("_") and not alias.name.startswith("__"):
                        wrong[module].append(f"{node.module}.{alias.name}")
    assert wrong == {}


def test_packages_say_what_is_in_them_and_what_goes_there() -> None:
    for module, path in modules().items():
        if path.name == "__init__.py" and module:
            text = ast.get_docstring(tree_of(path)) or ""
            assert text.count(".") >= 2, f"{module} needs two or three sentences"


def test_what_is_public_is_documented() -> None:
    """Every function and class in a module's ``__all__`` has a docstring."""
    bare = []
    for module, path in modules().items():
        tree = tree_of(path)
        public: set[str] = set()
        for node in tree.body:
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
            ):
                public = set(ast.literal_eval(node.value))
        bare += [
            f"{module}.{node.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name in public
            and ast.get_docstring(node) is None
        ]
    assert bare == []


def test_the_picture_in_the_architecture_shows_these_layers() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    picture = text.partition("## The layers")[2].split("```")[1]
    line_of = {
        name: number
        for number, line in enumerate(picture.splitlines())
        for name in re.findall(r"[a-z]+(?:\.[a-z]+)?", line)
    }
    assert line_of.keys() == set().union(*LAYERS)
    for below, above in pairwise(LAYERS):
        lowest = max(line_of[name] for name in above)
        assert all(line_of[name] >= lowest for name in below), (below, above)


SHARED_NAMES = {
    # Both ends of one protocol: the server's reply, and the client's view of the same reply.
    *("AllStatsReply", "SymbolStatsReply", "SymbolsReply", "WindowReply", "Numbers", "RefusedFile"),
    # An error of the package, and the same error as the reply of a service.
    *("InsufficientStorageError", "InvalidBatchError", "InvalidSymbolError"),
    *("SequenceConflictError", "SymbolLimitError", "SymbolNotFoundError", "WindowSizeError"),
}


def test_a_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(module)
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared.keys() == SHARED_NAMES, shared
