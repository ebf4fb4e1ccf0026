"""Courses of prices: does any of them make an append slower?

Each course has a ring of its own, full before the start. Appends of all courses take turns one by
one, in a new random order each time. So the interruptions of a shared machine, which make the tail,
affect all courses alike. A second random course is the control: its difference from the first is
the resolution of this measurement. The tail of a repetition is its 99.9th percentile. The result is
the median over the repetitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from financial_data_service import RunningStats
from harness.prices import SHAPES, Source
from harness.table import Table, number
from harness.timing import no_collector
from measures.bench import BATCH_MAX, Bench, Target

__all__ = ["measure_shapes"]

_TAIL_TIMES_RANDOM = 1.2
_PERCENTILES = (50.0, 99.0, 99.9)


@dataclass(slots=True)
class _Course:
    """A shape with its ring."""

    source: Source
    stats: RunningStats

    @classmethod
    def of(cls, shape: str, prices: int) -> _Course:
        course = cls(Source(shape, BATCH_MAX), RunningStats(prices, batch_max=BATCH_MAX))
        for _ in range(0, prices, BATCH_MAX):
            course.stats.append(course.source.take(BATCH_MAX))
        return course


def measure_shapes(bench: Bench) -> Table:
    """Append every shape in batches of 1, 100 and 10,000 and compare the tails."""
    scale = bench.scale
    courses = [_Course.of(shape, 10**scale.shape_k_max) for shape in SHAPES]
    table = Table(
        "Courses of prices: nanoseconds an append",
        (
            *("batch, course", "median", "p99", "p99.9", "min–max of p99.9", "against random"),
            *("p99.9 undisturbed", "against random"),
        ),
    )
    for length, appends in scale.shape_appends.items():
        samples = np.array(
            [_repetition(courses, length, appends) for _ in range(scale.shape_repetitions)]
        )
        _add_rows(bench, table, length, samples)
    for course in courses:
        bench.verify(course.stats)
        course.stats.close()
    table.notes.append(
        f"{scale.shape_repetitions} repetitions of "
        + ", ".join(f"{n:,} appends of {b:,}" for b, n in scale.shape_appends.items())
        + f" for each course, each with a full ring of {10**scale.shape_k_max:,}; append by append "
        "in turns; percentiles of a repetition, their medians over the repetitions. `random again` "
        "is the control: what it shows beside `random` is the noise of the machine. "
        "`undisturbed`: each append's median over the repetitions, in all of which it completes "
        "the same blocks, and of these medians the 99.9th percentile; what the machine does "
        "now and then is not in it. Sawtooth: 999 small steps up, one fall."
    )
    return table


def _repetition(courses: list[_Course], length: int, appends: int) -> npt.NDArray[np.float32]:
    """Return the nanoseconds of every append, ``[course, append]``."""
    samples = np.empty((len(courses), appends), dtype=np.float32)
    turns = np.tile(np.arange(len(courses)), (appends, 1))
    orders = np.random.default_rng(appends).permuted(turns, axis=1).tolist()
    with no_collector():
        for index, order in enumerate(orders):
            for position in order:
                course = courses[position]
                batch = course.source.take(length)
                append = course.stats.append
                begin = perf_counter_ns()
                append(batch)
                samples[position, index] = perf_counter_ns() - begin
    return samples


def _add_rows(bench: Bench, table: Table, length: int, samples: npt.NDArray[np.float32]) -> None:
    """Add the rows of a batch size from the times ``[repetition, course, append]``."""
    tails = np.percentile(samples, _PERCENTILES, axis=2)
    medians = np.median(tails, axis=1)
    undisturbed = np.percentile(np.median(samples, axis=0), _PERCENTILES[-1], axis=1)
    random = SHAPES.index("random")
    ratios = medians[-1] / medians[-1, random]
    for position, shape in enumerate(SHAPES):
        last = tails[-1, :, position]
        table.add(
            f"{length:,}, {shape}",
            *(f"{value:,.0f}" for value in medians[:, position]),
            f"{last.min():,.0f}–{last.max():,.0f}",
            number(ratios[position]),
            f"{undisturbed[position]:,.0f}",
            number(undisturbed[position] / undisturbed[random]),
        )
    _add_target(bench, length, ratios)


def _add_target(bench: Bench, length: int, ratios: npt.NDArray[np.float64]) -> None:
    courses = [i for i, shape in enumerate(SHAPES) if not shape.startswith("random")]
    worst = max(courses, key=lambda position: float(ratios[position]))
    control = ratios[SHAPES.index("random again")]
    bench.targets.append(
        Target(
            f"any course of prices against random, p99.9 of appends of {length:,}",
            f"at most {_TAIL_TIMES_RANDOM:g} times",
            f"{number(ratios[worst])} times ({SHAPES[worst]}; control {number(control)})",
            bool(ratios[worst] <= _TAIL_TIMES_RANDOM),
        )
    )
