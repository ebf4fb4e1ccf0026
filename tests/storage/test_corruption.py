"""Files that are not what they should be: each is refused by name with a sentence, or does no harm.

How: a directory of two symbols whose rings have gone round, closed cleanly or left by a kill. One
file is cut, lengthened, flipped in every bit of its header, or put in the place of another; then
the directory is opened. The other symbol must load in any case, and what is served is compared with
the prices that were appended.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import financial_data_service
from financial_data_service.engine.layout import HEADER_BYTES, RECORD_WORDS, WORD_VERSION, Geometry
from financial_data_service.engine.ring_view import RingView
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import DataDirectoryError, SymbolFileError
from financial_data_service.storage import directory_lock
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.directory_lock import SETTINGS_FILE
from financial_data_service.storage.durability import Durability
from financial_data_service.storage.header import Words, write_identity
from financial_data_service.storage.identification import read_header
from financial_data_service.storage.symbol_file import SymbolFile
from financial_data_service.verify.levels import verify_levels
from support.data_directories import add, fill, in_use, leave
from support.oracle import Oracle

TINY = Geometry(100, 4, 10)
PRICES = np.random.default_rng(5).uniform(10, 20, 700)
OTHER = np.arange(1.0, 41.0)
STRANGER = 12345  # a user id that is not ours

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("clean") / "data", {"A": PRICES, "B": OTHER}, TINY)


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clean, tmp_path / "data")


REASONS = ("expected ", "the header's checksum does not match")


def check(manager: SymbolManager, symbol: str, prices: npt.NDArray[np.float64]) -> None:
    """Every window, and the prices themselves, against what was appended."""
    oracle = Oracle(prices)
    stats = manager[symbol]
    assert stats.sequence == len(prices)
    for length in (1, 2, 9, 10, 57, 100):
        oracle.check(stats.window(length), length)
    assert np.array_equal(stats.values(100), prices[-100:])


def sentence_of(path: Path) -> str:
    """Open a directory in which A.ring must be refused and B served; return why."""
    before = (path / "A.ring").read_bytes() if (path / "A.ring").is_file() else None
    with in_use(path, TINY) as manager:
        check(manager, "B", OTHER)
        assert list(manager.refused) == ["A.ring"]
        with pytest.raises(SymbolFileError) as refusal:
            manager.add_batch("A", [1.0])
        assert refusal.value.path == str(path / "A.ring")
        assert str(path / "A.ring") in str(refusal.value)
        assert manager.symbols() == ["B"]
    if before is not None:
        assert (path / "A.ring").read_bytes() == before, "a refused file was written to"
    return refusal.value.reason


def edit(path: Path, change: Callable[[Words], None]) -> None:
    content = bytearray(path.read_bytes())
    change(np.frombuffer(content, dtype="<i8")[: HEADER_BYTES // 8])
    path.write_bytes(content)


# Length


def boundaries(geometry: Geometry) -> list[int]:
    return [0, 8, HEADER_BYTES, *(offset * 8 for offset in geometry.offsets)]


@pytest.mark.parametrize(
    "size", sorted({b + d for b in boundaries(TINY) for d in (-1, 0, 1) if b + d >= 0})
)
def test_truncation_at_every_boundary(data: Path, size: int) -> None:
    if size == TINY.size_bytes:
        with in_use(data, TINY) as manager:
            check(manager, "A", PRICES)
        return
    os.truncate(data / "A.ring", size)
    reason = sentence_of(data)
    if size < HEADER_BYTES:
        assert f"expected a header of {HEADER_BYTES} bytes, got {size}" in reason
    else:
        change = "cut short" if size < TINY.size_bytes else "added to"
        assert reason.startswith(f"expected {TINY.size_bytes} bytes, got {size}: it was {change}")


# Bits


HINTS = range(640, 664)  # the words that are of no meaning in a file closed cleanly


def test_every_flipped_bit_of_the_header_is_seen(data: Path) -> None:
    path = data / "A.ring"
    whole = path.read_bytes()[:HEADER_BYTES]
    with path.open("r+b", buffering=0) as file:
        for byte in range(HEADER_BYTES):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([whole[byte] ^ 1 << bit]), byte)
                assert is_refused(path) == (byte not in HINTS), f"bit {bit} of byte {byte}"
            os.pwrite(file.fileno(), whole[byte : byte + 1], byte)
    assert not is_refused(path)


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("prices", [PRICES[:30], PRICES], ids=["few", "round"])
def test_no_flipped_bit_of_a_file_left_behind_changes_how_much_is_believed(
    tmp_path: Path, durability: Durability, prices: npt.NDArray[np.float64]
) -> None:
    """`process` durability and a ring gone round: its durable records have been revoked."""
    path = tmp_path / "data" / "A.ring"
    living = tmp_path / "living"
    with in_use(living, TINY, durability=durability) as manager:
        add(manager, "A", prices)
        shutil.copytree(living, path.parent)
    whole = path.read_bytes()[:HEADER_BYTES]
    seen = 0
    with path.open("r+b", buffering=0) as file:
        for byte in range(HEADER_BYTES):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([whole[byte] ^ 1 << bit]), byte)
                seen += is_refused(path, len(prices))
            os.pwrite(file.fileno(), whole[byte : byte + 1], byte)
    assert not is_refused(path, len(prices))
    # What does no harm: a hint, the record before the newest, low bits of a copy of the count.
    assert seen > 8 * (HEADER_BYTES - 2 * 8 * RECORD_WORDS - 24 - 8)


def is_refused(path: Path, sequence: int = len(PRICES)) -> bool:
    """Tell whether a directory would refuse the file, by the same steps; else it is believed."""
    reason = ""
    try:
        file = SymbolFile.open(path)
        try:
            assert file.plan_recovery().sequence == sequence
        finally:
            file.close()
    except SymbolFileError as error:
        reason = error.reason
    assert not reason or reason.startswith(REASONS)
    return bool(reason)


@pytest.mark.parametrize("word", [0, 1, 2, 3, 9, 20, 41, 63, 64, 65, 72, 73, 75, 77, 80, 100, 300])
def test_a_flipped_word_of_the_header(data: Path, word: int) -> None:
    path = data / "A.ring"
    edit(path, lambda words: words.__setitem__(word, words[word] ^ 1 << 5))
    if word * 8 in HINTS:
        with in_use(data, TINY) as manager:
            check(manager, "A", PRICES)
    else:
        assert sentence_of(data).startswith(REASONS)


def test_flipped_summaries_are_made_again_after_a_kill(tmp_path: Path) -> None:
    for index, offset in enumerate(TINY.offsets[1:-1]):
        data = leave(tmp_path / f"data-{index}", {"A": PRICES, "B": OTHER}, TINY)
        with (data / "A.ring").open("r+b") as file:
            file.seek(offset * 8)
            file.write(b"\xff" * (TINY.offsets[index + 2] - offset) * 8)
        with in_use(data, TINY) as manager:
            check(manager, "A", PRICES)


@pytest.mark.parametrize("level", range(TINY.levels + 1))
@pytest.mark.parametrize("is_last", [False, True])
def test_a_flipped_number_of_a_file_closed_cleanly_is_found(
    tmp_path: Path, level: int, is_last: bool
) -> None:
    """Nothing looks at all prices when a directory is opened; ``fds verify`` does."""
    data = fill(tmp_path / "data", {"A": PRICES[:690], "B": OTHER}, TINY)
    size = TINY.fanout ** max(1, level)
    oldest, newest = -(-(690 + TINY.batch_max - TINY.capacity) // size), 690 // size - 1
    assert oldest <= newest
    # A minimum of the oldest or newest block, or its first or last price.
    number = newest if is_last else oldest
    if level == 0:
        number = number * size + (size - 1 if is_last else 0)
    slot = number % (TINY.capacity // TINY.fanout**level)
    with (data / "A.ring").open("r+b") as file:
        file.seek((TINY.offsets[level] + slot) * 8 + 6)
        exponent = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([exponent ^ 0x10]))
    with financial_data_service.open(data) as symbols:
        wrong = verify_levels(RingView("A", symbols["A"].ring)).wrong
        assert [block.level for block in wrong] == [max(1, level)]
        assert wrong[0].begin <= number * (1 if level == 0 else size) < wrong[0].end
        assert not verify_levels(RingView("B", symbols["B"].ring)).wrong


# Identity


def test_wrong_magic(data: Path) -> None:
    edit(data / "A.ring", lambda words: words.__setitem__(0, 0x41414141))
    assert "expected the magic bytes b'fds ring', got b'AAAA" in sentence_of(data)


def test_a_future_version(data: Path) -> None:
    path = data / "A.ring"
    identity = read_header(path)

    def later(words: Words) -> None:
        words[WORD_VERSION] = 2
        words[63] ^= 77  # whatever a later version sums up

    edit(path, later)
    assert "expected format version 1, got 2" in sentence_of(data)
    edit(path, lambda words: write_identity(words, identity))
    with in_use(data, TINY) as manager:
        check(manager, "A", PRICES)


def test_another_geometry(data: Path, tmp_path: Path) -> None:
    other = fill(tmp_path / "other", {"A": PRICES}, Geometry(1000, 4, 10))
    shutil.copy(other / "A.ring", data / "A.ring")
    reason = sentence_of(data)
    assert reason.startswith("expected largest_window 100, got largest_window 1000")


def test_a_renamed_file(data: Path) -> None:
    (data / "A.ring").rename(data / "C.ring")
    with in_use(data, TINY) as manager:
        assert "expected the name A.ring for the symbol A" in manager.refused["C.ring"]
        assert manager.get("A") is None
        check(manager, "B", OTHER)


@root_only
def test_a_foreign_owner(data: Path) -> None:
    os.chown(data / "A.ring", STRANGER, -1)
    assert f"got one of user {STRANGER}" in sentence_of(data)
    os.chown(data, STRANGER, -1)
    with pytest.raises(DataDirectoryError, match=f"got one of user {STRANGER}"):
        SymbolManager(store=DirectoryStore(data, TINY)).open()


def test_a_directory_in_the_place_of_a_file(data: Path) -> None:
    (data / "A.ring").unlink()
    (data / "A.ring").mkdir()
    with in_use(data, TINY) as manager:
        assert "A.ring" in manager.refused
        check(manager, "B", OTHER)


def test_a_file_moved_away_makes_room_for_another(data: Path, tmp_path: Path) -> None:
    os.truncate(data / "A.ring", 5000)
    with in_use(data, TINY) as manager:
        assert "A.ring" in manager.refused
        (data / "A.ring").rename(tmp_path / "kept.ring")
        manager.run_housekeeping()
        assert not manager.refused
        assert manager.add_batch("A", [1.0]).sequence == 1


# The directory


def test_in_use_with_other_settings(data: Path) -> None:
    with in_use(data, TINY):
        for store, words in (
            (DirectoryStore(data, Geometry(1000, 4, 10)), "largest_window 100; expected"),
            (DirectoryStore(data, TINY, 11), "max_symbols 10; expected max_symbols 11"),
            (DirectoryStore(data, TINY, durability="power"), "durability process"),
        ):
            with pytest.raises(DataDirectoryError, match=words) as refusal:
                SymbolManager(store=store).open()
            assert f"in use by process {os.getpid()} with" in str(refusal.value)
    with in_use(data, TINY) as manager:
        check(manager, "A", PRICES)


def test_settings_that_cannot_be_read(data: Path) -> None:
    (data / SETTINGS_FILE).write_bytes(b"\xff{nonsense")
    assert directory_lock.read_settings(data) == {}
    with in_use(data, TINY) as manager:  # No process uses it: they are written again.
        check(manager, "A", PRICES)
        assert directory_lock.read_settings(data)["largest_window"] == 100


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be a user who may do nothing here."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission(data: Path, nobody: None) -> None:
    if os.geteuid() != STRANGER:
        data.chmod(0o500)
        (data / SETTINGS_FILE).chmod(0)
    for path in (data, data / "below"):
        with pytest.raises(DataDirectoryError) as refusal:
            SymbolManager(store=DirectoryStore(path, TINY)).open()
        assert str(refusal.value) == f"{path}: cannot be used: Permission denied"


def test_settings_in_the_way(data: Path) -> None:
    (data / SETTINGS_FILE).unlink()
    (data / SETTINGS_FILE).mkdir()
    with pytest.raises(DataDirectoryError, match=f"^{data}: cannot be used: Is a directory"):
        SymbolManager(store=DirectoryStore(data, TINY)).open()


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    for path in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(DataDirectoryError, match="expected a directory, got a file"):
            SymbolManager(store=DirectoryStore(path, TINY)).open()


def test_files_of_others_are_left_alone(data: Path) -> None:
    (data / "notes.txt").write_text("mine")
    (data / ".A.ring.new").write_text("left by a killed maker")
    with in_use(data, TINY) as manager:
        assert sorted(manager.symbols()) == ["A", "B"]
        add(manager, "A", [1.0])
    assert (data / "notes.txt").read_text() == "mine"
    assert not (data / ".A.ring.new").exists()
