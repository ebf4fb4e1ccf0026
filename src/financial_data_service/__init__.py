"""Exact rolling statistics of trading prices: the public names, and only those.

The engine is loaded when one of its names is first asked for, so that the client commands
(``fds load``, ``fds stats``) start without NumPy and Numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import RunningStats, SymbolManager, WindowStats

__all__ = ["RunningStats", "SymbolManager", "WindowStats", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
