"""The counters of all workers in one block of shared memory, which `/metrics` adds up.

Each worker has a row of 64-bit words and writes to no other, so nothing is locked. The process that
answers `/metrics` reads all rows. The parent process allocates the memory before it forks.

The multiprocess mode of prometheus_client is not used, for three reasons. It keeps a file per
process and metric type permanently, because counters must not decrease. It cannot remove a label,
so deleted symbols would remain. An environment variable must enable it before the first import.
Here a worker that replaces a dead one continues its row: counters continue, the number of rows
stays, and nothing is left on disk, however the service ends.

Invariants
----------
* A row has one writer: the thread of the event loop of one process.
* A word is aligned, and read and written as a whole. A sum over words that are being written
  belongs to no single moment, but each part is right.
* Nothing here loads the engine or prometheus_client, because the parent of the workers imports it.
"""

from __future__ import annotations

import mmap

__all__ = ["GAUGE_WORDS", "ROW_WORDS", "Counters"]

GAUGE_WORDS = 16
"""Number of words at the start of a row that hold gauges.

They are cleared when the worker has ended.
"""

ROW_WORDS = 32768
"""Words of a row:

256 KiB of address space. The product of routes, lanes, and statuses plus buckets needs about 8,000
words. Only pages that were written to take memory.
"""


class Counters:
    """One row of words per worker.

    Parameters
    ----------
    workers : int
        Number of rows.
    """

    def __init__(self, workers: int = 1) -> None:
        self._words = memoryview(mmap.mmap(-1, 8 * ROW_WORDS * workers)).cast("q")
        self.rows = [
            self._words[index * ROW_WORDS : (index + 1) * ROW_WORDS] for index in range(workers)
        ]

    def retire(self, index: int) -> None:
        """Clear the current values of a worker that has ended. Its counts stay."""
        self.rows[index][:GAUGE_WORDS] = memoryview(bytes(8 * GAUGE_WORDS)).cast("q")
