"""Appending to a file that is mapped beside appending in memory: the same kernel, other pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from financial_data_service import RunningStats
from financial_data_service.engine.layout import Geometry
from financial_data_service.storage.file_stats import FileStats
from harness.speed_of_light import CopyRing
from harness.table import Table, number
from harness.timing import Side, Timing, alternate
from measures.bench import BATCH_MAX
from measures.data_bench import DataBench, Prices, feeder, mapped_file, median_and_range, symbol_in

__all__ = ["measure_appends"]

_TIMES_MEMORY = 1.3
_SYNCED_ROUNDS = 0.25  # of the rounds: each of them writes megabytes to disk


@dataclass(frozen=True, slots=True)
class _Place:
    """Files in one place: the symbol's, and one into which prices are only copied."""

    name: str
    stats: FileStats
    copy: CopyRing
    sync_copy: Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Rings:
    """Rings that hold the same prices: every batch goes to all of them."""

    memory: RunningStats
    copy: CopyRing
    places: list[_Place]

    @classmethod
    @contextmanager
    def made(cls, bench: DataBench) -> Iterator[_Rings]:
        """Make fresh ones, each with a first batch of one price."""
        geometry = Geometry(bench.scale.ring_prices, batch_max=BATCH_MAX)
        first = bench.walk.take(1)
        with ExitStack() as stack:
            places = []
            for name, directory in bench.places.items():
                stats = stack.enter_context(symbol_in(directory / "appends", geometry, first))
                mapping, descriptor = stack.enter_context(
                    mapped_file(directory / "copy", geometry.size_bytes)
                )
                copy = CopyRing(geometry, mapping)
                places.append(_Place(name, stats, copy, partial(os.fdatasync, descriptor)))
            memory = RunningStats(geometry.largest_window, batch_max=BATCH_MAX)
            rings = cls(memory, CopyRing(geometry), places)
            for append in (
                memory.append,
                rings.copy.append,
                *(each.copy.append for each in places),
            ):
                append(first)
            yield rings

    @property
    def appends(self) -> dict[str, Callable[[Prices], object]]:
        """How a batch is appended to each, by name."""
        return {
            "memory": self.memory.append,
            "copy": self.copy.append,
            **{f"file {place.name}": place.stats.append for place in self.places},
            **{f"copy {place.name}": place.copy.append for place in self.places},
        }

    def assert_same(self, bench: DataBench) -> None:
        """Check that all hold the same prices and answer alike, to the bit, and exactly."""
        self.copy.assert_same(self.memory)
        bench.verify(self.memory)
        for place in self.places:
            place.copy.assert_same(place.stats)
            assert place.stats.all_stats() == self.memory.all_stats()


def measure_appends(bench: DataBench) -> Table:
    """Append 10,000 prices and 1: pages that exist, fresh ones, and ones that were written back."""
    table = Table(
        "Append with a data directory: nanoseconds a price",
        (
            *("batch, place, pages", "append", "min–max", "in memory", "times in memory"),
            *("copy into a file", "times the copy"),
        ),
    )
    with _Rings.made(bench) as rings:
        first_lap = _first_lap(bench, rings)
        _fill_up(bench, rings)
        hot = {length: _hot(bench, rings, length) for length in (BATCH_MAX, 1)}
        written_back = _written_back(bench, rings)
        lock_ns = _lock(bench, rings.places[0].stats)
        rings.assert_same(bench)
        names = [place.name for place in rings.places]
    for length, found in hot.items():
        for name in names:
            _add_row(table, f"{length:,}, {name}, second lap", name, found)
    for name in names:
        _add_row(table, f"{BATCH_MAX:,}, {name}, first lap", name, first_lap)
    _add_row(table, f"{BATCH_MAX:,}, {names[0]}, written back", names[0], written_back)
    _add_targets(bench, names, hot[BATCH_MAX])
    _add_notes(bench, table, lock_ns)
    return table


def _first_lap(bench: DataBench, rings: _Rings) -> dict[str, Timing]:
    """Append into fresh pages; a ring's first prices are the round that does not count."""
    calls = bench.scale.append_calls[BATCH_MAX]
    rounds = max(1, bench.scale.ring_prices // (calls * BATCH_MAX) - 1)
    return alternate(_sides(bench, rings, BATCH_MAX, calls), rounds)


def _fill_up(bench: DataBench, rings: _Rings) -> None:
    """Go round the ring's end, so that what follows meets no fresh page."""
    while rings.copy.sequence < rings.copy.capacity + BATCH_MAX:
        batch = bench.walk.take(BATCH_MAX)
        for append in rings.appends.values():
            append(batch)


def _hot(bench: DataBench, rings: _Rings, length: int) -> dict[str, Timing]:
    calls = bench.scale.append_calls[length]
    return alternate(_sides(bench, rings, length, calls), bench.scale.rounds)


def _written_back(bench: DataBench, rings: _Rings) -> dict[str, Timing]:
    """Append into pages that have all been written to disk: each of them faults again."""
    prepares: dict[str, Callable[[], object]] = {}
    for place in rings.places:
        prepares[f"file {place.name}"] = place.stats.file.sync
        prepares[f"copy {place.name}"] = place.sync_copy
    calls = bench.scale.append_calls[BATCH_MAX]
    assert calls * BATCH_MAX <= bench.scale.ring_prices  # no page comes twice in a block
    sides = _sides(bench, rings, BATCH_MAX, calls, prepares)
    return alternate(sides, max(1, int(bench.scale.rounds * _SYNCED_ROUNDS)))


def _sides(
    bench: DataBench,
    rings: _Rings,
    length: int,
    calls: int,
    prepares: dict[str, Callable[[], object]] | None = None,
) -> list[Side]:
    pool = bench.pool(length)
    return [
        Side(name, feeder(append, pool), calls, length, (prepares or {}).get(name))
        for name, append in rings.appends.items()
    ]


def _lock(bench: DataBench, stats: FileStats) -> float:
    """Return the nanoseconds of taking a file's lock and giving it back."""

    def lock() -> None:
        stats.file.lock()
        stats.file.unlock()

    calls = bench.scale.append_calls[1]
    return alternate([Side("lock", lock, calls)], bench.scale.rounds)["lock"].median


def _add_row(table: Table, title: str, name: str, found: dict[str, Timing]) -> None:
    file, memory, copy = found[f"file {name}"], found["memory"], found[f"copy {name}"]
    table.add(
        title,
        *median_and_range(file),
        number(memory.median),
        number(file.ratio_to(memory)),
        number(copy.median),
        number(file.ratio_to(copy)),
    )


def _add_targets(bench: DataBench, names: list[str], found: dict[str, Timing]) -> None:
    for name in names:
        ratio = found[f"file {name}"].ratio_to(found["memory"])
        what = f"append of {BATCH_MAX:,} with a data directory ({name}), against in memory"
        bench.add_target(what, ratio, _TIMES_MEMORY, "times")


def _add_notes(bench: DataBench, table: Table, lock_ns: float) -> None:
    table.notes += [
        f"Rings of {bench.scale.ring_prices:,} prices, durability `process`, all in turns with the "
        "same batches; at the end all hold the same prices and answer alike to the bit. `copy into "
        "a file` is the plain copy (memcpy) of the batch into a mapped file in the same place, its "
        f"room allocated beforehand. Locking and unlocking the file takes {number(lock_ns)} ns of "
        "each append: most of what an append of one price costs more.",
        "Unfavourable: on the *first lap* every page is new; a file's page has to be found, "
        "cleared and entered into the file, and room on disk is allocated ahead. *Written back*: "
        "`fdatasync` before each block, so that the first store into every page faults, as "
        "whenever the system has written the file to disk in the background since the last lap.",
    ]
