"""What is believed of a file after its last process went, however it went.

======================  =======================================  ====================
the file says           prices believed                          levels
======================  =======================================  ====================
closed cleanly          its count, which the session repeats     believed
in use, in this boot    its count: the page cache outlives       made again
                        processes
in use, another boot    the durable record of the highest        made again
                        generation that holds
======================  =======================================  ====================

Whatever contradicts itself is refused; nothing is mended by guessing. :func:`plan` decides and
writes nothing, :func:`adopt` carries it out.
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

__all__ = ["NO_LIMIT", "State", "Trust", "adopt", "plan", "rebuild_levels", "unsynced_max"]


class State(Enum):
    """How a file was left, if it is not in use now."""

    CLEAN = "closed cleanly"
    KILLED = "left by a process that was killed"
    POWER_LOST = "left by a machine that went down"
    DELETED = "deleted"


class Trust(NamedTuple):
    """What is believed of a file.

    Attributes
    ----------
    state : State
        How it was left.
    sequence : int
        Prices believed to be there; -1 when the symbol was deleted.
    floor : int
        Number of the oldest price that is known to be whole.
    append_limit : int
        Prices up to which appends need not look after the durable records.
    synced_generation : int
        Generation of the durable record that is known to be on disk.
    """

    state: State
    sequence: int
    floor: int
    append_limit: int
    synced_generation: int


NO_LIMIT = 1 << 62


def unsynced_max(geometry: Geometry) -> int:
    """Return how many prices may follow a durable record before it must be renewed or revoked.

    Half the slack: so far, what was durable is whole, because nothing it counts on has been
    overwritten. At least one batch, for which the slack always has room.
    """
    return max(geometry.batch_max, geometry.slack // 2)


def plan(ring: Ring, boot_id: bytes) -> Trust:
    """Decide what to believe of a file that no process has open. Writes nothing.

    O(1), but for a file that another boot left in power mode: then O(b) in the prices of the last
    batch.

    Raises
    ------
    HeaderError
        When nothing can be believed; the message says why.
    """
    # In one go: a writer may be at work.
    counts = ring.header[WORD_COUNT : WORD_COUNT_COPIES + 2].tolist()
    session = read_session(ring.header)
    records = [record for record in read_records(ring.header) if record is not None]
    if session.state == CLEAN:
        return _closed(ring, session, _published(counts, 0), records)
    if counts[0] == DELETED:
        return Trust(State.DELETED, DELETED, 0, 0, 0)
    if session.boot_id == boot_id:
        return _killed(ring, session, _published(counts, ring.geometry.batch_max), records)
    return _power_lost(ring, session, counts[0], records)


def _published(counts: list[int], ahead_max: int) -> int:
    """Return how many prices a writer had published, or was just publishing when it was killed.

    It stores the copies, and then the count itself: so the copies may be a batch ahead, both or
    one, and nothing else may differ. If both are, the batch is whole.
    """
    count, (least, greatest) = counts[0], sorted(counts[1:])
    is_between = count <= least <= greatest <= count + ahead_max
    if not is_between or (least != greatest and least != count):
        raise HeaderError(
            f"expected one count of prices, got {count} and, in its copies, {counts[1]} and "
            f"{counts[2]}: it is damaged"
        )
    return least


def _closed(ring: Ring, session: Session, count: int, records: list[DurableRecord]) -> Trust:
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
    return Trust(State.CLEAN, count, session.floor, limit, newest.generation)


def _killed(ring: Ring, session: Session, count: int, records: list[DurableRecord]) -> Trust:
    generation = int(ring.header[WORD_SYNCED_GENERATION])
    synced = next((each for each in records if each.generation == generation), None)
    if synced is None:
        raise HeaderError(
            f"expected a durable record of generation {generation}, got "
            f"{[each.generation for each in records]}: it is damaged"
        )
    limit = int(ring.header[WORD_APPEND_LIMIT])
    # A record is written before the count that it speaks of, by a batch at most.
    least = max(session.floor, 0, *(each.sequence - ring.geometry.batch_max for each in records))
    if not least <= count <= limit:
        raise HeaderError(
            f"expected a count of prices between {least} and {limit}, got {count}: it is damaged"
        )
    if synced.sequence != NOTHING_DURABLE:
        limit = min(limit, synced.sequence + unsynced_max(ring.geometry))
    return Trust(State.KILLED, count, session.floor, limit, generation)


def _power_lost(ring: Ring, session: Session, count: int, records: list[DurableRecord]) -> Trust:
    held = [record for record in records if _holds(ring, record)]
    newest = max(held, default=None)
    if newest is None:
        raise HeaderError("expected a durable record that holds, got none: it is damaged")
    if newest.sequence == NOTHING_DURABLE:
        raise HeaderError(
            "the machine went down while prices came faster than they went to disk, which "
            "durability 'process' allows: what is on disk cannot be told from what is not. Move "
            "the file away to begin anew"
        )
    geometry = ring.geometry
    # Prices that came after it may have overwritten what no window of it can reach.
    floor = max(session.floor, newest.sequence - max(geometry.largest_window, geometry.batch_max))
    limit = newest.sequence + unsynced_max(geometry)
    if count > limit:  # Before it went there, a newer record was put on disk.
        raise HeaderError(
            f"expected at most {limit} prices behind a durable record of {newest.sequence}, got "
            f"{count}: it is damaged"
        )
    return Trust(State.POWER_LOST, newest.sequence, floor, limit, newest.generation)


def _holds(ring: Ring, record: DurableRecord) -> bool:
    """Tell whether the prices that were on their way together with a record have arrived."""
    if record.base == record.sequence:
        return True
    if not 0 <= record.sequence - record.base <= ring.geometry.capacity:
        return False
    return checksum(ring.read(record.base, record.sequence)) == record.prices_checksum


def rebuild_levels(ring: Ring, count: int) -> None:
    """Make every block summary again that prices up to number `count` complete. O(capacity)."""
    geometry = ring.geometry
    oldest = max(0, count - geometry.capacity)
    for level in range(1, geometry.levels + 1):
        shift = geometry.fanout_shift * level
        kernels.store_blocks(ring.header, ring.region, level, -(-oldest >> shift), count >> shift)


def adopt(ring: Ring, trust: Trust, boot_id: bytes) -> None:
    """Make a file as it is believed to be, and note that it is in use by this boot.

    The note is the last thing written: a process that dies on the way leaves the file for the next
    to adopt. The header has to be synced before anything is appended. Until it is, and the limit of
    appends then set to what is believed, whoever appends has to write and sync a record first.

    A record that is newer than what is believed goes: it speaks of a batch that, from now on, has
    not happened, and must not come to life when its prices reach the disk after all.
    """
    header = ring.header
    if trust.state is not State.CLEAN:
        rebuild_levels(ring, trust.sequence)
    for slot, record in enumerate(read_records(header)):
        if record is not None and record.generation > trust.synced_generation:
            erase_record(header, slot)
    header[WORD_APPEND_LIMIT] = trust.sequence
    header[WORD_SYNCED_GENERATION] = trust.synced_generation
    kernels.publish(header, trust.sequence)
    write_session(header, Session(IN_USE, boot_id, trust.floor, 0))
