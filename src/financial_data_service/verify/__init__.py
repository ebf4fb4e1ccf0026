"""Recompute what is stored above the prices, and what is served, from the prices alone.

``levels`` compares every block summary that still has all its prices, each with all of its prices
and not with the level below. ``windows`` compares the served answers with the prices of the window.
A check of stored or served numbers goes here. Imports: ``engine`` and what lies below it; nothing
of the engine's arithmetic.

The engine splits sums at a grid, adds in any order and combines summaries in doubles
(:mod:`~financial_data_service.engine.kernels`). Here the prices are added in order, in three
doubles that carry each other's rounding errors (Ogita, Rump, Oishi: Accurate sum and dot product,
SIAM J. Sci. Comput. 26(6), 2005, doi:10.1137/030601818), squares in two, and runs of prices are
combined in exact fractions. So a fault in the arithmetic of the engine, in its tree, or in the
vector unit of the processor is not repeated here.

Three changes cannot be found: of the newest prices, which are in no block yet (fewer than the
fanout); of the last few bits of an ``m2``; of prices that have left every whole block.

Nothing here takes a lock, and other processes may append meanwhile. Prices that were overwritten
while they were read are read again at a later sequence, or left out if they no longer exist. They
are never compared.
"""
