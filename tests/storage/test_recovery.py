"""Recovery: what is believed of a file, case by case, and that deciding writes nothing.

How: rings in memory with headers as files have them, made by hand for each way a file can be left;
what the table in ``recovery`` says of each is asserted. Sizes that are promised to fit are checked
for any geometry.
"""

from __future__ import annotations

import itertools
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import (
    DELETED,
    WORD_APPEND_LIMIT,
    WORD_COUNT,
    WORD_FLOOR,
    WORD_RECORD_A,
    WORD_SYNCED_GENERATION,
    Geometry,
)
from financial_data_service.engine.ring import Ring
from financial_data_service.storage.header import (
    CLEAN,
    IN_USE,
    NOTHING_DURABLE,
    DurableRecord,
    HeaderError,
    Session,
    checksum,
    read_records,
    read_session,
    write_record,
    write_session,
)
from financial_data_service.storage.recovery import (
    NO_LIMIT,
    FileState,
    RecoveryPlan,
    apply_recovery,
    plan_recovery,
    rebuild_levels,
    unsynced_max,
)

TINY = Geometry(12, 2, 5)  # capacity 24, slack 12, at most 6 prices behind a record
HERE, ELSEWHERE = b"the boot of now!", b"some other boot."
PRICES = np.arange(1.0, 100.0)


def ring_of(
    count: int,
    session: Session,
    *records: DurableRecord | None,
    limit: int = 0,
    synced: int = 0,
) -> Ring:
    """Return a ring with so many prices, and a header that says what is given."""
    ring = Ring(TINY)
    for begin in range(0, max(0, count), 5):
        kernels.append(ring.header, ring.region, PRICES[begin : min(begin + 5, count)])
    kernels.publish(ring.header, count)
    write_session(ring.header, session)
    for slot, record in enumerate(records):
        if record is not None:
            write_record(ring.header, slot, record)
    ring.header[[WORD_APPEND_LIMIT, WORD_SYNCED_GENERATION]] = limit, synced
    return ring


def record(
    generation: int, sequence: int, base: int | None = None, wrong: int = 0
) -> DurableRecord:
    """Return a record whose prices have arrived, unless they are said to be wrong."""
    if base is None:
        return DurableRecord(generation, sequence, sequence, 0)
    return DurableRecord(generation, sequence, base, checksum(PRICES[base:sequence]) ^ wrong)


def planned(ring: Ring) -> RecoveryPlan:
    """Decide, and see that nothing was written."""
    before = ring.region.tobytes()
    try:
        return plan_recovery(ring, HERE)
    finally:
        assert ring.region.tobytes() == before


def refused(ring: Ring) -> str:
    with pytest.raises(HeaderError) as refusal:
        planned(ring)
    return str(refusal.value)


# Closed cleanly


@pytest.mark.parametrize("boot", [HERE, ELSEWHERE])
def test_closed_cleanly(boot: bytes) -> None:
    """The count is believed in whichever boot, and the floor that was found then."""
    session = Session(CLEAN, boot, 3, 20)
    for records in (
        [record(1, 20)],
        [record(2, 20), record(1, 17)],
        [record(8, -1), record(9, 20)],
    ):
        newest = max(records)
        expected = RecoveryPlan(FileState.CLEAN, 20, 3, 26, newest.generation)
        assert planned(ring_of(20, session, *records)) == expected


@pytest.mark.parametrize(
    ("count", "closed", "records"),
    [
        (21, 20, [record(1, 20)]),
        (20, 21, [record(1, 20)]),
        (20, 20, [record(1, 19)]),
        (20, 20, [record(2, 19), record(1, 20)]),
        (20, 20, [record(1, 20, 18)]),
        (20, 20, [record(1, NOTHING_DURABLE)]),
        (20, 20, []),
    ],
)
def test_closed_cleanly_but_contradictory(
    count: int, closed: int, records: list[DurableRecord]
) -> None:
    reason = refused(ring_of(count, Session(CLEAN, HERE, 0, closed), *records))
    said = max(records).sequence if records else "none"
    assert reason == (
        f"expected one count of prices, got {count} in the header, {closed} when it was closed and "
        f"{said} in its durable record: it is damaged"
    )


def test_closed_cleanly_with_a_record_that_is_damaged() -> None:
    """Even if it is the older one: nothing tears in a file that was closed."""
    ring = ring_of(20, Session(CLEAN, HERE, 0, 20), record(2, 20), record(1, 17))
    ring.header[WORD_RECORD_A + 64] ^= 1
    assert refused(ring).startswith("expected whole durable records in a file closed cleanly")


# Left by a kill


def test_killed() -> None:
    """The count, and whatever the hints say of the records; the page cache has outlived it."""
    session = Session(IN_USE, HERE, 4, 0)
    for count in (12, 17, 22):
        ring = ring_of(count, session, record(5, 17), record(4, 12), limit=23, synced=5)
        assert planned(ring) == RecoveryPlan(FileState.KILLED, count, 4, 23, 5)


def test_killed_with_a_record_on_its_way() -> None:
    """What appends may rely on is the record that was known to be on disk."""
    ring = ring_of(
        20, Session(IN_USE, HERE, 0, 0), record(5, 20), record(4, 16), limit=26, synced=4
    )
    assert planned(ring) == RecoveryPlan(FileState.KILLED, 20, 0, 22, 4)


def test_killed_once_records_were_revoked() -> None:
    session = Session(IN_USE, HERE, 0, 0)
    ring = ring_of(40, session, record(5, -1), record(4, 16), limit=NO_LIMIT, synced=5)
    assert planned(ring) == RecoveryPlan(FileState.KILLED, 40, 0, NO_LIMIT, 5)


@pytest.mark.parametrize("count", [3, 11, 24, 10**12])
def test_killed_with_a_count_that_cannot_be(count: int) -> None:
    ring = ring_of(20, Session(IN_USE, HERE, 4, 0), record(5, 17), limit=23, synced=5)
    kernels.publish(ring.header, count)
    assert refused(ring) == (
        f"expected a count of prices between 12 and 23, got {count}: it is damaged"
    )


# (count, copy, copy) on the way from 20 prices to 23.
@pytest.mark.parametrize(
    ("counts", "believed"),
    [
        ((20, 20, 20), 20),
        ((20, 23, 20), 20),
        ((20, 20, 23), 20),
        ((20, 23, 23), 23),
        ((23, 23, 23), 23),
    ],
)
def test_killed_while_the_count_was_published(counts: tuple[int, ...], believed: int) -> None:
    ring = ring_of(23, Session(IN_USE, HERE, 0, 0), record(5, 20), limit=26, synced=5)
    ring.header[WORD_COUNT : WORD_COUNT + 3] = counts
    assert planned(ring) == RecoveryPlan(FileState.KILLED, believed, 0, 26, 5)


@pytest.mark.parametrize("limit", [26, NO_LIMIT])
def test_no_flipped_bit_of_the_count_changes_it(limit: int) -> None:
    for word, bit in itertools.product(range(WORD_COUNT, WORD_COUNT + 3), range(64)):
        synced = record(5, -1) if limit == NO_LIMIT else record(5, 20)
        ring = ring_of(20, Session(IN_USE, HERE, 0, 0), synced, limit=limit, synced=5)
        ring.header.view(np.uint64)[word] ^= np.uint64(1 << bit)
        with suppress(HeaderError):
            assert planned(ring).sequence == 20


@pytest.mark.parametrize(
    "counts", [(20, 21, 22), (20, 22, 21), (20, 19, 20), (20, 26, 26), (21, 20, 20), (-2, 20, 20)]
)
def test_killed_with_counts_that_contradict_each_other(counts: tuple[int, ...]) -> None:
    ring = ring_of(20, Session(IN_USE, HERE, 0, 0), record(5, -1), limit=NO_LIMIT, synced=5)
    ring.header[WORD_COUNT : WORD_COUNT + 3] = counts
    assert refused(ring) == (
        f"expected one count of prices, got {counts[0]} and, in its copies, {counts[1]} and "
        f"{counts[2]}: it is damaged"
    )


def test_killed_without_the_record_that_was_on_disk() -> None:
    ring = ring_of(
        20, Session(IN_USE, HERE, 0, 0), record(5, 17), record(4, 16), limit=23, synced=6
    )
    assert refused(ring) == "expected a durable record of generation 6, got [5, 4]: it is damaged"


# Left by a loss of power


@pytest.mark.parametrize("count", [0, 6, 17, 20, 21, 26, 10**12])
def test_power_lost(count: int) -> None:
    """The newest record that holds; the count may be of any time until the next record."""
    session = Session(IN_USE, ELSEWHERE, 2, 0)
    for records, believed in (
        ([record(1, 0)], 0),
        ([record(5, 17), record(4, 20)], 17),
        ([record(4, 20), record(5, 17)], 17),
        ([record(5, 20, 17), record(4, 17, 15)], 20),
        ([record(5, 20, 17, wrong=1), record(4, 17, 15)], 17),
        ([record(5, 20, 17), None], 20),
        ([None, record(5, 20, 17)], 20),
        ([record(5, 44, 17), record(4, 17)], 17),  # more than a ring holds
        ([record(5, 16, 17), record(4, 17)], 17),  # less than nothing
    ):
        ring = ring_of(20, session, *records)
        kernels.publish(ring.header, count)
        generation = next(each.generation for each in records if each and each.sequence == believed)
        floor = max(2, believed - 12)
        expected = RecoveryPlan(FileState.POWER_LOST, believed, floor, believed + 6, generation)
        if count <= believed + 6:
            assert planned(ring) == expected
        else:
            assert refused(ring) == (
                f"expected a count of at most {believed + 6} after a durable record of {believed}, "
                f"got {count}: it is damaged"
            )


def test_power_lost_with_prices_around_the_end_of_the_ring() -> None:
    ring = ring_of(27, Session(IN_USE, ELSEWHERE, 0, 0), record(5, 27, 22), record(4, 22))
    assert planned(ring).sequence == 27
    ring.region[TINY.offsets[0] + 25 % 24] += 1.0
    assert planned(ring).sequence == 22


def test_power_lost_with_no_record_that_holds() -> None:
    session = Session(IN_USE, ELSEWHERE, 0, 0)
    for records in ([], [record(5, 20, 17, wrong=1)], [record(2, 20, 17, wrong=1), None]):
        assert refused(ring_of(20, session, *records)).startswith(
            "expected a durable record that holds, got none"
        )


def test_power_lost_once_records_were_revoked() -> None:
    """The older record still holds by itself, but what it counts on may have been overwritten."""
    session = Session(IN_USE, ELSEWHERE, 0, 0)
    ring = ring_of(20, session, record(4, 17), record(5, NOTHING_DURABLE))
    assert "prices came faster than they went to disk" in refused(ring)
    assert "Move the file away to start again" in refused(ring)


@pytest.mark.parametrize("boot", [HERE, ELSEWHERE])
def test_deleted(boot: bytes) -> None:
    ring = ring_of(DELETED, Session(IN_USE, boot, 0, 0), record(1, 20))
    assert planned(ring).state is FileState.DELETED


def test_a_damaged_session() -> None:
    ring = ring_of(20, Session(IN_USE, HERE, 0, 0), record(1, 20), limit=26, synced=1)
    ring.header[WORD_FLOOR] += 1
    assert refused(ring) == "the header's checksum does not match: its session is damaged"


# Adopting


def states() -> list[Ring]:
    return [
        ring_of(20, Session(CLEAN, ELSEWHERE, 3, 20), record(2, 20), record(1, 17)),
        ring_of(20, Session(IN_USE, HERE, 0, 0), record(5, 20), record(4, 16), limit=26, synced=4),
        ring_of(20, Session(IN_USE, ELSEWHERE, 0, 0), record(5, 20, 17), record(4, 17)),
        ring_of(22, Session(IN_USE, ELSEWHERE, 0, 0), record(5, 22, 17, wrong=1), record(4, 17)),
    ]


@pytest.mark.parametrize("index", range(4))
def test_what_is_adopted_is_as_believed(index: int) -> None:
    """From then on it is as if its process had been killed, and it is believed again."""
    ring = states()[index]
    trust = planned(ring)
    for level in range(1, TINY.levels + 1):
        if trust.state is not FileState.CLEAN:
            ring.region[TINY.offsets[level] : TINY.offsets[level + 1]] = np.nan
    apply_recovery(ring, trust, HERE)
    assert ring.sequence == trust.sequence
    assert read_session(ring.header) == Session(IN_USE, HERE, trust.floor, 0)
    assert ring.header[WORD_APPEND_LIMIT] == trust.sequence, "it is not on disk yet"
    left = [each for each in read_records(ring.header) if each is not None]
    assert max(left).generation == trust.synced_generation
    again = planned(ring)
    assert again == trust._replace(state=FileState.KILLED, append_limit=trust.sequence)
    expected = Ring(TINY)
    for begin in range(0, trust.sequence, 5):
        kernels.append(
            expected.header, expected.region, PRICES[begin : min(begin + 5, trust.sequence)]
        )
    for length in range(1, 13):
        answers = [
            kernels.window(each.header, each.region, length, -1) for each in (ring, expected)
        ]
        assert answers[0] == answers[1]


@given(st.integers(0, 99), st.integers(0, 2**32))
def test_levels_made_again_are_those_that_appends_made(count: int, seed: int) -> None:
    """To the bit, wherever the ring stands, and whatever stood there before."""
    prices = np.random.default_rng(seed).normal(0, 1e3, count)
    ring = Ring(TINY)
    for begin in range(0, count, 5):
        kernels.append(ring.header, ring.region, prices[begin : begin + 5])
    before = ring.region.copy()
    ring.region[TINY.offsets[1] :] = np.nan
    rebuild_levels(ring, count)
    for level in range(1, TINY.levels + 1):
        shift = TINY.fanout_shift * level
        blocks = TINY.capacity >> shift
        for block in range(-(-max(0, count - TINY.capacity) >> shift), count >> shift):
            fields = TINY.offsets[level] + block % blocks + blocks * np.arange(5)
            assert (ring.region[fields] == before[fields]).all()


# Sizes

geometries = st.builds(
    Geometry,
    st.integers(10, 10**8) | st.integers(10, 300),
    st.sampled_from([2, 4, 8, 128, 1024]),
    st.integers(1, 10**6) | st.integers(1, 300),
)


@given(geometries)
def test_what_a_record_counts_on_is_not_overwritten(geometry: Geometry) -> None:
    """By as many prices as may follow it; and there is always room for a batch."""
    most = unsynced_max(geometry)
    assert most >= geometry.batch_max
    needed = max(geometry.largest_window, geometry.batch_max)
    assert most - geometry.capacity <= -needed


@given(geometries, st.integers(0, 10**12))
def test_what_is_held_after_a_loss_of_power_is_not_overwritten(
    geometry: Geometry, sequence: int
) -> None:
    """Neither by what came after the record, nor by one batch that was refused half-way."""
    most = unsynced_max(geometry)
    assume(sequence > geometry.capacity)
    floor = sequence - max(geometry.largest_window, geometry.batch_max)
    assert sequence + most - geometry.capacity <= floor
    if geometry.slack >= 2 * geometry.batch_max:
        assert most + geometry.batch_max <= geometry.slack
