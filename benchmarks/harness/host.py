"""The machine and the versions that numbers were measured on, in two lines."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from financial_data_service import __version__

__all__ = ["describe"]

_LIBRARIES = ("numpy", "numba", "pandas", "polars")


def describe(scale: str) -> str:
    """Return what a reader has to know beside the numbers, as Markdown."""
    release = ".".join(platform.release().split(".")[:2])
    libraries = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    load = os.getloadavg()[0]
    return (
        f"Host: {os.cpu_count()} cores {platform.machine()}{_clock()}, "
        f"{_memory_gb():.0f} GB of memory, {platform.system()} {release}; "
        f"Python {platform.python_version()}, {libraries}.  \n"
        f"Run: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, financial-data-service "
        f"{__version__}{_commit()}, sizes: {scale}; "
        f"load average before the run {load:.1f}."
    )


def _clock() -> str:
    """Return the clock where the system tells it; it is the nominal one on virtual machines."""
    try:
        found = re.search(r"cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        return ""
    return f" at {float(found[1]) / 1000:.1f} GHz" if found else ""


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(none)"


def _commit() -> str:
    """Return the commit measured, when this is a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" at {result.stdout.strip()}"
