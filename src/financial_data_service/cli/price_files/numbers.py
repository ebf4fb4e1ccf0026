"""Cells that are numbers: decimal and thousands signs, currency signs, gaps."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

__all__ = ["GAP_WORDS", "NumberForm", "complaint", "is_number", "shortened"]

GAP_WORDS = frozenset({"", ".", "-", "--", "na", "n/a", "#n/a", "nan", "null", "none"})
"""Cells that stand for no price, in lower case."""

_SHOWN_CHARACTERS = 40
# (decimal, thousands) in the order in which a refusal proposes them.
_OTHER_FORMS = [(",", None), (".", ","), (",", "."), (".", "'"), (".", " "), (",", " ")]


@dataclass(frozen=True)
class NumberForm:
    """How numbers are written.

    Parameters
    ----------
    decimal : str
        Sign before the decimals.
    thousands : str or None
        Sign between groups of three digits; None if there are no groups.
    """

    decimal: str = "."
    thousands: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether a fast parser of plain numbers reads this form."""
        return self.thousands is None and self.decimal in ".,"

    def parse(self, text: str) -> float:
        """Return the float64 nearest to the text.

        Raises
        ------
        ValueError
            When it is not a finite number of this form.
        """
        if self.thousands is None and self.decimal == ".":
            try:
                return self._finite(text)
            except ValueError:
                pass
        digits = _without_currency(text)
        if not self._pattern.fullmatch(digits):
            raise ValueError(text)
        if self.thousands:
            digits = digits.replace(self.thousands, "")
        return self._finite(digits.replace(self.decimal, "."))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        decimal = re.escape(self.decimal)
        whole = r"\d+"
        if self.thousands:
            # Groups of three only: 100.13 is not 10,013 where the point is between thousands.
            whole = rf"(?:\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+|\d+)"
        return re.compile(rf"[+-]?(?:{whole}(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?")

    @staticmethod
    def _finite(text: str) -> float:
        number = float(text)
        # float() also takes the underscores of Python's own numbers.
        if not isfinite(number) or "_" in text:
            raise ValueError(text)
        return number


def _without_currency(text: str) -> str:
    text = text.replace("\u00a0", " ").replace("\u202f", " ").replace("\u2019", "'").strip()
    sign = text[:1] if text[:1] in {"+", "-"} else ""
    kept = [each for each in text[len(sign) :] if unicodedata.category(each) != "Sc"]
    return sign + "".join(kept).strip()


def is_number(text: str) -> bool:
    """Whether the text is a number of the plain form; ``nan`` and ``inf`` are."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def shortened(text: str) -> str:
    """Return the text quoted, and cut if it is long."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")


def complaint(cell: str, form: NumberForm) -> str:
    """Return what is wrong with a cell and which option would read it; no full stop."""
    if cell.strip().casefold() in GAP_WORDS:
        what = f"{shortened(cell)} is not a price" if cell.strip() else "the cell is empty"
        if is_number(cell):
            what = f"{shortened(cell)} is not a finite number"
        return f"{what}. --gaps skip leaves out such rows"
    if is_number(cell) and "_" not in cell:
        return f"{shortened(cell)} is not a finite number"
    return f"{shortened(cell)} is not a number{_proposals(cell, form)}"


def _proposals(cell: str, form: NumberForm) -> str:
    proposals = []
    for decimal, thousands in _OTHER_FORMS:
        other = NumberForm(decimal, thousands)
        if other == form:
            continue
        try:
            number = other.parse(cell)
        except ValueError:
            continue
        if thousands and thousands not in cell.replace("\u00a0", " "):
            continue
        words = [f"--decimal {decimal}"] if decimal != "." else []
        words += (
            [f"--thousands {thousands!r}" if thousands in " '" else f"--thousands {thousands}"]
            if thousands
            else []
        )
        proposals.append(f"{' '.join(words)} would read {number!r}")
    return ". " + ", ".join(proposals) if proposals else ""
