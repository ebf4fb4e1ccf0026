"""A simulated disk: the possible contents of a directory after a loss of power or a kill.

It replaces :mod:`financial_data_service.storage.disk`, and reads all files of one directory at
every step that writes, renames, syncs or publishes. For each page (4096 bytes) of each file it
keeps the version of the last sync, which is certainly on disk, and every later version, any of
which the system may have written by itself. :meth:`SimulatedDisk.image` makes a directory with one
possible outcome. Every page, or every sector of 512 bytes of it, has any of its versions. The names
are those of the last sync of the directory or of any later moment. A file that was never synced may
lack its length.

The assumptions about a real disk are few: a sector is written as a whole or not at all, a sync that
has returned is done, and a rename or unlink has happened or not.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from financial_data_service.engine import kernels
from financial_data_service.engine.layout import HEADER_BYTES, PAGE_BYTES, WORD_COUNT
from financial_data_service.storage import (
    directory,
    disk,
    durability,
    file_stats,
    recovery,
    symbol_file,
    symbol_files,
    trust,
)
from financial_data_service.storage.directory_lock import SETTINGS_FILE
from financial_data_service.storage.symbol_file import SymbolFile

SECTOR_BYTES = 512

_FILE_BYTES_MAX = 1 << 20

P = ParamSpec("P")
R = TypeVar("R")


class Crash(BaseException):
    """The machine goes down, or the process is killed: nobody catches it."""


class DeferredFuture(Future[None]):
    """Work of another thread; it is done when the test says so, or somebody waits for it."""

    def __init__(self, finish: Callable[[], None]) -> None:
        super().__init__()
        self._finish = finish

    def finish(self) -> None:
        """Let the work be done."""
        if not self.done():
            try:
                self._finish()
            except OSError as error:
                self.set_exception(error)
            else:
                self.set_result(None)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.finish()
        return super().exception(timeout)


class DeferredExecutor(Executor):
    """Stands in for the thread that syncs: what it is given begins at once and ends later."""

    def __init__(self, simulated: SimulatedDisk) -> None:
        self._simulated = simulated
        self.pending: list[DeferredFuture] = []

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        sync = self._simulated.begun_by(lambda: fn(*args, **kwargs))

        def finish() -> None:
            if sync is not None:
                with self._simulated.ending(sync):
                    fn(*args, **kwargs)

        future = DeferredFuture(finish)
        self.pending.append(future)
        return future

    def step(self) -> None:
        """Let the oldest work that is under way be done."""
        self.pending = [future for future in self.pending if not future.done()]
        if self.pending:
            self.pending.pop(0).finish()


class _Page:
    """Versions of one page: the first is on disk for sure, any later one may be."""

    def __init__(self, content: bytes) -> None:
        self.versions = [content]
        self.first = 0  # number of the first version, counted from the page's beginning
        self.lost = -1  # version that a failed sync has left behind, and taken for written

    @property
    def newest(self) -> int:
        return self.first + len(self.versions) - 1

    def see(self, content: bytes) -> None:
        if content != self.versions[-1]:
            self.versions.append(content)

    def on_disk(self, number: int) -> None:
        """Version `number` has been synced, unless the system no longer knows it as unsynced."""
        if number == self.lost or number <= self.first:
            return
        del self.versions[: number - self.first]
        self.first = number


class _File:
    """One inode; a descriptor of its own keeps its number from being given out again."""

    def __init__(self, descriptor: int, *, is_on_disk: bool) -> None:
        self.descriptor = descriptor
        self.has_length = is_on_disk
        self.failures = 0
        self.pages: list[_Page] = []
        self._content = content = self._read()
        for begin in range(0, len(content), PAGE_BYTES):
            page = content[begin : begin + PAGE_BYTES]
            self.pages.append(_Page(page if is_on_disk else bytes(len(page))))
            self.pages[-1].see(page)

    def _read(self) -> bytes:
        return os.pread(self.descriptor, _FILE_BYTES_MAX, 0)

    def see(self) -> None:
        content = self._read()
        if content == self._content:
            return
        self._content = content
        for number in range(-(-len(content) // PAGE_BYTES)):
            part = content[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
            if number == len(self.pages):
                self.pages.append(_Page(bytes(len(part))))
            self.pages[number].see(part)


class _Sync:
    """A sync that is under way: of what was there when it began."""

    def __init__(self, file: _File, pages: list[_Page], fails: bool | None) -> None:
        self._file = file
        self._pages = [(page, page.newest) for page in pages]
        self._fails = fails
        self._failures = file.failures

    def end(self) -> None:
        if self._fails is not None:
            self._file.failures += 1
        if self._fails:
            for page, number in self._pages:
                page.lost = number if number > page.first else page.lost
        if self._file.failures > self._failures:  # Whoever waits then is told as well.
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._file.has_length = True
        for page, number in self._pages:
            page.on_disk(number)


class _Begun(BaseException):
    """Leaves a sync after its beginning."""

    def __init__(self, sync: _Sync) -> None:
        super().__init__()
        self.sync = sync


Pick = Callable[[_Page], bytes]


def _oldest(page: _Page) -> bytes:
    return page.versions[0]


def _newest(page: _Page) -> bytes:
    return page.versions[-1]


def _any_page(draw: random.Random) -> Pick:
    return lambda page: draw.choice(page.versions)


def _any_sector(draw: random.Random) -> Pick:
    def pick(page: _Page) -> bytes:
        if len(page.versions) == 1:
            return page.versions[0]
        return b"".join(
            draw.choice(page.versions)[begin : begin + SECTOR_BYTES]
            for begin in range(0, PAGE_BYTES, SECTOR_BYTES)
        )

    return pick


def _one_apart(draw: random.Random, one: Pick, others: Pick) -> Pick:
    """Take one page in three another way than the rest."""

    def pick(page: _Page) -> bytes:
        return one(page) if draw.random() < 1 / 3 else others(page)

    return pick


class _Kernels:
    """The kernels as `file_stats`, `recovery` and so on call them, step by step and watched."""

    def __init__(self, simulated: SimulatedDisk) -> None:
        self.simulated = simulated

    def __getattr__(self, name: str) -> Any:
        return getattr(kernels, name)

    def append(self, header: Any, region: Any, values: Any) -> Any:
        """Append, after having gone half the way and stood there for a while.

        What is written on the way is what the kernel writes, and once more at the end.
        """
        self.simulated.alive()
        half = len(values) // 2
        if half and kernels.store_prices(header, region, values[:half]):
            self.simulated.step()
        if kernels.store_prices(header, region, values):
            self.simulated.step()
            sequence = int(header[WORD_COUNT])
            kernels.complete_blocks(header, region, 2, sequence, sequence + len(values))
            self.simulated.step()
        appended = kernels.append(header, region, values)
        self.simulated.step()
        return appended

    def publish(self, *args: Any) -> None:
        self.simulated.watched(kernels.publish)(*args)

    def complete_blocks(self, *args: Any) -> None:
        self.simulated.watched(kernels.complete_blocks)(*args)

    def store_blocks(self, *args: Any) -> None:
        self.simulated.watched(kernels.store_blocks)(*args)


class SimulatedDisk:
    """Watches one directory; see the module.

    Attributes
    ----------
    steps : int
        How often something was written, renamed, synced or published.
    on_step : callable
        Is called at each step; may raise :class:`Crash`, after which nothing happens any more.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.root = Path()
        self.boot = b""
        self.steps = 0
        self.on_step: Callable[[], None] = lambda: None
        self.failing: list[bool] = []  # for each sync to come that fails: is its data lost for good
        self.is_dead = False
        self.is_asleep = False
        self._files: dict[int, _File] = {}
        self._names: list[dict[str, int]] = []
        self._mapped: dict[int, int] = {}
        self._only_begins = False
        self._ending: _Sync | None = None
        self._patch(patch)

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        for module in (directory, durability, symbol_file, symbol_files, trust):
            patch.setattr(module, "boot_id", lambda: self.boot)
        patch.setattr(disk, "sync_file", self._sync_file)
        patch.setattr(disk, "sync_range", self._sync_range)
        patch.setattr(disk, "sync_directory", self._sync_directory)
        patch.setattr(directory, "ThreadPoolExecutor", lambda *_: DeferredExecutor(self))
        stepwise = _Kernels(self)
        for module in (directory, durability, file_stats, recovery, symbol_files):
            patch.setattr(module, "kernels", stepwise)
        for module, name in (
            (durability, "write_record"),
            (durability, "write_session"),
            (recovery, "write_session"),
            (recovery, "erase_record"),
            (symbol_file, "write_record"),
            (symbol_file, "write_session"),
            (symbol_file, "write_identity"),
        ):
            patch.setattr(module, name, self.watched(getattr(module, name)))
        patch.setattr(SymbolFile, "_write_slots", self.watched(SymbolFile._write_slots))
        patch.setattr(Path, "rename", self._watched_path(Path.rename))
        patch.setattr(Path, "unlink", self._watched_path(Path.unlink))
        patch.setattr(SymbolFile, "make_dirty", self._making_dirty(SymbolFile.make_dirty))
        patch.setattr(SymbolFile, "__init__", self._noting_mapping(SymbolFile.__init__))

    def mount(self, root: Path, boot: bytes) -> None:
        """Watch a directory from now on; all that is in it is on disk."""
        self.unmount()
        self.root, self.boot, self.is_dead = root, boot, False
        self._names = [self._listed(is_on_disk=True)]

    def unmount(self) -> None:
        """Watch nothing, and give back all descriptors."""
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()
        self._names = []

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Neither look nor count; for what the test does besides."""
        before, self.is_asleep = self.is_asleep, True
        try:
            yield
        finally:
            self.is_asleep = before

    # Steps

    def alive(self) -> None:
        """Refuse to do anything more once the machine is down."""
        if self.is_dead and not self.is_asleep:
            raise Crash

    def step(self) -> None:
        """Look at everything, and perhaps let the machine go down."""
        if self.is_asleep or self.is_dead:
            return
        self._see()
        self.steps += 1
        self.on_step()

    def watched(self, function: Callable[..., R]) -> Callable[..., R]:
        """Return a function that takes a step after what it does."""

        def call(*args: Any, **kwargs: Any) -> R:
            self.alive()
            result = function(*args, **kwargs)
            self.step()
            return result

        return call

    def _watched_path(self, function: Callable[..., R]) -> Callable[..., R]:
        watched = self.watched(function)

        def call(path: Path, *args: Any, **kwargs: Any) -> R:
            is_ours = path.parent == self.root and not self.is_asleep
            return (watched if is_ours else function)(path, *args, **kwargs)

        return call

    def _noting_mapping(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(file: Any, path: Path, descriptor: int, *args: Any, **kwargs: Any) -> None:
            function(file, path, descriptor, *args, **kwargs)
            self._mapped[id(file._map)] = os.fstat(descriptor).st_ino

        return call

    def _making_dirty(self, function: Callable[[SymbolFile], None]) -> Callable[..., None]:
        def call(file: SymbolFile) -> None:
            function(file)
            known = self._files.get(os.fstat(file._descriptor).st_ino)
            for page in known.pages if known is not None else ():
                page.lost = -1

        return call

    def _see(self) -> None:
        names = self._listed(is_on_disk=False)
        if names != self._names[-1]:
            self._names.append(names)
        named = {inode for names in self._names for inode in names.values()}
        for inode in self._files.keys() - named:
            os.close(self._files.pop(inode).descriptor)
        for file in self._files.values():
            file.see()

    def _listed(self, *, is_on_disk: bool) -> dict[str, int]:
        names = {}
        for entry in os.scandir(self.root):
            inode = names[entry.name] = entry.inode()
            if inode not in self._files:
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
                self._files[inode] = _File(descriptor, is_on_disk=is_on_disk)
        return names

    # Syncs

    def _sync_file(self, descriptor: int) -> None:
        self._sync(os.fstat(descriptor).st_ino, None)

    def _sync_range(self, mapping: Any, end: int) -> None:
        self._sync(self._mapped[id(mapping)], -(-end // PAGE_BYTES))

    def _sync(self, inode: int, pages: int | None) -> None:
        if self.is_asleep:
            return
        if self._ending is not None:
            self._ending.end()
            return
        self.alive()
        self.step()  # on the way: nothing need have arrived
        file = self._files.get(inode)
        if file is None:  # deleted, and nobody can ever find it again
            return
        fails = self.failing.pop(0) if self.failing else None
        sync = _Sync(file, file.pages[:pages], fails)
        if self._only_begins:
            raise _Begun(sync)
        sync.end()
        self.step()

    def _sync_directory(self, path: Path) -> None:
        if self.is_asleep:
            return
        self.alive()
        assert path == self.root
        self.step()
        if self.failing:
            self.failing.pop(0)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._names = self._names[-1:]
        self.step()

    def begun_by(self, function: Callable[[], object]) -> _Sync | None:
        """Return the sync that a function begins, and stop there."""
        self._only_begins = True
        try:
            function()
        except _Begun as begun:
            return begun.sync
        finally:
            self._only_begins = False
        return None

    @contextmanager
    def ending(self, sync: _Sync) -> Iterator[None]:
        """Take the next sync for the end of one that was begun."""
        self._ending = sync
        try:
            yield
        finally:
            self._ending = None

    # Outcomes

    def image(self, target: Path, draw: random.Random) -> Path:
        """Make a directory as it may be found after the power has gone now."""
        pick = draw.choice(
            [
                _oldest,
                _newest,
                _any_page(draw),
                _any_sector(draw),
                _one_apart(draw, _oldest, _newest),
                _one_apart(draw, _newest, _oldest),
            ]
        )
        names = draw.choice([self._names[0], self._names[-1], draw.choice(self._names)])
        target.mkdir()
        for name, inode in sorted(names.items()):
            file = self._files[inode]
            content = b"".join(pick(page) for page in file.pages)
            if not file.has_length or name == SETTINGS_FILE:
                content = draw.choice([b"", content, content[:HEADER_BYTES]])
            (target / name).write_bytes(content)
        return target
