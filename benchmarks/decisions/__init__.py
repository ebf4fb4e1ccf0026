"""Benchmarks behind decisions of the design: the fanout, counting requests, discarded formulas.

Each measures the chosen option beside the rejected ones. They run by name from the command of all
benchmarks, such as ``python benchmarks decisions/fanout.py --quick``. The measure of a new decision
goes here, its number into ARCHITECTURE.md.
"""
