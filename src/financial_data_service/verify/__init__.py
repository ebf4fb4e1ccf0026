"""Recompute the stored block summaries and the served statistics from the prices alone.

``levels`` checks every block summary whose prices are all still held. It recomputes the summary
from the prices, not from the level below. ``windows`` compares the served answers with the prices
of the window. A check of stored or served numbers goes here. The package may import ``engine`` and
the layers below it, but not the engine's arithmetic.

The engine splits each price at a grid before it adds, adds in any order, and combines summaries in
double precision (:mod:`~financial_data_service.engine.kernels`). Here the prices are added in
order, in three doubles that carry each other's rounding errors (Ogita, Rump, Oishi: Accurate sum
and dot product, SIAM J. Sci. Comput. 26(6), 2005, doi:10.1137/030601818), squares in two, and runs
of prices are combined in exact fractions. So this package does not repeat a fault in the engine's
arithmetic, in its tree or in the processor's vector unit.

Three changes cannot be detected. First, a change of the newest prices that are in no block yet
(fewer than the fanout). Second, a change of the last few bits of an ``m2``. Third, a change of
prices that no complete block contains any more.

Nothing here takes a lock, and other processes may append meanwhile. If prices are overwritten while
they are read, the result is discarded. The read is repeated at a later sequence, or skipped if the
prices are no longer held.
"""
