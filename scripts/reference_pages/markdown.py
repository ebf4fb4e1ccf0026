"""Markdown in pieces: tables whose cells may hold anything, and the note on top of a page."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

__all__ = ["cell", "code", "note", "summary_of", "table"]

_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")  # :class:`~package.module.Name`


def note(source: str) -> str:
    """Return the comment on top of a generated page."""
    return f"<!-- Written by `make docs` from {source}. Do not edit by hand. -->\n\n"


def cell(text: str) -> str:
    """Return text for one cell of a table: one line, and no bar that ends the cell."""
    return " ".join(text.split()).replace("|", r"\|")


def code(text: object) -> str:
    """Return text as code, also text that holds backquotes."""
    text = str(text)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of which the cells are Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n\n"


def summary_of(value: object) -> str:
    """Return the first paragraph of a docstring: its reStructuredText as Markdown."""
    paragraph = (inspect.getdoc(value) or "").split("\n\n")[0]
    return _ROLE.sub(r"`\1`", paragraph).replace("``", "`")
