"""The arguments and options of ``fds load``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from financial_data_service.cli.options import check_symbol

__all__ = [
    "Append",
    "BatchSize",
    "Decimal",
    "DryRun",
    "FromSequence",
    "GapChoice",
    "Gaps",
    "LoadColumn",
    "LoadSymbol",
    "Member",
    "Order",
    "PriceFiles",
    "RowOrderChoice",
    "SkipLines",
    "SymbolColumn",
    "Thousands",
]


class RowOrderChoice(StrEnum):
    """Which order the rows have to have."""

    TIME = "time"
    FILE = "file"


class GapChoice(StrEnum):
    """What is done with rows without a price."""

    REFUSE = "refuse"
    SKIP = "skip"


def _one_sign(value: str | None) -> str | None:
    if value is not None and (len(value) != 1 or value.isalnum()):
        raise typer.BadParameter(f"expected one sign, got {value!r}")
    return value


PriceFiles = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="CSV, JSON lines, Parquet or Arrow (Feather), also as .gz, .bz2, .xz, .zst or "
        ".zip; a directory or a quoted pattern of them, in order of name. - reads standard "
        "input.",
    ),
]
LoadSymbol = Annotated[
    str | None,
    typer.Option(
        "--symbol",
        "-s",
        metavar="SYMBOL",
        callback=check_symbol,
        help="Symbol to store the prices for. With --symbol-column: load only its rows.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Read and check the files, show what would be loaded, and store nothing.",
    ),
]
Append = Annotated[
    bool,
    typer.Option("--append", metavar="", help="Put the files' prices after those the symbol has."),
]
FromSequence = Annotated[
    int | None,
    typer.Option(
        "--from-sequence",
        min=0,
        metavar="N",
        help="The first row of the files is price N of the symbol, counted from 0.",
        show_default=False,
    ),
]
BatchSize = Annotated[
    int, typer.Option("--batch-size", min=1, metavar="N", help="Prices sent at once.")
]
LoadColumn = Annotated[
    str | None,
    typer.Option(
        "--column",
        "-c",
        metavar="NAME|NUMBER",
        help="Column of the prices: its name in the header, or its number from 1. Without it: "
        "'price', or the only column with a usual name (close, last, bid, ask, mid, …), or the "
        "only column.",
        show_default=False,
    ),
]
SymbolColumn = Annotated[
    str | None,
    typer.Option(
        "--symbol-column",
        metavar="NAME|NUMBER",
        help="Column of the symbols: each row goes to its own symbol. 'none' ignores the column.",
        show_default=False,
    ),
]
Order = Annotated[
    RowOrderChoice,
    typer.Option(
        "--order",
        help="time: rows are ordered by the column of times, if there is one. file: rows are "
        "taken as they stand.",
    ),
]
Gaps = Annotated[
    GapChoice,
    typer.Option(
        "--gaps", help="Rows without a price (empty, NaN, null, ., -): refuse the file, or skip."
    ),
]
Decimal = Annotated[
    str,
    typer.Option("--decimal", metavar="SIGN", callback=_one_sign, help="Sign before the decimals."),
]
Thousands = Annotated[
    str | None,
    typer.Option(
        "--thousands",
        metavar="SIGN",
        callback=_one_sign,
        help="Sign between groups of three digits.",
        show_default=False,
    ),
]
SkipLines = Annotated[
    int,
    typer.Option(
        "--skip-lines", min=0, metavar="N", help="Lines to leave out at the start of each text."
    ),
]
Member = Annotated[
    str | None,
    typer.Option(
        "--member",
        metavar="NAME",
        help="Member of a zip archive, or a pattern. Without it: all, in order of name.",
        show_default=False,
    ),
]
