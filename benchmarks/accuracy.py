"""Accuracy of mean and variance against exact rationals: this engine and the usual ways.

::

    python benchmarks/accuracy.py [--quick | --smoke] [--markdown FILE | --update FILE]

Every course of prices is drawn several times; the largest error counts. The engine's own answers
are asserted to be what it promises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from decisions.formulas import FORMULAS, OURS
from harness import command
from harness.courses import CANCELLING, COURSES, SPIKES_INSIDE
from harness.exact import avg_error_ulps, exact_of, var_error
from harness.table import Table, number


class _Size(NamedTuple):
    length: int
    draws: int


_SIZES = {"full": _Size(12_800, 10), "quick": _Size(12_800, 2), "smoke": _Size(640, 1)}
_HISTORY_ODD = 77  # keeps the engine's blocks from starting where the window starts

Errors = dict[str, tuple[float, float]]
"""By formula: error of avg in ulps, relative error of var."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all formulas over all courses and hand out the two tables."""
    options = command.parse("Accuracy of mean and variance.", arguments)
    header = command.header(options)
    size = _SIZES[options.scale]
    errors = {course: _largest_errors(course, size) for course in COURSES}
    tables = [_var_table(errors, size), _avg_table(errors)]
    command.emit("benchmarks/accuracy.py", options, header, tables)


def _largest_errors(course: str, size: _Size) -> Errors:
    """Return the largest errors of every formula over the draws of a course."""
    largest = dict.fromkeys(FORMULAS, (0.0, 0.0))
    for draw in range(size.draws):
        for name, errors in _errors(course, size.length, draw).items():
            before = largest[name]
            largest[name] = max(before[0], errors[0]), max(before[1], errors[1])
    return largest


def _errors(course: str, length: int, draw: int) -> Errors:
    rng = np.random.default_rng([draw, list(COURSES).index(course)])
    prices = COURSES[course](rng, 2 * length + _HISTORY_ODD, length)
    exact = exact_of(prices[-length:].tolist())
    errors = {}
    for name, formula in FORMULAS.items():
        avg, var = formula(prices, length)
        errors[name] = avg_error_ulps(avg, exact.avg), var_error(var, exact.var)
        if name == OURS:
            _assert_promise(course, errors[name], avg, exact.avg, max(abs(prices[-length:])))
    return errors


def _assert_promise(
    course: str, errors: tuple[float, float], avg: float, exact: Fraction, magnitude: float
) -> None:
    assert errors[1] <= 1e-14, (course, errors)
    if course == CANCELLING:
        assert abs(Fraction(avg) - exact) <= Fraction(magnitude) / 2**80, (course, errors)
    else:
        assert errors[0] <= 1, (course, errors)


def _var_table(errors: dict[str, Errors], size: _Size) -> Table:
    table = Table("Variance: relative error", ("prices", *FORMULAS))
    for course, found in errors.items():
        table.add(course, *(_relative(found[name][1]) for name in FORMULAS))
    table.notes.append(
        f"Windows of {size.length:,} prices, after as many before them; the largest error of "
        f"{size.draws} draws. `Σx, Σx²`: running sums; `Chan, one mean`: blocks of 128 merged; "
        "`anchor + offset`: this engine's first design, blocks of 128 merged, the mean kept as a "
        "price and an offset from it. An error of 1 or more leaves nothing of a variance; of the "
        "constant's only exactly 0 is right."
    )
    return table


def _avg_table(errors: dict[str, Errors]) -> Table:
    table = Table("Mean: error in units of the last place", ("prices", *FORMULAS))
    for course, found in errors.items():
        table.add(course, *(_relative(found[name][0]) for name in FORMULAS))
    spike = max(errors[course]["anchor + offset"][0] for course in SPIKES_INSIDE)
    ours = max(errors[course][OURS][0] for course in SPIKES_INSIDE)
    table.notes.append(
        f"With a spike in the window `anchor + offset` is off by up to {number(spike)} ulp, the "
        f"sum as a pair by {number(ours)}. Where prices of both signs cancel to a 10^-14th of "
        "their size, as in the row of that name, 1 ulp is no longer promised: the bound is then "
        "2^-80 of the largest price."
    )
    return table


def _relative(error: float) -> str:
    """Return an error to one digit, in full only where that is a short number."""
    if error == math.inf:
        return "∞"
    return f"{error:.0e}" if 0 < error < 0.01 or error >= 1000 else number(error)


if __name__ == "__main__":
    main()
