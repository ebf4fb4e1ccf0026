"""What is believed of a file after the last process that used it has ended.

======================  =======================================  ====================
the header says         prices believed                          levels
======================  =======================================  ====================
closed cleanly          the count, which the session repeats     believed
in use, in this boot    the count: the page cache outlives       recomputed
                        processes
in use, another boot    the valid durable record of the higher   recomputed
                        generation
======================  =======================================  ====================

A file that contradicts itself is rejected; nothing is repaired by guessing. :func:`plan_recovery`
decides and writes nothing, :func:`apply_recovery` carries the plan out.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import (
    DELETED,
    WORD_APPEND_LIMIT,
    WORD_COUNT,
    WORD_COUNT_COPIES,
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
    erase_record,
    read_records,
    read_session,
    records_written,
    write_session,
)

__all__ = [
    "NO_LIMIT",
    "FileState",
    "RecoveryPlan",
    "apply_recovery",
    "plan_recovery",
    "rebuild_levels",
    "unsynced_max",
]


class FileState(Enum):
    """How a file was left by the last process that used it."""

    CLEAN = "closed cleanly"
    KILLED = "left by a process that was killed"
    POWER_LOST = "left by a machine that went down"
    DELETED = "deleted"


class RecoveryPlan(NamedTuple):
    """Which contents of a file are valid, and therefore the state that a recovery produces.

    Attributes
    ----------
    state : FileState
        How the file was left.
    sequence : int
        Number of prices believed; -1 if the symbol was deleted.
    floor : int
        Number of the oldest price that is known to be intact.
    append_limit : int
        Count up to which appends leave the durable records as they are.
    synced_generation : int
        Generation of the durable record that is known to be on disk.
    """

    state: FileState
    sequence: int
    floor: int
    append_limit: int
    synced_generation: int


NO_LIMIT = 1 << 62


def unsynced_max(geometry: Geometry) -> int:
    """Return how many prices may follow a durable record before it must be renewed or revoked.

    The limit is half the slack. Up to this limit no price that the durable record covers is
    overwritten. The limit is at least one batch, and the slack always holds at least one batch.
    """
    return max(geometry.batch_max, geometry.slack // 2)


def plan_recovery(ring: Ring, boot_id: bytes) -> RecoveryPlan:
    """Decide what to believe of a file that no process has open. Writes nothing.

    O(1); for a file that another boot left in power mode, O(n) in the prices of the last batch.

    Raises
    ------
    HeaderError
        When nothing can be believed. The message gives the reason.
    """
    # Read all words with one copy, because another process may be writing.
    counts = ring.header[WORD_COUNT : WORD_COUNT_COPIES + 2].tolist()
    session = read_session(ring.header)
    records = [record for record in read_records(ring.header) if record is not None]
    if session.state == CLEAN:
        return _closed(ring, session, _published(counts, 0), records)
    if counts[0] == DELETED:
        return RecoveryPlan(FileState.DELETED, DELETED, 0, 0, 0)
    if session.boot_id == boot_id:
        return _killed(ring, session, _published(counts, ring.geometry.batch_max), records)
    return _power_lost(ring, session, counts[0], records)


def _published(counts: list[int], ahead_max: int) -> int:
    """Return the count that a writer had published, or was publishing when it was killed.

    A writer stores the two copies of the count and then the count. So one or both copies may be
    ahead of the count by one batch. Any other difference is damage. If both copies are ahead, the
    batch is complete.
    """
    count, (least, greatest) = counts[0], sorted(counts[1:])
    is_between = count <= least <= greatest <= count + ahead_max
    if not is_between or (least != greatest and least != count):
        raise HeaderError(
            f"expected one count of prices, got {count} and, in its copies, {counts[1]} and "
            f"{counts[2]}: it is damaged"
        )
    return least


def _closed(ring: Ring, session: Session, count: int, records: list[DurableRecord]) -> RecoveryPlan:
    if len(records) < records_written(ring.header):
        raise HeaderError("expected whole durable records in a file closed cleanly: it is damaged")
    newest = max(records, default=None)
    if newest is None or not session.sequence == count == newest.sequence == newest.base:
        said = "none" if newest is None else newest.sequence
        raise HeaderError(
            f"expected one count of prices, got {count} in the header, {session.sequence} when "
            f"it was closed and {said} in its durable record: it is damaged"
        )
    limit = count + unsynced_max(ring.geometry)
    return RecoveryPlan(FileState.CLEAN, count, session.floor, limit, newest.generation)


def _killed(ring: Ring, session: Session, count: int, records: list[DurableRecord]) -> RecoveryPlan:
    generation = int(ring.header[WORD_SYNCED_GENERATION])
    synced = next((each for each in records if each.generation == generation), None)
    if synced is None:
        raise HeaderError(
            f"expected a durable record of generation {generation}, got "
            f"{[each.generation for each in records]}: it is damaged"
        )
    limit = int(ring.header[WORD_APPEND_LIMIT])
    # A record is written before its count is published. So it may be at most one batch ahead of the
    # count.
    least = max(session.floor, 0, *(each.sequence - ring.geometry.batch_max for each in records))
    if not least <= count <= limit:
        raise HeaderError(
            f"expected a count of prices between {least} and {limit}, got {count}: it is damaged"
        )
    if synced.sequence != NOTHING_DURABLE:
        limit = min(limit, synced.sequence + unsynced_max(ring.geometry))
    return RecoveryPlan(FileState.KILLED, count, session.floor, limit, generation)


def _power_lost(
    ring: Ring, session: Session, count: int, records: list[DurableRecord]
) -> RecoveryPlan:
    held = [record for record in records if _holds(ring, record)]
    newest = max(held, default=None)
    if newest is None:
        raise HeaderError("expected a durable record that holds, got none: it is damaged")
    if newest.sequence == NOTHING_DURABLE:
        raise HeaderError(
            "the machine went down while prices came faster than they went to disk, which "
            "durability 'process' allows: what is on disk cannot be told from what is not. Move "
            "the file away to start again"
        )
    geometry = ring.geometry
    # Later prices may have overwritten older slots. The windows of this record read none of those
    # slots.
    floor = max(session.floor, newest.sequence - max(geometry.largest_window, geometry.batch_max))
    limit = newest.sequence + unsynced_max(geometry)
    if count > limit:  # A newer record was put on disk before that.
        raise HeaderError(
            f"expected a count of at most {limit} after a durable record of {newest.sequence}, got "
            f"{count}: it is damaged"
        )
    return RecoveryPlan(FileState.POWER_LOST, newest.sequence, floor, limit, newest.generation)


def _holds(ring: Ring, record: DurableRecord) -> bool:
    """Whether the prices that were written together with a record are on disk."""
    if record.base == record.sequence:
        return True
    if not 0 <= record.sequence - record.base <= ring.geometry.capacity:
        return False
    return checksum(ring.read(record.base, record.sequence)) == record.prices_checksum


def rebuild_levels(ring: Ring, count: int) -> None:
    """Recompute the summary of every block that is complete at `count` prices. O(capacity)."""
    geometry = ring.geometry
    oldest = max(0, count - geometry.capacity)
    for level in range(1, geometry.levels + 1):
        shift = geometry.fanout_shift * level
        kernels.store_blocks(ring.header, ring.region, level, -(-oldest >> shift), count >> shift)


def apply_recovery(ring: Ring, plan: RecoveryPlan, boot_id: bytes) -> None:
    """Make a file as the plan says, and record that this boot uses it.

    That record is written last: if the process dies before, the next one recovers the file again.
    The header must be synced before anything is appended. Until then, and until the append limit is
    set to that of the plan, every append has to write and sync a durable record first.

    A durable record newer than the plan is erased. It describes a batch that this recovery
    discards. The batch must not become valid again if its prices reach the disk later.
    """
    header = ring.header
    if plan.state is not FileState.CLEAN:
        rebuild_levels(ring, plan.sequence)
    for slot, record in enumerate(read_records(header)):
        if record is not None and record.generation > plan.synced_generation:
            erase_record(header, slot)
    header[WORD_APPEND_LIMIT] = plan.sequence
    header[WORD_SYNCED_GENERATION] = plan.synced_generation
    kernels.publish(header, plan.sequence)
    write_session(header, Session(IN_USE, boot_id, plan.floor, 0))
