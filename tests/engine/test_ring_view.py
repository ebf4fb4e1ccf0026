"""RingView: prices are read beside a writer, and read again when the writer overtakes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import DELETED
from financial_data_service.engine.ring_view import TRIES, RingView
from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.errors import OverwrittenError, SymbolNotFoundError

LARGEST, BATCH = 64, 8


def stats_of(count: int) -> RunningStats:
    """Prices 0, 1, 2, …"""
    stats = RunningStats(LARGEST, fanout=4, batch_max=BATCH)
    for begin in range(0, count, BATCH):
        stats.append(np.arange(begin, min(count, begin + BATCH), dtype=np.float64))
    return stats


def append(stats: RunningStats, count: int) -> None:
    sequence = stats.sequence
    for begin in range(sequence, sequence + count, BATCH):
        stats.append(np.arange(begin, begin + BATCH, dtype=np.float64))


@pytest.mark.parametrize("overtaken", range(TRIES))
def test_it_is_read_again_at_the_newest_sequence_while_it_is_overtaken(overtaken: int) -> None:
    stats = stats_of(200)
    view = RingView("A", stats.ring)
    sequences = []

    def read(sequence: int) -> npt.NDArray[np.float64]:
        sequences.append(sequence)
        begin = sequence - LARGEST
        prices = stats.ring.read(begin, sequence).copy()
        if len(sequences) <= overtaken:
            append(stats, 2 * LARGEST)
        view.check_not_overwritten(begin)
        return prices

    assert view.read_newest(read).tolist() == list(range(sequences[-1] - LARGEST, sequences[-1]))
    assert sequences == [200 + 2 * LARGEST * attempt for attempt in range(overtaken + 1)]


def test_after_the_last_attempt_the_error_is_raised() -> None:
    stats = stats_of(200)
    view = RingView("A", stats.ring)
    attempts = []

    def read(sequence: int) -> None:
        attempts.append(sequence)
        append(stats, 2 * LARGEST)
        view.check_not_overwritten(sequence - LARGEST)

    with pytest.raises(OverwrittenError, match="of symbol A were overwritten by newer ones"):
        view.read_newest(read)
    assert len(attempts) == TRIES


def test_another_error_is_not_tried_again() -> None:
    view = RingView("A", stats_of(200).ring)
    attempts = []

    def read(sequence: int) -> None:
        attempts.append(sequence)
        raise ValueError("of the reader")

    with pytest.raises(ValueError, match="of the reader"):
        view.read_newest(read)
    assert attempts == [200]


@pytest.mark.parametrize("count", range(1, 40))
def test_a_price_counts_as_intact_until_the_writer_may_reach_it(count: int) -> None:
    stats = stats_of(200)
    view = RingView("A", stats.ring)
    capacity = stats.geometry.capacity
    append(stats, count * BATCH)
    oldest = view.oldest
    assert oldest == max(0, stats.sequence + BATCH - capacity)
    view.check_not_overwritten(oldest)
    if oldest:
        with pytest.raises(OverwrittenError):
            view.check_not_overwritten(oldest - 1)


def test_a_deleted_symbol_is_not_found() -> None:
    stats = stats_of(20)
    view = RingView("A", stats.ring)
    kernels.publish(stats.ring.header, DELETED)
    with pytest.raises(SymbolNotFoundError):
        view.sequence  # noqa: B018
    with pytest.raises(SymbolNotFoundError):
        view.read_newest(lambda sequence: sequence)
    stats.close()
    with pytest.raises(SymbolNotFoundError):
        RingView("A", stats.ring)
