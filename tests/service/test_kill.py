"""The real service killed with SIGKILL at random moments and started again, asked over HTTP.

How: clients stream batches whose every price is a function of symbol and number; some number their
batches (``from_sequence``) and send again what was not acknowledged, some do not, one deletes its
symbol now and then, two feed the same symbol side by side, and one asks for windows all the while.
Under this load processes are killed: all at once, one worker, all workers, the parent alone, a few
milliseconds after SIGTERM, while the files are marked as closed, while the service starts, while it
recovers. It is started again over the same directory, and again killed: one state grows over all
rounds, and the rings go round.

What must hold after each kill: a symbol has what was acknowledged, or that and the whole of what
was under way, nothing else; every price held is right to the bit, over HTTP and in the files; every
window is that of the known series, exactly; nothing is degraded; the log has no line that is not
expected.

Moments are drawn from a seed, which is printed (``KILL_SEED=…`` draws others). What the processes
do at that moment depends on the machine. ``tests/service/test_kill_lines.py`` leaves nothing to
chance, but has one process at a time and no HTTP.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import pytest

import financial_data_service
from financial_data_service.engine.layout import Geometry
from financial_data_service.engine.ring_view import RingView
from financial_data_service.storage.directory_lock import SETTINGS_FILE
from financial_data_service.verify.levels import verify_levels
from financial_data_service.verify.windows import check_windows
from support.killing import Book, Client, Feed, Life, Watcher, check_window, loaded, poll, prices
from support.raw_http import batch, get, post
from support.service_process import Service

pytestmark = pytest.mark.one_python

SEED = int(os.environ.get("KILL_SEED", "20210108"))

START_SECONDS = 2.0  # about how long a start takes


class Kill(Enum):
    """What is killed, and when."""

    ALL = "all processes under load"
    STOPPING = "all, soon after SIGTERM"
    CLOSING = "all, while the files are being marked as closed"
    PARENT = "the parent alone; the next service starts when the workers have ended"
    PARENT_RELIEVED = "the parent alone; the next service starts while the workers end"
    WORKER = "one worker; the service goes on"
    WORKERS = "all workers; the service goes on"
    STARTING = "all, at any moment of the start"
    RECOVERING = "all, when the start has come to the files"


IN_LIFE = {Kill.WORKER, Kill.WORKERS}
IN_START = {Kill.STARTING, Kill.RECOVERING}

# Each line is one life of the service and, where it says so, the start after it.
ONE_PROCESS = [
    [Kill.ALL],
    [Kill.CLOSING],
    [Kill.ALL, Kill.RECOVERING],
    [Kill.STOPPING, Kill.STARTING],
]
WORKERS = [
    [Kill.WORKER, Kill.ALL],
    [Kill.WORKER, Kill.PARENT_RELIEVED],
    [Kill.CLOSING, Kill.RECOVERING],
    [Kill.WORKERS, Kill.PARENT],
    [Kill.ALL, Kill.STARTING],
    [Kill.WORKER, Kill.WORKER, Kill.STOPPING],
]
# The short form comes no further than the first lives: it begins elsewhere in another setting.
ONE_PROCESS_ROTATED = ONE_PROCESS[2:] + ONE_PROCESS[:2]
WORKERS_ROTATED = WORKERS[3:] + WORKERS[:3]


class Setting(NamedTuple):
    """How a service is run, and what becomes of it."""

    flags: tuple[str, ...]
    batch_max: int
    lives: Sequence[Sequence[Kill]]
    connections: int  # so many reach every process


SETTINGS = {
    "workers": Setting(("--largest-window", "100000", "--workers", "2"), 10_000, WORKERS, 4),
    "workers, power": Setting(
        ("--largest-window", "1000", "--workers", "2", "--durability", "power"),
        300,
        WORKERS_ROTATED,
        4,
    ),
    "one process": Setting(("--largest-window", "1000"), 1000, ONE_PROCESS, 1),
    "one process, power": Setting(
        ("--largest-window", "1000", "--durability", "power"), 700, ONE_PROCESS_ROTATED, 1
    ),
}


class Story:
    """One data directory through many lives of the service, and what clients know of it."""

    def __init__(self, place: Path, setting: Setting, seed: str) -> None:
        self.directory = place / "prices"
        self.kills: list[Kill] = []
        self.outcomes = Counter[str]()  # of what was under way
        self._random = random.Random(seed)
        self.setting = setting
        self._logs = (place / f"{number}.log" for number in itertools.count(1))
        self._lives: list[Life] = []  # that are not known to have ended
        shared = [Feed("shared", 1, is_shared=True) for _ in range(2)]
        numbered = [Feed("AAPL", 2), Feed("BTC/USDT", 3)]
        bare = [
            Feed("Ü %", 4, is_numbered=False),
            Feed(".hidden", 5, is_numbered=False),
            Feed("now and then", 1000, is_numbered=False, is_deleted_at_times=True),
        ]
        self.feeds = [*shared, *numbered, *bare]
        self.book = Book(self.feeds)
        self._clients = [
            Client(feeds, f"{seed}, {number}", setting.batch_max)
            for number, feeds in enumerate(([shared[0], *numbered], [shared[1]], bare))
        ]
        self._watcher = Watcher([shared[0], *numbered, *bare[:2]], f"{seed}, watcher", 1000)

    def tell(self, rounds: int) -> None:
        """Kill so many times, then end well."""
        try:
            for kills in itertools.cycle(self.setting.lives):
                if len(self.kills) >= rounds:
                    break
                self._live(kills)
            self._end_well()
        finally:
            for life in self._lives:
                life.kill()

    def _start(self) -> Life:
        flags = ("--data-dir", str(self.directory), "--batch-max", str(self.setting.batch_max))
        life = Life(next(self._logs), (*flags, *self.setting.flags))
        self._lives.append(life)
        return life

    def _serve(self) -> tuple[Life, Service]:
        """Start the service, and check all there is when it serves."""
        life = self._start()
        service = life.serving()
        self._check(service)
        # Those who were left to themselves have had the time to end.
        self._finish(*(each for each in self._lives if each is not life))
        return life, service

    def _check(self, service: Service) -> None:
        under_way = [feed for feed in self.feeds if feed.pending]
        before = [feed.acknowledged for feed in under_way]
        self.book.check(service, self.directory, self.setting.connections)
        for feed, acknowledged in zip(under_way, before, strict=True):
            self.outcomes["not stored" if feed.found == acknowledged else "stored"] += 1

    def _finish(self, *lives: Life) -> None:
        for life in lives:
            life.finish()
            self._lives.remove(life)

    def _live(self, kills: Sequence[Kill]) -> None:
        """Live one life to its violent end, and perhaps not get through the start of the next."""
        life, service = self._serve()
        for kill in kills:
            self.kills.append(kill)
            if kill in IN_START:
                self._kill_start(kill)
                continue
            with loaded(service, [*self._clients, self._watcher]):
                self._sleep(0.3)
                self._kill(life, kill)
            if kill in IN_LIFE:
                self._check(service)
            elif kill is not Kill.PARENT_RELIEVED:
                self._finish(life)

    def _kill(self, life: Life, kill: Kill) -> None:
        if kill in IN_LIFE:
            workers = life.workers()
            for worker in workers if kill is Kill.WORKERS else [self._random.choice(workers)]:
                os.kill(worker, signal.SIGKILL)
            self._sleep(0.3)
        elif kill in (Kill.PARENT, Kill.PARENT_RELIEVED):
            os.kill(life.process.pid, signal.SIGKILL)
            self._sleep(0.1)
        else:
            if kill is not Kill.ALL:
                life.terminate()
                self._sleep(0.4 if kill is Kill.STOPPING else 0.0)
            if kill is Kill.CLOSING:
                poll(lambda: "Waiting for application shutdown" in life.log.read_text())
                self._sleep(0.02)
            life.kill()

    def _kill_start(self, kill: Kill) -> None:
        opened = self.directory / SETTINGS_FILE  # written as the last thing before the recovery
        before = opened.stat().st_mtime_ns
        life = self._start()
        if kill is Kill.RECOVERING:
            poll(lambda: opened.stat().st_mtime_ns != before)
        self._sleep(0.03 if kill is Kill.RECOVERING else START_SECONDS)
        life.kill()
        self._finish(life)

    def _sleep(self, seconds_max: float) -> None:
        time.sleep(self._random.uniform(0, seconds_max))

    def _end_well(self) -> None:
        life, service = self._serve()
        for client in self._clients:
            client.finish(service)
        assert not any(feed.pending for feed in self.feeds)
        self._check(service)
        life.end()
        self._finish(life)
        self.book.check_files(self.directory)
        check_levels(self.directory)


def check_levels(directory: Path) -> None:
    """Check every summary in the files against the prices below it, by other arithmetic."""
    with financial_data_service.open(directory) as data:
        for reader in data.values():
            held = RingView(reader.symbol, reader.ring)
            assert not verify_levels(held).wrong
            assert not any(check.differing for check in check_windows(held))


def tell(place: Path, name: str, rounds: int) -> Story:
    """Tell the story of a setting, and say what it consisted of."""
    (place / name).mkdir()
    story = Story(place / name, SETTINGS[name], f"{SEED}, {name}")
    story.tell(rounds)
    counts = ", ".join(f"{feed.symbol} {feed.acknowledged:,}" for feed in story.feeds)
    print(f"{name}: {len(story.kills)} kills; under way {dict(story.outcomes)}; {counts}")
    return story


def tell_all(place: Path, rounds: int) -> list[Story]:
    """Tell the stories of all settings, two at a time."""
    print(f"KILL_SEED={SEED}")
    with ThreadPoolExecutor(2) as executor:
        stories = list(executor.map(lambda name: tell(place, name, rounds), SETTINGS))
    assert sum(len(story.kills) for story in stories) >= rounds * len(SETTINGS)
    return stories


def test_killed(tmp_path: Path) -> None:
    tell_all(tmp_path, 5)


@pytest.mark.deep
def test_killed_and_killed_again(tmp_path: Path) -> None:
    stories = tell_all(tmp_path, 50)
    for story in stories:
        assert set(story.kills) == {kill for kills in story.setting.lives for kill in kills}
    assert all(sum(story.outcomes[each] for story in stories) for each in ("stored", "not stored"))


LAPS = ("--largest-window", "1000", "--batch-max", "1000")
CAPACITY = Geometry(1000, batch_max=1000).capacity


def reach(service: Service, feed: Feed, sequence: int) -> None:
    """Send prices of a series until there are so many."""
    with service.connect() as connection:
        while feed.acknowledged < sequence:
            begin, end = feed.acknowledged, min(sequence, feed.acknowledged + 1000)
            values = prices(feed.series, begin, end).tolist()
            assert connection.ask(post(batch(feed.symbol, values, begin))).status == 201
            feed.acknowledged = end


@contextmanager
def alive(place: Path, *flags: str, program: str = "") -> Iterator[tuple[Life, Service]]:
    """Run a service over ``place / "prices"`` until the block has ended it, or fails."""
    data_dir = ("--data-dir", str(place / "prices"))
    life = Life(place / "stderr.log", (*data_dir, *LAPS, *flags), program)
    try:
        yield life, life.serving()
        life.finish()
    finally:
        life.kill()


def test_stopped_and_started_again(tmp_path: Path) -> None:
    """Whoever serves next finds what there was, and has nothing to recover."""
    book = Book(feeds := [Feed(f"S{i}", i) for i in range(4)])
    flags = [(), ("--workers", "2"), ("--durability", "power"), ()]
    state = None
    for life_number, more in enumerate(flags):
        with alive(tmp_path, *more) as (life, service):
            book.check(service, tmp_path / "prices", connections=2)
            assert state in (None, service.state())
            for feed in feeds:
                reach(service, feed, feed.acknowledged + 300 + 700 * feed.series * life_number)
            book.check(service, tmp_path / "prices", connections=2)
            state = service.state()
            life.end()
        book.check_files(tmp_path / "prices")
        assert "levels made again" not in life.log.read_text()
    assert feeds[-1].acknowledged > 5 * CAPACITY
    check_levels(tmp_path / "prices")


def test_more_than_a_lap(tmp_path: Path) -> None:
    """The newest price lies everywhere that is special in the ring, and the service is killed."""
    ends = [
        1,
        CAPACITY - 1,
        CAPACITY,
        CAPACITY + 1,
        CAPACITY + 128,
        2 * CAPACITY,
        5 * CAPACITY + 77,
    ]
    feeds = [Feed(f"up to {end}", end) for end in ends]
    book = Book(feeds)
    with alive(tmp_path) as (life, service):
        for feed in feeds:
            reach(service, feed, feed.series)
        state = service.state()
        life.kill()
    with alive(tmp_path) as (life, service):
        assert service.state() == state
        check_lengths(service, book, tmp_path / "prices")
        for feed in feeds:  # What was found can be gone on with.
            reach(service, feed, feed.acknowledged + 999)
        life.end()
    with alive(tmp_path) as (life, service):
        check_lengths(service, book, tmp_path / "prices")
        life.end()


def check_lengths(service: Service, book: Book, directory: Path) -> None:
    """Check everything, and windows about a block and about the largest."""
    book.check(service, directory)
    with service.connect() as connection:
        for (feed,), length in itertools.product(
            book.symbols.values(), (1, 2, 127, 128, 129, 255, 256, 999, 1000)
        ):
            answer = connection.ask(get(f"/stats/{feed.path}?last={length}")).json()
            check_window(answer, feed.series, feed.acknowledged)


def test_stored_but_not_acknowledged(tmp_path: Path) -> None:
    """Who was never told finds the batch there, and sending it again adds nothing."""
    feed = Feed("S", 1, pending=500)
    book, client = Book([feed]), Client([feed], "", 1000)
    with alive(tmp_path) as (life, service), service.connect() as connection:
        connection.send(post(batch("S", prices(1, 0, 500).tolist(), 0)))
        poll(lambda: service.ask(get("/stats/S/1")).status == 200)
        life.kill()
    with alive(tmp_path) as (life, service):
        book.check(service, tmp_path / "prices")
        assert (feed.found, feed.acknowledged) == (500, 0)
        client.finish(service)
        assert feed.acknowledged == 500
        book.check(service, tmp_path / "prices")
        life.end()


def test_a_planted_defect_is_found(tmp_path: Path) -> None:
    """A recovery that forgets the newest price is told from one that does not."""
    feed = Feed("S", 1)
    with alive(tmp_path) as (life, service):
        reach(service, feed, 500)
        life.kill()
    program = (
        "from financial_data_service.storage import recovery\n"
        "killed = recovery._killed\n"
        "def forget(*arguments):\n"
        "    trust = killed(*arguments)\n"
        "    return trust._replace(sequence=trust.sequence - 1)\n"
        "recovery._killed = forget\n"
    )
    with alive(tmp_path, program=program) as (life, service):
        with pytest.raises(AssertionError, match="499"):
            Book([feed]).check(service, tmp_path / "prices")
        life.end()
