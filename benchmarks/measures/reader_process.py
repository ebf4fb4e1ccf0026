"""A process that has a data directory open to read, and times its own queries.

::

    python -m measures.reader_process DIRECTORY SYMBOL

Each line on standard input is a window and a number of calls; each line on standard output what
they took, in nanoseconds a call, and what the last one answered.
"""

from __future__ import annotations

import json
import sys
from functools import partial

import financial_data_service as fds
from harness.timing import Side, no_collector


def main() -> None:
    """Answer until standard input ends."""
    directory, symbol = sys.argv[1:]
    with fds.open(directory) as data, no_collector():
        reader = data[symbol]
        for line in sys.stdin:
            length, calls = map(int, line.split())
            elapsed = Side("", partial(reader.window, length), calls).block()
            print(json.dumps([elapsed, reader.window(length)]), flush=True)


if __name__ == "__main__":
    main()
