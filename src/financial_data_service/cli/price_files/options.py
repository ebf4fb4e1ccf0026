"""How a user wants files of prices to be read."""

from __future__ import annotations

from dataclasses import dataclass, field

from financial_data_service.cli.price_files.numbers import NumberForm

__all__ = ["STANDARD_INPUT", "ReadingOptions"]

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class ReadingOptions:
    """How files are read; the same for all files of a load.

    Parameters
    ----------
    column : str or None
        Column of prices by name or number from 1; None takes ``price`` or a usual name.
    symbol_column : str or None
        Column of symbols; None only checks one of a usual name, ``none`` ignores it.
    number_form : NumberForm
        How numbers are written in text.
    skips_gaps : bool
        Whether rows without a price are left out; else they are refused.
    skip_lines : int
        Lines of text to leave out at the start of each file.
    keeps_file_order : bool
        Whether rows are taken as they stand, without a look at their times.
    """

    column: str | None = None
    symbol_column: str | None = None
    number_form: NumberForm = field(default_factory=NumberForm)
    skips_gaps: bool = False
    skip_lines: int = 0
    keeps_file_order: bool = False
