"""All benchmarks, one after the other, each in a process of its own.

::

    python benchmarks [--quick | --smoke] [--update docs/performance.md]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import command

_ALL = ("engine.py", "accuracy.py", "fanout.py", "data_directory.py", "counting.py")


def main() -> None:
    """Run them; the first failure ends the run."""
    options = command.parse("All benchmarks.", several=True)
    for name in _ALL:
        path = Path(__file__).parent / name
        subprocess.run([sys.executable, str(path), *options.arguments()], check=True)


if __name__ == "__main__":
    main()
