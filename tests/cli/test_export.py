"""``fds export``: files that are whole or not there, with every price to the bit.

What is exported is compared with the prices that went in, and goes back in through ``fds load``.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from financial_data_service.cli.export import CsvWriter, Writer
from financial_data_service.engine.layout import Geometry
from support.commands import assert_one_sentence, exported, fds
from support.data_directories import add, fill, in_use, trades
from support.price_files import ODD, PRICES, same
from support.stub_service import StubService

TRIES = 50


def read_back(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the numbers of the prices and the prices."""
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        assert table.schema.names == ["sequence", "price"]
        assert [str(kind) for kind in table.schema.types] == ["int64", "double"]
        return table["sequence"].to_numpy(), table["price"].to_numpy()
    header, *lines = path.read_text().splitlines()
    assert header == "sequence,price"
    rows = [line.split(",") for line in lines]
    return np.array([int(row[0]) for row in rows]), np.array([float(row[1]) for row in rows])


class TestExport:
    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
    def test_every_price_reads_back_as_it_was(
        self, directory: Path, tmp_path: Path, suffix: str
    ) -> None:
        to = tmp_path / f"out{suffix}"
        line = exported(directory, "AAPL", to)
        # On a busy machine the first Parquet file may take long enough for a rate.
        said = rf"AAPL: prices 0 to 8 written to {to} in \d+\.\d\d s( \(\d+ prices/s\))?\.$"
        assert re.match(said, line)
        numbers, prices = read_back(to)
        assert numbers.tolist() == list(range(9))
        assert same(prices, ODD)
        # Of 2,000 prices the last 1,000 are in the largest window.
        exported(directory, "BTC/USDT", to, "--force")
        numbers, prices = read_back(to)
        assert numbers.tolist() == list(range(1000, 2000))
        assert same(prices, PRICES[1000:])

    def test_npy(self, directory: Path, tmp_path: Path) -> None:
        exported(directory, "BTC/USDT", tmp_path / "out.npy")
        assert same(np.load(tmp_path / "out.npy"), PRICES[1000:])
        np.save(tmp_path / "by_numpy.npy", PRICES[1000:])
        written = [(tmp_path / name).read_bytes() for name in ("out.npy", "by_numpy.npy")]
        assert written[0] == written[1]

    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
    def test_in_many_parts(
        self, directory: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for writer in (Writer, CsvWriter):
            monkeypatch.setattr(writer, "at_once", 77)
        to = tmp_path / f"out{suffix}"
        exported(directory, "BTC/USDT", to)
        prices = np.load(to) if suffix == ".npy" else read_back(to)[1]
        assert same(prices, PRICES[1000:])

    def test_the_last_prices(self, directory: Path, tmp_path: Path) -> None:
        to = tmp_path / "out.csv"
        assert "prices 1,993 to 1,999" in exported(directory, "BTC/USDT", to, "--last", "7")
        assert read_back(to)[0].tolist() == list(range(1993, 2000))
        assert "prices 0 to 8" in exported(directory, "AAPL", to, "--last", "1000", "--force")
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory, "-f", "-n", "1001")
        assert_one_sentence(result, 2, "--last must be at most 1000, got 1001")

    def test_the_directory_may_come_from_the_environment(
        self, directory: Path, tmp_path: Path
    ) -> None:
        to = tmp_path / "out.csv"
        result = fds("export", "AAPL", "--to", to, env={"FDS_DATA_DIR": str(directory)})
        assert result.exit_code == 0
        assert_one_sentence(
            fds("export", "AAPL", "--to", to), 2, "Give --data-dir DIRECTORY or set FDS_DATA_DIR"
        )

    def test_a_file_that_is_there_is_kept_unless_told(
        self, directory: Path, tmp_path: Path
    ) -> None:
        to = tmp_path / "out.csv"
        to.write_text("mine")
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, f"{to} is there already. To overwrite it, add --force.")
        assert to.read_text() == "mine"
        exported(directory, "AAPL", to, "--force")
        assert same(read_back(to)[1], ODD)

    @pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.gz", ".csv"])
    def test_a_suffix_that_is_not_known(self, directory: Path, tmp_path: Path, name: str) -> None:
        result = fds("export", "AAPL", "--to", tmp_path / name, "--data-dir", directory)
        assert_one_sentence(result, 2, "one of .csv, .npy, .parquet, got", name)

    def test_parquet_without_pyarrow(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        to = tmp_path / "out.parquet"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, "Writing Parquet needs pyarrow: make install")
        assert not to.exists()

    def test_a_symbol_that_is_not_there(self, directory: Path, tmp_path: Path) -> None:
        to = tmp_path / "out.csv"
        result = fds("export", "X", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, "Symbol X not found")
        assert not to.exists()

    @pytest.mark.parametrize(
        ("name", "reason"), [("missing", "no such file or directory"), ("file", "not a directory")]
    )
    def test_a_place_that_cannot_be_written_to(
        self, directory: Path, tmp_path: Path, name: str, reason: str
    ) -> None:
        (tmp_path / "file").touch()
        to = tmp_path / name / "out.csv"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, f"Cannot write {to}: {reason}.")

    def test_a_file_system_that_is_read_only(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It refuses to remove what is not there, too."""

        def refuse(path: Path, *_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

        for name in ("open", "unlink"):
            monkeypatch.setattr(Path, name, refuse)
        to = tmp_path / "out.csv"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, f"Cannot write {to}: read-only file system.")

    def test_a_directory_is_refused_before_anything_is_written(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "financial_data_service.cli.progress.PriceProgress.advance", pytest.fail
        )
        to = tmp_path / "out.csv"
        to.mkdir()
        for force in ([], ["--force"]):
            result = fds("export", "AAPL", "--to", to, "--data-dir", directory, *force)
            assert_one_sentence(result, 1, f"Cannot write {to}: is a directory.")

    @pytest.mark.parametrize("is_there", [True, False])
    def test_a_link_is_followed(self, directory: Path, tmp_path: Path, is_there: bool) -> None:
        to, target = tmp_path / "link.csv", tmp_path / "elsewhere" / "out.csv"
        target.parent.mkdir()
        to.symlink_to(target)
        if is_there:
            target.write_text("mine")
        exported(directory, "AAPL", to, *(["--force"] if is_there else []))
        assert to.is_symlink()
        assert [path.name for path in target.parent.iterdir()] == ["out.csv"]
        assert same(read_back(target)[1], ODD)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_told_to_end_it_leaves_nothing(
        self,
        directory: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: signal.Signals,
    ) -> None:
        handler = signal.getsignal(number)
        monkeypatch.setattr(
            "financial_data_service.cli.progress.PriceProgress.advance",
            lambda *_: signal.raise_signal(number),
        )
        to = tmp_path / "out.csv"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 130, "Interrupted; nothing was written")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
        assert signal.getsignal(number) == handler

    @pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
    def test_interrupted_it_leaves_nothing(
        self, directory: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("financial_data_service.cli.progress.PriceProgress.advance", interrupt)
        to = tmp_path / f"out{suffix}"
        result = fds("export", "AAPL", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 130, "Interrupted; nothing was written")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    def test_prices_that_come_too_fast_are_said(
        self, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The writer runs over what has not been exported yet: no file, and a way out."""
        monkeypatch.setattr(CsvWriter, "at_once", 77)
        with in_use(directory) as manager:
            monkeypatch.setattr(
                "financial_data_service.cli.progress.PriceProgress.advance",
                lambda *_: add(manager, "BTC/USDT", PRICES[:500]),
            )
            to = tmp_path / "out.csv"
            result = fds("export", "BTC/USDT", "--to", to, "--data-dir", directory)
        assert_one_sentence(result, 1, "Newer prices of BTC/USDT came faster", "--last")
        assert [path.name for path in tmp_path.iterdir()] == ["data"]

    def test_a_directory_in_use(self, directory: Path, tmp_path: Path) -> None:
        """Each price says its number; every file is of one moment."""
        is_over = threading.Event()
        with in_use(directory) as manager:
            add(manager, "A", np.arange(2000.0))

            def write() -> None:
                number = 2000
                while not is_over.wait(0.0005):
                    manager.add_batch("A", np.arange(number, number + 3, dtype=float))
                    number += 3

            writer = threading.Thread(target=write)
            writer.start()
            try:
                for suffix in (".csv", ".parquet") * 3:
                    to = tmp_path / f"out{suffix}"
                    arguments = ("export", "A", "--to", to, "--data-dir", directory, "--force")
                    for _ in range(TRIES):
                        if (result := fds(*arguments)).exit_code == 0:
                            break
                        # On a busy machine the writer may come round: then that is said.
                        assert_one_sentence(result, 1, "Newer prices of A came faster")
                    assert (result.exit_code, result.stderr) == (0, ""), result.output
                    numbers, prices = read_back(to)
                    assert len(numbers) == 1000
                    assert (np.diff(numbers) == 1).all()
                    assert same(prices, numbers.astype(float))
            finally:
                is_over.set()
                writer.join()

    def test_what_was_exported_can_be_loaded(self, tmp_path: Path, stub: StubService) -> None:
        data_dir = fill(tmp_path / "data", {"BTC/USDT": trades()}, Geometry(100_000))
        for suffix in (".csv", ".parquet"):
            to = tmp_path / f"out{suffix}"
            exported(data_dir, "BTC/USDT", to)
            result = fds("load", to, "--symbol", suffix, "--url", stub.url)
            assert result.exit_code == 0, result.output
            assert same(np.array(stub.prices[suffix]), trades())
