"""The command line of the benchmark over HTTP: that of the others, and a few words more."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from harness import command

__all__ = ["HttpOptions", "Size", "parse"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    seconds : float
        Of each run.
    repetitions : int
        Of each run.
    seeded : int
        Prices held by the symbol that is only asked for.
    ring_prices : int
        Prices with which the symbol that is added to is filled beforehand, and the size of the
        ring that prices are copied into.
    parsing_calls : int
        Batches to a round of reading and copying.
    """

    seconds: float
    repetitions: int
    seeded: int
    ring_prices: int
    parsing_calls: int


class HttpOptions(NamedTuple):
    """What the command line said."""

    shared: command.Options
    size: Size
    only: str


_SIZES = {
    "full": Size(1.0, 5, 10**7, 10**8, 50),
    "smoke": Size(1.0, 1, 10**4, 10**5, 3),
}


def parse(description: str, arguments: Sequence[str] | None = None) -> HttpOptions:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it still run?")
    parser.add_argument("--seconds", type=_duration, help="length of each run (default 1)")
    parser.add_argument(
        "--only", type=_pattern, default="", metavar="PATTERN", help="rows whose names match"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to FILE")
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="write the tables between their marks in FILE"
    )
    found = parser.parse_args(arguments)
    scale = "smoke" if found.smoke else "full"
    size = _SIZES[scale]
    if found.seconds:
        size = replace(size, seconds=found.seconds)
    return HttpOptions(command.Options(scale, found.markdown, found.update), size, found.only)


def _duration(text: str) -> float:
    seconds = float(text)
    if not 0.05 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"Expected 0.05 to 600 seconds, got {text}")
    return seconds


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"Expected a pattern, got {text}: {error}") from None
    return text
