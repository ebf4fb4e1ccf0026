"""Output and exit codes of the commands. Errors go to stderr, results to stdout."""

from __future__ import annotations

import errno
import inspect
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from financial_data_service.errors import FdsError, ServiceError, ServiceUnavailableError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "CliError",
    "Command",
    "Commands",
    "UsageError",
    "counted",
    "examples",
    "output",
    "paragraphs",
    "print_error",
    "print_text",
    "printable",
    "rate",
    "sentence_of",
    "silence",
    "written",
]

# Lines are not wrapped if the output is a file or a pipe.
_UNFOLDED_COLUMNS = 100_000
# Unicode control characters that change the text direction (bidirectional classes).
_TURNS_AROUND = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


class CliError(FdsError):
    """A command failed. The message is the sentence to show."""

    exit_code = 1


class UsageError(CliError):
    """A command was used wrongly."""

    exit_code = 2


def _without_type(help_option: Any) -> Any:
    """Show no type beside --help."""
    if help_option is not None:
        help_option.metavar = ""
    return help_option


class Command(TyperCommand):
    """One command."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return --help."""
        return _without_type(super().get_help_option(ctx))


class Commands(TyperGroup):
    """The commands. Every exception ends as one sentence and an exit code."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return --help."""
        return _without_type(super().get_help_option(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except Exception as error:  # Of any kind: FDS_DEBUG=1 shows the traceback.
            if os.environ.get("FDS_DEBUG") == "1" or _is_for_typer(error):
                raise
            print_error(sentence_of(error))
            raise typer.Exit(getattr(error, "exit_code", 1)) from None


def _is_for_typer(error: Exception) -> bool:
    """Whether Typer handles it: its exits, usage errors, and a closed pipe (``fds … | head``)."""
    return (
        isinstance(error, typer.Exit | typer.Abort)
        or hasattr(error, "format_message")
        or (isinstance(error, OSError) and error.errno == errno.EPIPE)
    )


def sentence_of(error: Exception) -> str:
    """Return the sentence for an error."""
    if isinstance(error, CliError):
        return str(error)  # It may end in a command to copy.
    if isinstance(error, ServiceError):
        return _service_sentence(error)
    if isinstance(error, FdsError | OSError):
        return f"{error}."
    return (
        f"Unexpected {type(error).__name__}: {error}. This is a fault of fds; "
        "FDS_DEBUG=1 shows where it happened."
    )


def _service_sentence(error: ServiceError) -> str:
    if error.status is None:
        return error.detail  # A sentence about the connection.
    # If the error is specific, the reason from the service is enough. Otherwise the status and URL
    # are printed, because they show which server replied.
    is_specific = type(error) is not ServiceError and not isinstance(error, ServiceUnavailableError)
    return f"{error.detail if is_specific else error}."


def print_error(sentence: str) -> None:
    """Print an error on stderr."""
    print(f"fds: {printable(sentence)}", file=sys.stderr, flush=True)


def examples(*commands: str) -> str:
    """Return the epilog of a help page, with the commands one below the other."""
    return "\n".join(
        ["[bold]Examples[/bold]", *(f"  [cyan]{command}[/cyan]" for command in commands)]
    )


def paragraphs(docstring: str | None) -> str:
    """Unfold the lines of each paragraph, so that the terminal's width folds them."""
    texts = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(text.split()) for text in texts)


def output() -> Console:
    """Return the console for results: as wide as the terminal, or unfolded without one."""
    console = _result_console()(highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = _UNFOLDED_COLUMNS
    return console


@cache
def _result_console() -> type[Console]:
    """Return the class of the console; ``fds serve`` prints no results and starts without Rich."""
    from rich.console import Console

    class ResultConsole(Console):
        """Rich's console. It ignores a closed pipe, and it reports a full disk in one sentence."""

        def print(self, *objects: Any, **options: Any) -> None:
            """Print the objects and flush the output."""
            with written():
                super().print(*objects, **options)

        def on_broken_pipe(self) -> None:
            """Go on without output. Rich would end the command as failed."""
            self.quiet = True
            silence()

    return ResultConsole


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 price``, ``2,000 prices``, ``3 summaries``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {noun if count == 1 else plural}"


def rate(prices: int, seconds: float) -> str:
    """Return `` (a rate)``; empty if the time is too short to measure."""
    return f" ({prices / seconds:,.0f} prices/s)" if prices and seconds >= 1 else ""


def print_text(text: str) -> None:
    """Write a result unchanged, and a newline."""
    with written():
        sys.stdout.write(text + "\n")


@contextmanager
def written() -> Iterator[None]:
    """Flush results at the end of the block.

    If the pipe is closed, for instance by ``head``, the command continues without output and does
    not fail.

    Raises
    ------
    CliError
        When the output cannot be written for another reason, such as a full disk.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
    except OSError as error:
        silence()
        reason = os.strerror(error.errno or 0).lower()
        raise CliError(f"The output cannot be written: {reason}.") from error


def silence() -> None:
    """Redirect stdout to /dev/null. Otherwise Python would try to flush it again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def printable(text: str) -> str:
    r"""Escape characters that move the cursor, change the direction or cannot be encoded."""
    return "".join(ascii(each)[1:-1] if _is_unshowable(each) else each for each in text)


def _is_unshowable(character: str) -> bool:
    return character != "\n" and (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in _TURNS_AROUND
    )
