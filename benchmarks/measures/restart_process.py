"""A process that opens a data directory, asks its symbol once, and tells how long that took.

::

    python -m measures.restart_process DIRECTORY LARGEST_WINDOW SYMBOL

It says so in a line on standard output, and closes the directory cleanly when its standard input
ends, of which it says how long that took. Kernels are loaded before the clock starts.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter

from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.running_stats import warm_up
from financial_data_service.storage.directory import DirectoryStore


def main() -> None:
    """Open, ask, tell, wait, close."""
    directory, largest_window, symbol = sys.argv[1:]
    warm_up()
    store = DirectoryStore(directory, Geometry(int(largest_window)))
    began = perf_counter()
    store.open()
    opened = perf_counter()
    stats = store.find(symbol)
    assert stats is not None, store.refused
    answer = stats.window(int(largest_window))
    answered = perf_counter()
    print(json.dumps([opened - began, answered - opened, answer]), flush=True)
    sys.stdin.read()
    began = perf_counter()
    store.close()
    print(json.dumps(perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
