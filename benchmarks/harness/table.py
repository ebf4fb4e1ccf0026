"""Tables in Markdown, and the places in a document that a benchmark writes them to.

A document marks such a place with two comments; what stands between them belongs to the command
named there, so that no number is ever typed by hand::

    <!-- benchmarks/engine.py: begin -->
    <!-- benchmarks/engine.py: end -->
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Table", "number", "update"]


@dataclass(slots=True)
class Table:
    """A table with a title and notes.

    Parameters
    ----------
    title : str
        Its heading.
    columns : sequence of str
        Names of its columns; the first is set left, the others right.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Append a row."""
        assert len(cells) == len(self.columns)
        self.rows.append(list(cells))

    def markdown(self) -> str:
        """Return the table as Markdown, its columns aligned for reading as text."""
        lines = [list(self.columns), *self.rows]
        widths = [max(_width(line[i]) for line in lines) for i in range(len(self.columns))]
        body = [_line(line, widths) for line in lines]
        rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
        text = "\n".join([body[0], _line(rule, widths), *body[1:]])
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return f"### {self.title}\n\n{text}\n{notes}"


def number(value: float) -> str:
    """Return a measured number with the digits worth reading: three, or all before the point."""
    if value == 0:
        return "0"
    if abs(value) >= 1e9 or abs(value) < 1e-2:
        return f"{value:.0e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def update(path: Path, owner: str, text: str) -> None:
    """Put `text` between the marks of `owner` in a document.

    Raises
    ------
    ValueError
        When the document does not have the two marks.
    """
    begin, end = f"<!-- {owner}: begin -->", f"<!-- {owner}: end -->"
    document = path.read_text(encoding="utf-8")
    head, begin_found, rest = document.partition(begin)
    _, end_found, tail = rest.partition(end)
    if not begin_found or not end_found:
        raise ValueError(f"Expected the marks {begin} and {end} in {path}")
    path.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padding = [" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    others = [pad + cell for cell, pad in zip(cells[1:], padding[1:], strict=True)]
    return f"| {' | '.join([cells[0] + padding[0], *others])} |"


def _width(text: str) -> int:
    return sum(not unicodedata.combining(character) for character in text)
