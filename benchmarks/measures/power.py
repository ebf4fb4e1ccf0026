"""Appends that are acknowledged once they are on disk, beside what the disk itself takes.

The device's side writes the same bytes into a file of the same size and makes them durable: one
write, one flush. Options that were put aside take their turns as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

import numpy as np

from financial_data_service.engine.layout import HEADER_BYTES, WORD_APPEND_LIMIT, Geometry
from financial_data_service.storage import disk
from financial_data_service.storage.file_names import file_name_of
from financial_data_service.storage.file_stats import FileStats
from financial_data_service.storage.symbol_file import SymbolFile
from harness.table import Table, number
from harness.timing import Side, Timing, alternate, no_collector
from measures.bench import BATCH_MAX
from measures.data_bench import SYMBOL, DataBench, Prices, feeder, median_and_range

__all__ = ["measure_power"]

_TIMES_DEVICE = 1.3
_BATCHES = (BATCH_MAX, 100, 1)
_OURS, _DEVICE, _TWO_FLUSHES, _WHOLE = "ours", "device", "two flushes", "whole file"
_PARTS = ("lock", "check", "write", "levels", "checksum", "record", "sync", "count")


class _TwoFlushes(SymbolFile):
    """Put aside: the prices first, and then the record that they are there."""

    def sync_prices(self, begin: int, end: int) -> None:
        super().sync_prices(begin, end)
        # The record would be written now: its page is stored to.
        self.words[WORD_APPEND_LIMIT] = self.append_limit
        self.sync_header()


class _WholeFile(SymbolFile):
    """Put aside: everything, levels included, in one call."""

    def sync_prices(self, begin: int, end: int) -> None:
        disk.sync_range(self._map, self.geometry.size_bytes)


class _Watched(SymbolFile):
    """As it is, but for marks of the time when a part begins and ends."""

    marks_ns: list[int]

    def lock(self) -> None:
        self.marks_ns = [perf_counter_ns()]
        super().lock()
        self.marks_ns.append(perf_counter_ns())

    def unlock(self) -> None:
        super().unlock()
        self.marks_ns.append(perf_counter_ns())

    def write(self, begin: int, prices: Prices) -> None:
        self.marks_ns.append(perf_counter_ns())
        super().write(begin, prices)
        self.marks_ns.append(perf_counter_ns())

    def checksum_of(self, begin: int, end: int) -> int:
        self.marks_ns.append(perf_counter_ns())
        found = super().checksum_of(begin, end)
        self.marks_ns.append(perf_counter_ns())
        return found

    def sync_prices(self, begin: int, end: int) -> None:
        self.marks_ns.append(perf_counter_ns())
        super().sync_prices(begin, end)
        self.marks_ns.append(perf_counter_ns())


class _Device:
    """A file of the same size, its blocks written before; batches go to it as bytes alone."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(self.descriptor, 0, size_bytes)
        # In pieces as large as batches: what came page by page takes a sixth longer to be synced.
        piece = b"\xff" * (BATCH_MAX * 8)
        for offset in range(0, size_bytes, len(piece)):
            os.pwrite(self.descriptor, piece[: size_bytes - offset], offset)
        os.fsync(self.descriptor)
        self._size_bytes = size_bytes
        self._begin = self._end = HEADER_BYTES
        self.spent_ns = (0, 0)

    def append(self, prices: Prices) -> None:
        """Write a batch behind the one before it, and wait until it is on disk."""
        self._advance(prices)
        os.pwrite(self.descriptor, prices.data, self._begin)
        os.fdatasync(self.descriptor)

    def append_watched(self, prices: Prices) -> None:
        """Do the same with a stopwatch on its two parts."""
        self._advance(prices)
        begin = perf_counter_ns()
        os.pwrite(self.descriptor, prices.data, self._begin)
        written = perf_counter_ns()
        os.fdatasync(self.descriptor)
        self.spent_ns = (written - begin, perf_counter_ns() - written)

    def _advance(self, prices: Prices) -> None:
        has_room = self._end + prices.nbytes <= self._size_bytes
        self._begin = self._end if has_room else HEADER_BYTES
        self._end = self._begin + prices.nbytes

    def last(self) -> bytes:
        """Return the batch that was written last."""
        return os.pread(self.descriptor, self._end - self._begin, self._begin)

    def close(self) -> None:
        os.close(self.descriptor)


def measure_power(bench: DataBench) -> list[Table]:
    """Append batches of 10,000, 100 and 1 in power mode: all sides in turns, then by part."""
    with ExitStack() as stack:
        geometry = Geometry(bench.scale.ring_prices, batch_max=BATCH_MAX)
        batches = [bench.walk.take(BATCH_MAX) for _ in range(geometry.capacity // BATCH_MAX + 2)]
        kinds = {_OURS: SymbolFile, _TWO_FLUSHES: _TwoFlushes, _WHOLE: _WholeFile}
        files = {
            name: stack.enter_context(_wrapped(bench, kind, name, geometry, batches))
            for name, kind in kinds.items()
        }
        watched = stack.enter_context(_wrapped(bench, _Watched, "watched", geometry, batches))
        device = stack.enter_context(
            closing(_Device(bench.places.disk / "device", geometry.size_bytes))
        )
        alone = {
            _OURS: stack.enter_context(_wrapped(bench, SymbolFile, "alone", geometry, batches))
        }
        found = {length: _take_turns(bench, alone, device, length) for length in _BATCHES}
        aside = {length: _take_turns(bench, files, device, length) for length in _BATCHES}
        parts = {length: _parts(bench, watched, device, length) for length in _BATCHES}
        answers = files[_OURS].all_stats()
        assert all(stats.all_stats() == answers for stats in files.values())
        bench.verify(files[_OURS])
        bench.verify(alone[_OURS])
    ratio = found[BATCH_MAX][_OURS].ratio_to(found[BATCH_MAX][_DEVICE])
    what = f"append of {BATCH_MAX:,} in power mode, against the device's write and flush"
    bench.add_target(what, ratio, _TIMES_DEVICE, "times")
    return [_turns_table(bench, found), _aside_table(aside), _parts_table(bench, parts)]


@contextmanager
def _wrapped(
    bench: DataBench, kind: type[SymbolFile], name: str, geometry: Geometry, batches: list[Prices]
) -> Iterator[FileStats]:
    """Make a file in power mode that its prices have gone round; what is left must be durable."""
    directory = bench.places.disk / f"power {name}"
    directory.mkdir()
    path = directory / file_name_of(SYMBOL)
    with closing(FileStats(kind.create(path, geometry, SYMBOL), "power")) as stats:
        for batch in batches:
            stats.append(batch)
        assert stats.sequence > geometry.capacity
        yield stats
        sequence = stats.sequence
    with closing(SymbolFile.open_read_only(path)) as file:
        newest = max(record for record in file.records() if record is not None)
        assert newest.sequence == file.plan_recovery().sequence == sequence


def _take_turns(
    bench: DataBench, files: dict[str, FileStats], device: _Device, length: int
) -> dict[str, Timing]:
    pool = bench.pool(length)
    appends = {name: stats.append for name, stats in files.items()} | {_DEVICE: device.append}
    sides = [
        Side(name, feeder(append, pool), bench.scale.power_calls)
        for name, append in appends.items()
    ]
    found = alternate(sides, bench.scale.power_rounds)
    newest = files[_OURS].values(length)
    assert device.last() == newest.tobytes()
    return found


def _parts(bench: DataBench, stats: FileStats, device: _Device, length: int) -> dict[str, float]:
    """Return the median nanoseconds of each part of single appends, in turns with the device's."""
    assert isinstance(stats.file, _Watched)
    pool = bench.pool(length)
    ours: list[list[int]] = []
    theirs: list[list[int]] = []
    with no_collector():
        for turn in range(bench.scale.power_rounds):
            whole, processor = _time(stats.append, pool[turn % len(pool)])
            parts = [end - begin for begin, end in pairwise(stats.file.marks_ns)]
            ours.append([whole, *parts, processor])
            _, processor = _time(device.append_watched, pool[turn % len(pool)])
            theirs.append([*device.spent_ns, processor])
    names = ("all", *_PARTS, "processor", "device write", "device flush", "device processor")
    medians = (*np.median(ours, axis=0), *np.median(theirs, axis=0))
    return dict(zip(names, map(float, medians), strict=True))


def _time(append: Callable[[Prices], object], batch: Prices) -> tuple[int, int]:
    """Return nanoseconds by the clock and of the processor."""
    begin, processor = perf_counter_ns(), thread_time_ns()
    append(batch)
    return perf_counter_ns() - begin, thread_time_ns() - processor


def _turns_table(bench: DataBench, found: dict[int, dict[str, Timing]]) -> Table:
    table = Table(
        "Power mode: microseconds until an append is acknowledged",
        ("batch", "append", "min–max", "device: write, flush", "times the device"),
    )
    for length, timings in found.items():
        table.add(
            f"{length:,}",
            *median_and_range(timings[_OURS], 1e3),
            number(timings[_DEVICE].median / 1e3),
            number(timings[_OURS].ratio_to(timings[_DEVICE])),
        )
    table.notes.append(
        f"A ring of {bench.scale.ring_prices:,} prices, gone round once, and a file of the same "
        "size in the same place, its blocks written before; blocks of "
        f"{bench.scale.power_calls} appends in turns. The device's side is `pwrite` of the same "
        "bytes and `fdatasync`. Afterwards each file says that all its prices are durable. On a "
        "machine that does other things, waiting for a core is part of all sides: times grow, and "
        "ratios come closer to 1 than they are."
    )
    return table


def _aside_table(found: dict[int, dict[str, Timing]]) -> Table:
    names = (_OURS, _TWO_FLUSHES, _WHOLE)
    table = Table(
        "Power mode, what was put aside: times the device",
        ("batch", *names, "device: microseconds"),
    )
    for length, timings in found.items():
        device = timings[_DEVICE]
        ratios = (number(timings[name].ratio_to(device)) for name in names)
        table.add(f"{length:,}", *ratios, number(device.median / 1e3))
    table.notes.append(
        "All in turns. *Two flushes*: the record of the prices behind the prices. *Whole file*: "
        "`msync` of all of it, so that the levels, which can be made again, wait for the disk too."
    )
    return table


def _parts_table(bench: DataBench, parts: dict[int, dict[str, float]]) -> Table:
    names = list(parts[BATCH_MAX])
    table = Table("Power mode: microseconds of an append by part", ("batch", *names))
    for length, medians in parts.items():
        table.add(f"{length:,}", *(number(medians[name] / 1e3) for name in names))
    table.notes.append(
        f"Medians of {bench.scale.power_rounds} single appends in turns with the device's; "
        "`processor` is processor time of all of it. *Check*: are they prices, and is there room; "
        "*levels*: summaries of the blocks they complete; *record*: of how many are there, with a "
        "checksum; *count*: the new count, and the lock given back. The first store into the "
        "header after a sync faults. Each wait for the disk leaves the caches to others: all parts "
        "take a multiple of what they take in a loop."
    )
    return table
