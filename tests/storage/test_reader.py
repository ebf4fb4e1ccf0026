"""Reading a data directory from outside: the same answers as the service's, prices without a copy,
nothing written, and what is not sound is refused in a sentence that says what to do.

Views are held against the prices that were appended, for every state of a small ring: what
``is_held`` vouches for is right. Other processes append, delete and die for real.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import financial_data_service as fds
from financial_data_service.engine.layout import Geometry
from financial_data_service.errors import (
    DataDirectoryError,
    OverwrittenError,
    SymbolFileError,
    SymbolNotFoundError,
    WindowSizeError,
)
from financial_data_service.storage.reader import DataDirectory, SymbolReader
from support.data_directories import SMALL, add, fill, in_use, leave, spoil, trades
from support.oracle import Oracle
from support.paths import TESTS

RNG = np.random.default_rng(11)
PRICES = np.round(100 + np.cumsum(RNG.normal(0, 0.1, 3000)), 2)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", {"AAPL": PRICES[:500], "BTC/USDT": PRICES})


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


# The directory


def test_a_mapping_of_symbols_oldest_first(directory: Path) -> None:
    with fds.open(directory) as data:
        assert isinstance(data, DataDirectory)
        assert data.symbols() == list(data) == list(data.keys()) == ["AAPL", "BTC/USDT"]
        assert len(data) == 2
        assert "BTC/USDT" in data
        assert "X" not in data
        assert data["AAPL"] is data["AAPL"]
        assert {symbol: reader.sequence for symbol, reader in data.items()} == {
            "AAPL": 500,
            "BTC/USDT": 3000,
        }
        assert data.get("X") is None
        assert data.get("AAPL") is data["AAPL"]
        with pytest.raises(SymbolNotFoundError, match=r"^Symbol X not found$"):
            data["X"]
        with pytest.raises(LookupError):
            data["X"]


def test_what_it_says_of_itself(directory: Path) -> None:
    data = fds.open(str(directory))
    reader = data["BTC/USDT"]
    assert repr(data) == f"<DataDirectory '{directory}': AAPL, BTC/USDT>"
    held = 3000 - reader.oldest
    assert repr(reader) == f"<SymbolReader 'BTC/USDT': 3,000 prices, {held:,} held>"
    data.close()
    data.close()
    assert repr(data) == f"<DataDirectory '{directory}', closed>"
    assert repr(reader) == "<SymbolReader 'BTC/USDT', closed>"


def test_nothing_is_asked_of_what_is_closed(directory: Path) -> None:
    data = fds.open(directory)
    reader = data["AAPL"]
    view = reader.values()
    data.close()
    for ask in (data.symbols, lambda: data["AAPL"], lambda: len(data)):
        with pytest.raises(ValueError, match="closed"):
            ask()
    asked: list[Any] = [
        *(lambda: reader.sequence, lambda: reader.stats(1), lambda: reader.window(3)),
        *(reader.all_stats, reader.values, lambda: reader.prices(0, 1), lambda: reader.oldest),
    ]
    for ask in asked:
        with pytest.raises(ValueError, match="closed"):
            ask()
    assert view.tolist() == PRICES[:500].tolist(), "a view keeps what it needs"


def test_nothing_is_written(directory: Path) -> None:
    before = contents(directory)
    with fds.open(directory) as data:
        for reader in data.values():
            reader.all_stats()
            reader.values(copy=True)
    assert contents(directory) == before


def test_what_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, reason in (
        ("missing", "cannot be read: No such file or directory"),
        ("file", "expected a directory, got a file"),
        (".", "expected a data directory, got one without directory.json and without a file"),
    ):
        with pytest.raises(DataDirectoryError) as caught:
            fds.open(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {reason}")
        assert isinstance(caught.value, OSError)


def test_files_alone_are_enough(directory: Path) -> None:
    """Such as a backup of them."""
    (directory / "directory.json").unlink()
    with fds.open(directory) as data:
        assert data["AAPL"].sequence == 500


def test_an_empty_directory_of_a_service(tmp_path: Path) -> None:
    with fds.open(fill(tmp_path / "data", {})) as data:
        assert list(data) == []
        assert repr(data).endswith(": no symbols>")


# What is not sound


def test_a_damaged_file_is_refused_and_the_others_are_read(directory: Path) -> None:
    spoil(directory / "AAPL.ring")
    with fds.open(directory) as data:
        assert list(data) == ["BTC/USDT"]
        with pytest.raises(SymbolFileError, match=r"AAPL.ring: the header's checksum"):
            data["AAPL"]


def test_a_file_that_was_not_closed_is_refused_until_a_service_was_there(tmp_path: Path) -> None:
    left = leave(tmp_path / "data", {"AAPL": PRICES[:500]})
    with fds.open(left) as data:
        assert list(data) == ["AAPL"]
        with pytest.raises(SymbolFileError) as caught:
            data["AAPL"]
        assert str(caught.value) == (
            f"{left / 'AAPL.ring'}: it was left by a process that was killed. Start `fds serve "
            f"--data-dir {left}` once, with the settings it had: it decides which prices are sound"
        )
        with in_use(left):
            assert data["AAPL"].sequence == 500
        assert data["AAPL"].values().tolist() == PRICES[:500].tolist()


# Statistics


def test_statistics_are_those_of_the_service_and_exact(directory: Path) -> None:
    oracle = Oracle(PRICES)
    with fds.open(directory) as data, in_use(directory) as manager:
        reader = data["BTC/USDT"]
        assert reader.all_stats() == manager.all_stats("BTC/USDT")
        assert [reader.stats(k) for k in (1, 2, 3)] == reader.all_stats()
        for length in (1, 7, 999, 1000):
            oracle.check(reader.window(length), length)
        assert (reader.k_max, reader.largest_window) == (3, 1000)
        for ask, size in ((reader.stats, 4), (reader.window, 1001), (reader.values, 1001)):
            with pytest.raises(WindowSizeError):
                ask(size)
        with pytest.raises(WindowSizeError):
            reader.values(0)


def test_real_prices(tmp_path: Path) -> None:
    prices = trades()
    with fds.open(fill(tmp_path / "data", {"BTC/USDT": prices}, Geometry(1500, 128))) as data:
        reader = data["BTC/USDT"]
        oracle = Oracle(prices)
        for length in (1, 10, 100, 1000, 1500):
            oracle.check(reader.window(length), length)
            assert reader.values(length).tolist() == prices[-length:].tolist()


def test_it_goes_on_while_the_service_does(directory: Path) -> None:
    with fds.open(directory) as data, in_use(directory) as manager:
        reader = data["AAPL"]
        for count in range(1, 30):
            manager.add_batch("AAPL", [float(count)] * count)
            assert reader.stats(1) == manager.stats("AAPL", 1)
        manager.add_batch("NEW", [1.0])
        assert list(data) == ["AAPL", "BTC/USDT", "NEW"]
        assert data["NEW"].values().tolist() == [1.0]
    assert reader.is_there is False, "closed with its directory"


def test_a_symbol_that_is_deleted_and_made_anew(directory: Path) -> None:
    with fds.open(directory) as data, in_use(directory) as manager:
        reader = data["AAPL"]
        view = reader.values(3)
        manager.delete("AAPL")
        asked: list[Any] = [
            *(lambda: reader.sequence, lambda: reader.stats(1), lambda: reader.window(3)),
            *(reader.all_stats, reader.values, lambda: reader.prices(0, 1)),
            *(lambda: reader.is_held(0), lambda: data["AAPL"]),
        ]
        for ask in asked:
            with pytest.raises(SymbolNotFoundError, match=r"^Symbol AAPL not found$"):
                ask()
        assert "AAPL" not in data
        assert data.get("AAPL") is None
        assert repr(reader) == "<SymbolReader 'AAPL', deleted>"
        assert view.tolist() == PRICES[497:500].tolist()
        manager.add_batch("AAPL", [5.0])
        assert data["AAPL"].values().tolist() == [5.0]


# Prices


def test_values_are_a_view_that_cannot_be_written(directory: Path) -> None:
    with fds.open(directory) as data:
        reader = data["AAPL"]
        values = reader.values()
        assert np.shares_memory(values, reader.ring.region)
        assert values.dtype == np.float64
        assert values.tolist() == PRICES[:500].tolist()
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1.0
        copy = reader.values(10, copy=True)
        assert not np.shares_memory(copy, reader.ring.region)
        copy[0] = 1.0
        assert reader.values(10).tolist() == PRICES[490:500].tolist()


def test_every_state_of_a_small_ring(tmp_path: Path) -> None:
    """Every view on every run of prices, looked at again after every later append."""
    geometry = Geometry(10, 2, 4)
    capacity = geometry.capacity
    prices = np.arange(1.0, 4 * capacity)
    with in_use(tmp_path / "data", geometry) as manager:
        manager.add_batch("A", prices[:1])
        with fds.open(tmp_path / "data") as data:
            reader = data["A"]
            views: list[tuple[int, int, Any]] = []
            copies = 0
            for end in range(1, len(prices)):
                assert reader.sequence == end
                assert reader.values_held == end - reader.oldest
                assert reader.values_held >= min(end, 10)
                assert reader.values().tolist() == prices[max(0, end - 10) : end].tolist()
                for begin in range(reader.oldest, end + 1):
                    view = reader.prices(begin, end)
                    assert view.tolist() == prices[begin:end].tolist()
                    assert not view.flags.writeable
                    wraps = begin // capacity != (end - 1) // capacity and begin < end
                    assert wraps or np.shares_memory(view, reader.ring.region) or begin == end
                    copies += wraps
                    views.append((begin, end, view))
                    copy = reader.prices(begin, end, copy=True)
                    assert copy.flags.writeable
                    assert copy.tolist() == view.tolist()
                is_begun = reader.oldest == 0
                with pytest.raises(WindowSizeError if is_begun else OverwrittenError):
                    reader.prices(reader.oldest - 1, end)
                for begin, last in ((end, end + 1), (-1, end), (end, end - 1)):
                    with pytest.raises(WindowSizeError, match=rf"^Expected .*, got {begin} to"):
                        reader.prices(begin, last)
                manager.add_batch("A", prices[end : end + 1])
                views = [each for each in views if reader.is_held(each[0])]
                for first, last, view in views:
                    assert view.tolist() == prices[first:last].tolist()
            assert copies > 100


def test_a_copy_is_made_anew_when_prices_came_meanwhile(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fds.open(directory) as data, in_use(directory) as manager:
        reader = data["AAPL"]
        read, overtaken = reader._file.read, iter([True, True])

        def slow(begin: int, end: int) -> Any:
            prices = read(begin, end).copy()
            if next(overtaken, False):
                add(manager, "AAPL", PRICES[:2000])
            return prices

        monkeypatch.setattr(reader._file, "read", slow)
        assert reader.values(copy=True).tolist() == PRICES[1000:2000].tolist()
        assert reader.sequence == 4500
        overtaken = iter([True] * 5)
        with pytest.raises(OverwrittenError, match=r"^Prices [\d,]+ to [\d,]+ of symbol AAPL were"):
            reader.values(copy=True)


# Other processes

WRITER = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
from support.data_directories import in_use
from pathlib import Path
with in_use(Path({path!r})) as manager:
    rng = np.random.default_rng(1)
    number = 0
    is_told = False
    while True:
        # Each price says its own number.
        count = int(rng.integers(1, 100))
        manager.add_batch("A", np.arange(number, number + count, dtype=float))
        number += count
        if number > 5000 and not is_told:
            is_told = True
            print("ready", flush=True)
"""


@contextmanager
def writing(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that appends 0, 1, 2, … to symbol A until it is killed."""
    code = WRITER.format(tests=str(TESTS), path=str(directory))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_another_process_writes_and_is_killed(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with writing(directory) as process, fds.open(directory) as data:
        reader = data["A"]
        checked = overtaken = 0
        began = reader.sequence
        while checked < 300 or reader.sequence < began + 20_000:
            copy = reader.values(copy=True)
            assert (np.diff(copy) == 1).all()
            begin = reader.sequence - 700
            try:
                view = reader.prices(begin, begin + 700)
            except OverwrittenError:
                continue
            total = view.sum()
            if reader.is_held(begin):
                assert total == 700 * (begin + begin + 699) / 2
                checked += 1
            else:
                overtaken += 1
            for answer in reader.all_stats():
                assert (answer.last, answer.max) == (answer.sequence - 1, answer.sequence - 1)
                assert answer.min == answer.sequence - answer.values
                assert answer.avg == (answer.min + answer.max) / 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Who has it open goes on; who comes later is told.
        last = reader.sequence
        assert reader.values(1).tolist() == [last - 1]
        with (
            fds.open(directory) as later,
            pytest.raises(SymbolFileError, match="left by a process that was killed"),
        ):
            later["A"]
        with in_use(directory) as manager:
            assert manager["A"].sequence == last
            assert reader.sequence == data["A"].sequence == last


def test_opening_loads_the_engine_and_importing_does_not() -> None:
    code = (
        "import sys\n"
        "import financial_data_service as fds\n"
        "assert not {'numba', 'numpy'} & sys.modules.keys()\n"
        "fds.open\n"
        "assert 'numba' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_kernels_for_what_cannot_be_written_to_are_kept_on_disk(directory: Path) -> None:
    """To Numba they take arrays of other types, and would be compiled for seconds each time."""
    with fds.open(directory) as data:
        data["AAPL"].all_stats()
    code = (
        "import sys, financial_data_service as fds\n"
        "with fds.open(sys.argv[1]) as data:\n"
        "    data['AAPL'].all_stats()\n"
        "from financial_data_service.engine import kernels\n"
        "stats = kernels.window.stats\n"
        "assert sum(stats.cache_hits.values()) == 1, stats\n"
        "assert not stats.cache_misses, stats\n"
    )
    subprocess.run([sys.executable, "-c", code, str(directory)], check=True, timeout=60)


def test_symbols_of_every_kind(tmp_path: Path) -> None:
    names = ["BRK.A", "../x", ".hidden", "a b", "\N{ROCKET}", "%41", "X" * 128, "日" * 128]
    data_dir = fill(tmp_path / "data", {name: [float(i)] for i, name in enumerate(names)}, SMALL)
    with fds.open(data_dir) as data:
        assert list(data) == names
        for number, name in enumerate(names):
            assert isinstance(data[name], SymbolReader)
            assert data[name].values().tolist() == [number]
