"""``python.md``: the public names, for mkdocstrings to describe from their docstrings."""

from __future__ import annotations

from typing import Any

import financial_data_service
from financial_data_service import client, errors
from reference_pages.markdown import note, summary_of, table

__all__ = ["page"]

_HEAD = """\
# Python API

The public names of the package. All are documented in their docstrings: on the built site (`make
docs`) they are below, and `help(financial_data_service.RunningStats)` shows them in Python.

"""

_GROUPS = {
    "Engine": ["RunningStats", "SymbolManager", "BatchReceipt", "WindowStats"],
    "Reading a data directory": ["open", "DataDirectory", "SymbolReader"],
    "Clients": ["Client", "AsyncClient"],
}


def page() -> str:
    """Return the page.

    Raises
    ------
    AssertionError
        When a public name is missing here.
    """
    groups = {
        group: {
            f"financial_data_service.{name}": getattr(financial_data_service, name)
            for name in names
        }
        for group, names in _GROUPS.items()
    }
    groups["Results of the clients"] = {
        f"financial_data_service.client.{name}": getattr(client, name)
        for name in client.__all__
        if name not in _GROUPS["Clients"]
    }
    shown = {name for names in _GROUPS.values() for name in names}
    missing = set(financial_data_service.__all__) - shown - set(errors.__all__) - {"__version__"}
    assert not missing, f"public names without a place: {missing}"
    text = note("the docstrings") + _HEAD
    for group, names in groups.items():
        text += f"**{group}**\n\n"
        text += table(["name", "what it is"], (_row(*each) for each in names.items()))
    text += "The exceptions are in [Errors](errors.md#exceptions).\n\n"
    for names in groups.values():
        text += "".join(_section(*each) for each in names.items())
    return text.rstrip() + "\n"


def _row(name: str, value: Any) -> list[str]:
    short = name.rpartition(".")[2]
    return [f"[`{name}`](#{short.lower()})", summary_of(value)]


def _section(name: str, value: Any) -> str:
    short = name.rpartition(".")[2]
    return f"## {short}\n\n::: {value.__module__}.{value.__qualname__}\n\n"
