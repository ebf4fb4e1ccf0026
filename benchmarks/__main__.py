"""The benchmarks, one after the other, each in a process of its own.

::

    python benchmarks [NAME …] [--quick | --smoke] [--update docs/explanation/performance.md]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness import command

_HERE = Path(__file__).parent

_ALL = (
    *("engine.py", "accuracy.py", "data_directory.py"),
    *("decisions/fanout.py", "decisions/counting.py"),
)


def main() -> None:
    """Run the named benchmarks, or all. The first failure ends the run."""
    options = command.parse("All benchmarks, or those that are named.", names=_ALL)
    # A script in a folder finds the packages beside this file as one next to them does.
    path = os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH"))))
    warnings = [f"-W{option}" for option in sys.warnoptions]
    for name in options.names or _ALL:
        subprocess.run(
            [sys.executable, *warnings, str(_HERE / name), *options.arguments()],
            check=True,
            env={**os.environ, "PYTHONPATH": path},
        )


if __name__ == "__main__":
    main()
