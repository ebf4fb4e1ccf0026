"""``errors.md``: messages, causes and cures, of replies, of the start and of exceptions.

Causes of exceptions are their docstrings, and their statuses those of ``error_replies``. Messages
stand here, with ``…`` for what varies, and each is checked against the strings of the source: a
message that no longer exists stops the generator.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import financial_data_service
from financial_data_service import errors
from financial_data_service.server.api.error_replies import status_of
from reference_pages.error_texts import AT_THE_START, CURES, REPLIES, Row
from reference_pages.markdown import code, note, summary_of, table

__all__ = ["page"]

_HEAD = """\
# Errors

A reply of 400 or more is `{"detail": …}`: a sentence, or a list of items with `type`, `loc`, `msg`
and `input`. `loc` says where the error is: `["body", "values", 3]` is the fourth price of the
batch. In the messages below, `…` stands for what varies.

**When the service answers 400 or more, it has stored nothing of the batch.** After a 408, 429 or
503 you can send it again. A 502 or 504 is the answer of a proxy, which does not know whether the
batch was stored: send it again only with `from_sequence`.

On `/stream` and `/ingest` the same messages come with the status as `code`:
[WebSocket](websocket.md).

"""

_EXCEPTIONS = """\
## Exceptions

All are subclasses of `FdsError`, and of the builtin exception in the second column. The status is
that of the reply when the service meets the error. A [client](client.md#errors) raises the same
class for such a reply; the exception is then a `ServiceError` too, with `status` and `detail`.

"""


class _Exception(NamedTuple):
    name: str
    kind: type[errors.FdsError]


def page() -> str:
    """Return the page.

    Raises
    ------
    AssertionError
        When a message is not in the source, or an exception has no cure.
    """
    text = note("`errors.py`, `error_replies.py` and the messages in the source") + _HEAD
    text += "## HTTP replies\n\n"
    text += table(
        ["status", "message", "cause", "cure"],
        ([row.status, *_checked(row)] for row in REPLIES),
    )
    text += "## At the start, and on the command line\n\n"
    text += table(["message", "cause", "cure"], (_checked(row) for row in AT_THE_START))
    text += _EXCEPTIONS
    head = ["exception", "is also a", "status", "cause", "cure"]
    return text + table(head, map(_row, _exceptions())).rstrip() + "\n"


def _checked(row: Row) -> list[str]:
    for message in row.messages:
        # What varies at the end may be put there by a concatenation.
        begin = message.rstrip("…")
        assert any(begin in template for template in _templates()), f"not in the source: {message}"
    return ["<br>".join(map(code, row.messages)), row.cause, row.cure]


def _exceptions() -> Iterator[_Exception]:
    for name in errors.__all__:
        if name != "FdsError":
            yield _Exception(name, getattr(errors, name))


def _row(exception: _Exception) -> list[str]:
    name, kind = exception
    builtin = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    return [code(name), code(builtin.__name__), _status(kind), summary_of(kind), CURES[name]]


def _status(kind: type[errors.FdsError]) -> str:
    try:
        return str(status_of(kind.__new__(kind)))
    except KeyError:
        return "–"


@cache
def _templates() -> frozenset[str]:
    """Return the strings of the package's source, with ``…`` for their placeholders."""
    root = Path(financial_data_service.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.sub(r"%s|%d|\{[^{}]*\}", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = node.values
                found.add("".join(p.value if isinstance(p, ast.Constant) else "…" for p in parts))  # type: ignore[misc]
    return frozenset(found)
