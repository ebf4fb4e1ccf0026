"""Files that a load names: patterns, directories, archives and every kind of compression."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from financial_data_service.cli.console import CliError
from financial_data_service.cli.price_files.sources import PriceSource, find_sources, open_source

CONTENT = b"price\n" + b"".join(b"%d.25\n" % i for i in range(5000))


def zstd(content: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    packed: bytes = importlib.import_module(name).compress(content)
    return packed


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def content_of(source: PriceSource) -> bytes:
    with open_source(source) as content:
        return content.stream.read()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_what_is_compressed_is_unpacked_whatever_its_name(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(pack(CONTENT))
    with open_source(PriceSource(str(path))) as content:
        assert content.stream.read() == CONTENT
        assert content.position == content.size == path.stat().st_size


def test_a_compressed_file_in_an_archive(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", inner=gzip.compress(CONTENT))
    (source,) = find_sources([str(path)], None)
    assert content_of(source) == CONTENT
    assert source.name == f"{path}, member inner"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_a_truncated_file_is_an_error(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "p"
    path.write_bytes(pack(CONTENT)[:200])
    with pytest.raises((CliError, EOFError)):
        content_of(PriceSource(str(path)))


def test_members_are_in_order_of_name_in_which_numbers_are_numbers(tmp_path: Path) -> None:
    names = {"day-10": b"3", "day-9": b"2", "day-1": b"1", "__MACOSX/x": b"", "d/": b""}
    path = zipped(tmp_path / "a.zip", **names)
    found = [source.member for source in find_sources([str(path)], None)]
    assert found[-3:] == ["day-1", "day-9", "day-10"]
    assert not any("MACOSX" in str(name) for name in found)
    (only,) = find_sources([str(path)], "day-9")
    assert only.member == "day-9"
    assert [each.member for each in find_sources([str(path)], "day-1*")] == ["day-1", "day-10"]
    with pytest.raises(CliError, match="has no member 'x'; it has 'day-10', 'day-9'"):
        find_sources([str(path)], "x")


def test_a_member_of_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(CONTENT)
    with pytest.raises(CliError, match="is not a zip archive"):
        find_sources([str(tmp_path / "p.csv")], "x")


def test_patterns_and_directories(tmp_path: Path) -> None:
    for name in ("b-10.csv", "b-2.csv", "a.parquet", "notes.md", ".hidden.csv"):
        (tmp_path / name).write_bytes(CONTENT)
    names = [Path(each.path).name for each in find_sources([str(tmp_path)], None)]
    assert names == ["a.parquet", "b-2.csv", "b-10.csv"]
    names = [Path(each.path).name for each in find_sources([str(tmp_path / "b-*.csv")], None)]
    assert names == ["b-2.csv", "b-10.csv"]
    with pytest.raises(CliError, match=r"No file matches .*c-\*"):
        find_sources([str(tmp_path / "c-*")], None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CliError, match="holds no files of prices"):
        find_sources([str(tmp_path / "empty")], None)


def test_standard_input_is_alone(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="cannot be combined"):
        find_sources(["-", "-"], None)


def test_no_such_file(tmp_path: Path) -> None:
    (source,) = find_sources([str(tmp_path / "none.csv")], None)
    with pytest.raises(CliError, match=r"Cannot read .*none\.csv: no such file"):
        content_of(source)


def test_zstd_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.zst"
    path.write_bytes(zstd(CONTENT))
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    with pytest.raises(CliError, match=r"backports\.zstd: make install .*\[files\]"):
        content_of(PriceSource(str(path)))
