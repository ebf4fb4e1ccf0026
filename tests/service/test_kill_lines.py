"""A process killed between any two lines of the code that writes: others continue, nothing is lost.

How: a fork of this process does something in a data directory (opens it, appends, makes a symbol,
deletes one, syncs, closes). A tracer really kills it at the n-th line of ``storage/`` or of the
symbols' manager, for every n. It leaves in the page cache and in the locks what any kill leaves.
Then either the next process opens the directory, or one that already had it open continues. Without
another process, lines between which no file changes are equivalent, and one of them is enough.
Rings are tiny, so they wrap. Every price is a whole number that identifies it.

A random kill of the real service (``tests/service/test_kill.py``) would meet some of these places
once in ten thousand times. Here each is met.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import numpy as np
import pytest

from financial_data_service import storage
from financial_data_service.engine import symbol_manager
from financial_data_service.engine.layout import (
    WORD_SESSION_CHECKSUM,
    WORD_SYNCED_GENERATION,
    Geometry,
)
from financial_data_service.engine.running_stats import warm_up
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.storage import durability, header, recovery
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.durability import Durability
from financial_data_service.storage.file_stats import FileStats

pytestmark = pytest.mark.one_python

TINY = Geometry(10, 2, 4)  # capacity 16, three levels
TRACED = (str(Path(storage.__file__).parent), symbol_manager.__file__)
LINES_MAX = 5000
"""Far more than any of the deeds takes; a deed that never ends is a defect."""

Deed = Callable[[SymbolManager], None]
Live = Callable[["Tracer"], None]

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Compile all kernels once, not in each fork."""
    warm_up()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is due for its background sync at once."""
    monkeypatch.setattr(durability, "SYNC_SECONDS", -1.0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory, if there is one: a kill is none of the disk's business."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory)


def numbers(begin: int, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.arange(begin, begin + length, dtype=np.float64)


def manager_of(path: Path, durability: Durability) -> SymbolManager:
    return SymbolManager(store=DirectoryStore(path, TINY, 3, durability))


def extend(manager: SymbolManager, symbol: str, length: int) -> int:
    """Append the next prices of a symbol; return the new sequence."""
    stats = manager.get(symbol)
    sequence = 0 if stats is None else stats.sequence
    return manager.add_batch(symbol, numbers(sequence, length)).sequence


def check(manager: SymbolManager, symbol: str) -> int:
    """Check all that can be asked of a symbol; return its sequence."""
    stats = manager[symbol]
    sequence = stats.sequence
    for length in range(1, 11):
        answer = stats.window(length)
        expected = numbers(max(0, sequence - length), min(length, sequence))
        assert (answer.values, answer.sequence) == (len(expected), sequence)
        assert (answer.min, answer.max, answer.last) == (expected[0], expected[-1], expected[-1])
        assert answer.avg == (expected[0] + expected[-1]) / 2
        assert answer.var == pytest.approx(expected.var(), rel=1e-14)
    held = stats.prices(stats.oldest, sequence)
    assert (held == numbers(stats.oldest, sequence - stats.oldest)).all()
    return sequence


def check_promise(manager: SymbolManager) -> None:
    """No record that a loss of power may bring back outlives the prices it counts on."""
    stats = manager["S"]
    assert isinstance(stats, FileStats)
    for record in stats.file.records():
        if record is not None and record.sequence >= 0:
            is_of_no_account = record.generation < stats.file.header[WORD_SYNCED_GENERATION]
            limit = record.sequence + stats.file.unsynced_max
            assert is_of_no_account or stats.file.append_limit <= limit


class Tracer:
    """Kills this process as it comes to the n-th line of what is traced, while it is in force."""

    def __init__(self, line: int) -> None:
        self._left = line

    def __enter__(self) -> None:
        sys.settrace(self._on_call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _on_call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._on_event if frame.f_code.co_filename.startswith(TRACED) else None

    def _on_event(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self.on_line()
        return self._on_event

    def on_line(self) -> None:
        """Come to a line."""
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


class Recorder(Tracer):
    """Kills nobody; notes the lines before which something in a directory has changed."""

    def __init__(self, path: Path) -> None:
        super().__init__(0)
        self._path = path
        self._state: dict[str, bytes] = {}
        self._line = 0
        self.lines: list[int] = []

    def on_line(self) -> None:
        state = {file.name: file.read_bytes() for file in self._path.iterdir()}
        if state != self._state:
            self._state = state
            self.lines.append(self._line)
        self._line += 1


def forked(deed: Callable[[], None]) -> int:
    """Do something in a fork of this process; return its exit code."""
    with warnings.catch_warnings():
        # Threads of other tests may be about; the fork uses nothing that they may hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        exit_code = 1
        try:
            deed()
            exit_code = 0
        finally:
            os._exit(exit_code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_killed(live: Live, line: int) -> bool:
    """Live in a fork that is killed as it comes to a line; False: it ended before."""
    exit_code = forked(lambda: live(Tracer(line)))
    assert exit_code in (0, -signal.SIGKILL), "it failed, before it was killed"
    return exit_code != 0


def killed_everywhere(live: Live, stride: int) -> Iterator[int]:
    """Yield after each kill, until it ends before it comes to its line."""
    for line in range(0, LINES_MAX, stride):
        if not is_killed(live, line):
            assert line > 2 * stride, "next to nothing was traced"
            return
        yield line
    raise AssertionError(f"more than {LINES_MAX} lines")


def changing_lines(live: Live, path: Path) -> list[int]:
    """Return the lines before which something in a directory changes, by living there once."""
    reader, writer = os.pipe()

    def deed() -> None:
        recorder = Recorder(path)
        live(recorder)
        os.write(writer, json.dumps(recorder.lines).encode())

    assert forked(deed) == 0
    lines: list[int] = json.loads(os.read(reader, 1 << 16))
    os.close(reader)
    os.close(writer)
    return lines


def come_and_go(_manager: SymbolManager) -> None:
    """Do nothing in between."""


def append(manager: SymbolManager) -> None:
    extend(manager, "S", 3)


def retry(manager: SymbolManager) -> None:
    sequence = manager["S"].sequence
    manager.add_batch("S", numbers(sequence - 1, 3), sequence - 1)


def create(manager: SymbolManager) -> None:
    extend(manager, "NEW", 3)


def delete(manager: SymbolManager) -> None:
    manager.delete("OLD")


def sync(manager: SymbolManager) -> None:
    """Begin a sync, write a record of it, sync and confirm that."""
    extend(manager, "S", 1)
    stats = manager["S"]
    assert isinstance(stats, FileStats)
    for _ in range(3):
        manager.run_housekeeping()
        if stats.sync is not None:
            stats.sync.wait()


ADDED = {"append": 3, "retry": 2, "sync": 1}  # to S
DEEDS = [come_and_go, append, retry, create, delete, sync]


def life(path: Path, durability: Durability, deed: Deed) -> Live:
    """Return a life in a directory; coming and going are traced if there is nothing else."""

    def live(tracer: Tracer) -> None:
        manager = manager_of(path, durability)
        if deed is come_and_go:
            with tracer:
                manager.open()
                manager.close()
        else:
            manager.open()
            with tracer:
                deed(manager)

    return live


def fill(manager: SymbolManager) -> None:
    """Make two symbols, one of them of more than a lap."""
    manager.open()
    extend(manager, "OLD", 4)
    extend(manager, "OLD", 1)
    for _ in range(6):
        extend(manager, "S", 4)


def check_after(manager: SymbolManager, before: int, deed: Deed) -> None:
    """Check what a killed process has left to another, and that this one can do all it should."""
    assert manager.refused == {}
    after = check(manager, "S")
    assert after in (before, before + ADDED.get(deed.__name__, 0))
    assert extend(manager, "S", 2) == check(manager, "S") == after + 2
    if deed is create:
        if manager.get("NEW") is not None:
            assert check(manager, "NEW") == 3
        assert extend(manager, "NEW", 4) == check(manager, "NEW")
        manager.delete("NEW")
    if deed is delete and manager.get("OLD") is None:
        extend(manager, "OLD", 4)
        extend(manager, "OLD", 1)
    assert check(manager, "OLD") == 5
    assert sorted(manager.symbols()) == ["OLD", "S"]


def go_on(place: Path, deed: Deed, durability: Durability, stride: int) -> None:
    """A process has the directory open; another joins, does something, and is killed."""
    manager = manager_of(place, durability)
    fill(manager)
    before = manager["S"].sequence
    for _line in killed_everywhere(life(place, durability, deed), stride):
        if durability == "process":
            check_promise(manager)
        check_after(manager, before, deed)
        before = manager["S"].sequence
    manager.close()
    assert not list(place.glob(".*"))


def come_next(place: Path, deed: Deed, durability: Durability, left: str, stride: int) -> None:
    """A process that is alone does something, and is killed; then comes another."""
    living, begin, path = place / "living", place / "begin", place / "prices"
    manager = manager_of(living, durability)
    fill(manager)
    if left == "closed":
        manager.close()
    shutil.copytree(living, begin)
    manager.close()
    shutil.copytree(begin, path)
    live = life(path, durability, deed)
    for line in changing_lines(live, path)[::stride]:
        shutil.rmtree(path)
        shutil.copytree(begin, path)
        assert is_killed(live, line)
        following = manager_of(path, durability)
        following.open()
        check_after(following, 24, deed)
        following.close()
        assert not list(path.glob(".*"))


DURABILITIES = pytest.mark.parametrize("durability", ["process", "power"])


def strides(few: int) -> pytest.MarkDecorator:
    """Take one line in so many, or each of them in the long form."""
    each = pytest.param(1, marks=pytest.mark.deep, id="each line")
    return pytest.mark.parametrize("stride", [pytest.param(few, id="some lines"), each])


@strides(11)
@DURABILITIES
@pytest.mark.parametrize("deed", DEEDS)
def test_another_goes_on(place: Path, deed: Deed, durability: Durability, stride: int) -> None:
    # To come and go beside others writes nothing: fewer of its lines will do.
    go_on(place, deed, durability, stride * 4 if deed is come_and_go else stride)


@strides(4)
@DURABILITIES
@pytest.mark.parametrize(
    ("deed", "left"), [(come_and_go, "killed"), *((deed, "closed") for deed in DEEDS)]
)
def test_the_next_goes_on(
    place: Path, deed: Deed, durability: Durability, left: str, stride: int
) -> None:
    come_next(place, deed, durability, left, stride)


def write_session_by_halves(words: Any, session: header.Session) -> None:
    """Write a session as it must not be written."""
    before = words[WORD_SESSION_CHECKSUM]
    write_session(words, session)
    after, words[WORD_SESSION_CHECKSUM] = words[WORD_SESSION_CHECKSUM].copy(), before
    words[WORD_SESSION_CHECKSUM] = after


write_session = header.write_session


def test_a_planted_defect_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose opening is noted in two steps is lost to a kill between them."""
    monkeypatch.setattr(recovery, "write_session", write_session_by_halves)
    monkeypatch.setattr(sys.modules[__name__], "TRACED", (*TRACED, __file__))
    with pytest.raises(AssertionError, match="its session is damaged"):
        come_next(place, come_and_go, "process", "closed", 1)
