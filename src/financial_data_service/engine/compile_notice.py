"""Telling of kernels that are compiled: whoever waits for the first time on a machine learns why.

Numba tells of each kernel that it compiles, and of none that it loads from its cache: nothing is
said where nothing takes long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

__all__ = ["compilation_told"]

SENTENCE = "Compiling kernels; that takes some ten seconds, once for this machine."


@contextmanager
def compilation_told(say: Callable[[str], object]) -> Iterator[None]:
    """Say a sentence before the first kernel is compiled in the block, if any is.

    Parameters
    ----------
    say : callable
        Takes the sentence; is called once at most, in the thread that is to compile.
    """
    with event.install_listener("numba:compile", _Teller(say)):
        yield


class _Teller(event.Listener):  # type: ignore[misc]  # Numba has no types.
    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._has_told = False

    def on_start(self, _event: Any) -> None:
        if not self._has_told:
            self._has_told = True
            self._say(SENTENCE)

    def on_end(self, _event: Any) -> None:
        """Nothing is said of the end: what comes next says enough."""
