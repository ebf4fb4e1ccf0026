"""Names of files: whatever the symbol, one of its own, in the directory, visible, not too long.

How: properties over any text, lone surrogates included, and the cases a file system is known for.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.storage.directory import DirectoryStore
from financial_data_service.storage.directory_lock import SETTINGS_FILE
from financial_data_service.storage.file_names import SUFFIX, file_name_of
from support.data_directories import TINY

LONGEST_NAME_BYTES = 255  # of ext4, xfs, btrfs, tmpfs
UNFINISHED = "..new"  # what is added to the name of a file that is being made

any_symbol = st.text(st.characters(), max_size=300)
awkward = st.text(st.sampled_from("./%2EAa-~\0é€😀\udc80"), max_size=140)


@given(st.lists(any_symbol | awkward, min_size=2, max_size=2, unique=True))
@example([".", "%2E"])
@example(["a.ring", "a"])
@example(["é", "e\u0301"])  # one letter, written in two ways
@example(["x" * 200, "x" * 201])
@example(["€" * 128, "€" * 127 + "¥"])
def test_different_symbols_have_different_files(symbols: list[str]) -> None:
    first, second = map(file_name_of, symbols)
    assert first != second


@given(any_symbol | awkward)
@example("")
@example("😀" * 128)
@example("/" * 128)
@example("." * 128)
@example("\x00")
def test_every_name_is_fit(symbol: str) -> None:
    name = file_name_of(symbol)
    assert name.isascii()
    assert name.isprintable()
    assert len(name + UNFINISHED) <= LONGEST_NAME_BYTES
    assert "/" not in name
    assert "\0" not in name
    assert name.endswith(SUFFIX)
    assert not name.startswith(".") or symbol == ""
    assert name != SETTINGS_FILE


@given(st.text(st.sampled_from("abcXYZ019_.-~"), min_size=1, max_size=128))
def test_plain_symbols_are_names_already(symbol: str) -> None:
    dot = symbol.startswith(".")
    assert file_name_of(symbol) == ("%2E" + symbol[1:] if dot else symbol) + ".ring"


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTC/USDT", "BTC%2FUSDT.ring"),
        ("BRK.A", "BRK.A.ring"),
        ("../x", "%2E.%2Fx.ring"),
        (".", "%2E.ring"),
        ("..", "%2E..ring"),
        ("~", "~.ring"),
        ("-rf", "-rf.ring"),
        ("a b", "a%20b.ring"),
        ("%2F", "%252F.ring"),
        ("directory.json", "directory.json.ring"),
        ("Σ", "%CE%A3.ring"),
        ("😀", "%F0%9F%98%80.ring"),
        ("x" * 200, "x" * 200 + ".ring"),
        ("x" * 201, "x" * 100 + "%-bc63291ed89ef3e1183d5774d5ed1626.ring"),
    ],
)
def test_names(symbol: str, name: str) -> None:
    """They are part of the format: a directory of today is to be found again."""
    assert file_name_of(symbol) == name


def test_symbols_of_all_kinds_in_one_directory(tmp_path: Path) -> None:
    symbols = [
        *(".", "..", "../x", "/", "a/b", "a", "A", "-rf", "~", "%2E", "%2F", "a.ring", ".a.ring"),
        *("directory.json", ".new", "a b", "é", "e\u0301", "😀" * 128, "😀" * 127 + "x", "\\", "*"),
    ]
    for _ in range(2):
        manager = SymbolManager(store=DirectoryStore(tmp_path / "data", TINY, len(symbols)))
        manager.open()
        for number, symbol in enumerate(symbols):
            manager.add_batch(symbol, [float(number)])
        assert manager.symbols() == symbols
        assert not manager.refused
        for number, symbol in enumerate(symbols):
            assert manager.stats(symbol, 1).last == number
        manager.close()
    assert os.listdir(tmp_path) == ["data"]
    assert len(os.listdir(tmp_path / "data")) == len(symbols) + 1
