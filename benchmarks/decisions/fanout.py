"""Fanout trial: appends, queries and memory with 32, 64, 128 and 256 prices to a block.

::

    python benchmarks decisions/fanout.py [--quick | --smoke] [--update FILE]

All rings hold the same prices and take turns; every answer is compared with the exact one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from financial_data_service import RunningStats
from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.running_stats import warm_up
from harness import command
from harness.exact import verify
from harness.prices import RandomWalk
from harness.speed_of_light import CopyRing, items_read
from harness.table import Table, number
from harness.timing import Side, Timing, alternate

_BATCH = 10_000
_CHUNK = 10**6
_SEED = 11


class _Size(NamedTuple):
    largest_window: int
    fanouts: tuple[int, ...]
    rounds: int
    calls: int


_FANOUTS = (32, 64, 128, 256)
_SIZES = {
    "full": _Size(10**8, _FANOUTS, 100, 100),
    "quick": _Size(10**6, _FANOUTS, 30, 20),
    "smoke": _Size(10**4, _FANOUTS, 2, 2),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all fanouts and hand out the table."""
    options = command.parse("Fanout trial.", arguments)
    header = command.header(options)
    warm_up()
    size = _SIZES[options.scale]
    rings = {f: RunningStats(size.largest_window, fanout=f) for f in size.fanouts}
    copy = CopyRing(Geometry(size.largest_window))
    walk = RandomWalk()
    _fill([*rings.values()], copy, walk, size.largest_window)
    found = _appends(rings, copy, walk, size) | _queries(rings, size)
    for stats in rings.values():
        copy.assert_same(stats)
        for length in (10, size.largest_window // 7, size.largest_window):
            verify(stats, length)
    command.emit("benchmarks/decisions/fanout.py", options, header, [_table(rings, found, size)])


def _fill(rings: list[RunningStats], copy: CopyRing, walk: RandomWalk, prices: int) -> None:
    """Fill every ring, and a batch over, so that what follows wraps and meets no fresh page."""
    remaining = copy.capacity + _BATCH
    while remaining > 0:
        chunk = walk.take(min(_CHUNK, remaining))
        remaining -= len(chunk)
        for start in range(0, len(chunk), _BATCH):
            copy.append(chunk[start : start + _BATCH])
            for stats in rings:
                stats.append(chunk[start : start + _BATCH])
    assert all(stats.window(prices).is_full for stats in rings)


def _appends(
    rings: dict[int, RunningStats], copy: CopyRing, walk: RandomWalk, size: _Size
) -> dict[str, Timing]:
    found: dict[str, Timing] = {}
    for length, calls in ((_BATCH, size.calls), (1, 10 * size.calls)):
        pool = [walk.take(length) for _ in range(8)]
        appends: dict[str, Callable[[npt.NDArray[np.float64]], object]] = {
            str(fanout): stats.append for fanout, stats in rings.items()
        }
        appends["copy"] = copy.append
        sides = [
            Side(f"append {length} {name}", _feeder(append, pool), calls, length)
            for name, append in appends.items()
        ]
        found |= alternate(sides, size.rounds)
    return found


def _feeder(
    append: Callable[[npt.NDArray[np.float64]], object], pool: list[npt.NDArray[np.float64]]
) -> Callable[[], object]:
    endless = cycle(pool)
    return lambda: append(next(endless))


def _queries(rings: dict[int, RunningStats], size: _Size) -> dict[str, Timing]:
    rng = np.random.default_rng(_SEED)
    lengths = rng.integers(1, size.largest_window, 1_000, endpoint=True).tolist()
    sides = []
    for fanout, stats in rings.items():
        endless = cycle(lengths)
        worst = max(lengths, key=partial(items_read, stats))
        calls = 3 * size.calls
        sides += [
            Side(f"query shortest {fanout}", partial(stats.window, 10), calls),
            Side(f"query longest {fanout}", partial(stats.window, size.largest_window), calls),
            Side(f"query random {fanout}", _asker(stats, endless), calls),
            Side(f"query worst {fanout}", partial(stats.window, worst), calls),
        ]
    return alternate(sides, size.rounds)


def _asker(stats: RunningStats, lengths: cycle[int]) -> Callable[[], object]:
    return lambda: stats.window(next(lengths))


def _table(rings: dict[int, RunningStats], found: dict[str, Timing], size: _Size) -> Table:
    longest = f"{size.largest_window:,}"
    table = Table(
        f"Fanout, rings of {longest} prices",
        (
            *("fanout", "levels", "bytes/price", "append 10,000: ns/price", "times the copy"),
            *("append 1: ns", "query 10: µs", f"query {longest}", "query random", "most items"),
        ),
    )
    for fanout, stats in rings.items():
        append = found[f"append {_BATCH} {fanout}"]
        kinds = ("shortest", "longest", "random", "worst")
        table.add(
            str(fanout),
            str(Geometry(size.largest_window, fanout).levels),
            f"{stats.size_bytes / size.largest_window:.2f}",
            number(append.median),
            number(append.ratio_to(found[f"append {_BATCH} copy"])),
            number(found[f"append 1 {fanout}"].median),
            *(number(found[f"query {kind} {fanout}"].median / 1e3) for kind in kinds),
        )
    table.notes.append(
        "Rings full and wrapping, all of them in turns, medians. `query random`: lengths drawn "
        "evenly; `most items`: the costliest of 1,000 of them, for each fanout its own."
    )
    return table


if __name__ == "__main__":
    main()
