"""The console that results go to; loaded by the commands that show some."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from financial_data_service.cli.console import silence, written

__all__ = ["ResultConsole"]


class ResultConsole(Console):
    """Rich's console; a reader that has gone is no failure to it, a full disk is told of."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Write them, to the last byte."""
        with written():
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Go on unheard, where Rich would end the command as failed."""
        self.quiet = True
        silence()
