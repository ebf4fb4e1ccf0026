"""Counters of all workers in one piece of shared memory: what `/metrics` adds up.

Each worker has a row of 64-bit words and writes to no other, so nothing is locked; whoever is asked
reads all rows. The parent makes the memory before it forks, as it does with the connection counts.

Why not prometheus_client's multiprocess mode: it keeps a file per process and type of metric, for
ever, as counters must not go back; it cannot remove a label, so that deleted symbols would stay;
and it has to be chosen by an environment variable before the first import. Here a worker that takes
the place of a dead one writes on in the same row: counters go on where they were, the number of
rows stays, and nothing is left on disk, whatever way the service ends.

Invariants
----------
* A row has one writer, the event loop's thread of one process.
* A word is aligned and read and written as a whole; a sum over words that are being written is as
  of no single moment, and each of its parts is right.
* Nothing here loads the engine or prometheus_client: the parent of the workers imports it.
"""

from __future__ import annotations

import mmap

__all__ = ["GAUGE_WORDS", "ROW_WORDS", "Counters"]

GAUGE_WORDS = 16
"""Words at the start of a row that tell of now: they are of no meaning once the worker is gone."""

ROW_WORDS = 32768
"""Words of a row: 256 KiB of address space. Routes times lanes times statuses and buckets take some
8,000 of them, and only pages that are written to take memory."""


class Counters:
    """A row of words for each worker.

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
        """Forget what a worker that is gone said of now; what it counted stays."""
        self.rows[index][:GAUGE_WORDS] = memoryview(bytes(8 * GAUGE_WORDS)).cast("q")
