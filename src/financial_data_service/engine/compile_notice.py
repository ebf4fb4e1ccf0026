"""A notice while Numba compiles: the first start on a machine takes about ten seconds.

Numba emits an event for each kernel that it compiles, but none for kernels that it loads from its
cache. So there is no notice if the kernels are cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event

__all__ = ["SENTENCE", "announce_compilation"]

SENTENCE = "Compiling kernels; that takes some ten seconds, once for this machine."


@contextmanager
def announce_compilation(announce: Callable[[str], object]) -> Iterator[None]:
    """Announce the first compilation of a kernel in the block, if there is one.

    Parameters
    ----------
    announce : callable
        Takes the sentence. It is called at most once, before the compilation, in the thread that
        compiles.
    """
    with event.install_listener("numba:compile", _FirstCompilation(announce)):
        yield


class _FirstCompilation(event.Listener):  # type: ignore[misc]  # Numba has no types.
    """Calls back at the first compilation and never again."""

    def __init__(self, announce: Callable[[str], object]) -> None:
        self._announce = announce
        self._has_announced = False

    def on_start(self, _event: Any) -> None:
        if not self._has_announced:
            self._has_announced = True
            self._announce(SENTENCE)

    def on_end(self, _event: Any) -> None:
        """Do nothing. The next log line shows that compilation has finished."""
