"""The command line that every benchmark has, and what becomes of its tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness import host
from harness.table import Table, update

__all__ = ["Options", "emit", "header", "parse"]


class Options(NamedTuple):
    """What the command line said."""

    scale: str
    markdown: Path | None
    update: Path | None
    names: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """Return the options, without the names, as arguments of one benchmark."""
        arguments = [] if self.scale == "full" else [f"--{self.scale}"]
        return arguments + (["--update", str(self.update)] if self.update else [])


def parse(
    description: str, arguments: Sequence[str] | None = None, *, names: Sequence[str] = ()
) -> Options:
    """Return the options of a command line.

    Parameters
    ----------
    names : sequence of str
        Of the benchmarks that a command of several offers. Such a command has no --markdown.
    """
    parser = argparse.ArgumentParser(description=description)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="smaller sizes, for a first look")
    sizes.add_argument("--smoke", action="store_true", help="tiny sizes: does it still run?")
    parser.set_defaults(markdown=None, names=())
    if names:
        parser.add_argument(
            "names", nargs="*", metavar="NAME", help=f"some of {', '.join(names)}; all if none"
        )
    else:
        parser.add_argument(
            "--markdown", type=Path, metavar="FILE", help="write the tables to FILE"
        )
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="write the tables between their marks in FILE"
    )
    found = parser.parse_args(arguments)
    scale = "quick" if found.quick else "smoke" if found.smoke else "full"
    unknown = sorted(set(found.names) - set(names))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(names)}")
    return Options(scale, found.markdown, found.update, found.names)


def emit(owner: str, options: Options, header: str, tables: Sequence[Table]) -> None:
    """Print the tables and write them where the options say.

    Parameters
    ----------
    owner : str
        The command as its marks in a document name it.
    header : str
        What :func:`harness.host.describe` returned before the run.
    """
    text = "\n".join([header + "\n", *(table.markdown() for table in tables)])
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.update:
        update(options.update, owner, text)


def header(options: Options) -> str:
    """Return the lines above the tables; to be called before the run."""
    return host.describe(options.scale)
