"""What the monitor shows of a snapshot: numbers in words, HTML, the data of the plots.

The numbers are chosen so that each format appears once.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from financial_data_service.monitor import views
from financial_data_service.monitor.board import Board
from financial_data_service.monitor.snapshot import Snapshot, SymbolSnapshot

NOW = 1_000_000.0


def symbol_of(symbol: str, values: int, price: float = 64123.45) -> SymbolSnapshot:
    windows: dict[int, dict[str, Any]] = {
        k: {
            "k": k,
            "window": 10**k,
            **dict.fromkeys(("min", "max", "last", "avg"), price),
            "var": 2.25,
            "values": min(values, 10**k),
        }
        for k in range(1, 9)
    }
    return SymbolSnapshot(symbol, windows, values, price, math.nan, np.empty((0, 37)))


def online(*symbols: SymbolSnapshot, **others: Any) -> Snapshot:
    known = {"max_symbols": 10, "largest_window": 10**8, "is_online": True, "updated_at": NOW}
    return Snapshot(symbols=list(symbols), **(known | others))


def test_header_says_state_symbols_and_rates() -> None:
    snapshot = online(
        *(symbol_of("AAPL", 12_800), symbol_of("MSFT", 5)),
        started_at=NOW - 7300,
        request_rate=1234.5,
    )
    shown = views.header_html("http://127.0.0.1:8000", snapshot, NOW + 0.4)
    for text in ("online, up 2 h", "2 of 10", "12,805", "1,234", ">now<"):
        assert text in shown, text
    assert "http://127.0.0.1:8000" in shown
    assert ">1 min ago<" in views.header_html("", snapshot, NOW + 61)


def test_header_of_a_service_that_is_not_there() -> None:
    snapshot = online(symbol_of("A", 5), is_online=False, problem="<gone>", lost_at=NOW)
    shown = views.header_html("", snapshot, NOW)
    assert "not reachable" in shown
    assert "&lt;gone&gt;: not reachable since " in shown
    assert "trying again. The numbers are those from before." in shown
    never = Snapshot(symbols=[], problem="gone", lost_at=NOW)
    assert "<code>make run</code> starts it" in views.header_html(views.DEFAULT_URL, never, NOW)
    assert "make run" not in views.header_html("http://127.0.0.1:8001", never, NOW)
    assert "connecting …" in views.header_html("", Board().snapshot(), NOW)


def test_header_of_a_service_that_wants_another_key() -> None:
    board = Board()
    board.lose("it wants its API key", NOW, wants_key=True)
    shown = views.header_html("http://127.0.0.1:8001", board.snapshot(), NOW)
    assert '<span class="dot down"></span>needs the API key<' in shown
    assert "set FDS_API_KEY of this monitor to its key, and start the monitor anew" in shown
    assert "not reachable" not in shown
    assert "by itself" not in shown
    for name in ("symbols", "prices received", "prices/s"):
        assert f"<dt>{name}</dt><dd>–</dd>" in shown, "nothing is known"
    board.begin({"symbols": [], "max_symbols": 10, "largest_window": 1000})
    shown = views.header_html("http://127.0.0.1:8001", board.snapshot(), NOW)
    assert "API key" not in shown
    assert "<dd>0 of 10</dd>" in shown


def test_files_that_cannot_be_served_are_named() -> None:
    snapshot = online(refused=(("A<b>.ring", "expected <another> checksum"),), started_at=NOW)
    shown = views.header_html("", snapshot, NOW + 5)
    assert '<span class="dot degraded"></span>degraded, up 5 s' in shown
    assert "A file of the data directory cannot be served:" in shown
    assert "<li><bdi>A&lt;b&gt;.ring</bdi>: expected &lt;another&gt; checksum</li>" in shown
    both = views.refused_html([("A.ring", "cut short"), ("B.ring", "cut short")])
    assert "2 files of the data directory" in both


def test_pill_shows_exact_fill_of_the_largest_window() -> None:
    shown = views.symbol_html(symbol_of("AAPL", 12_345_678), 10**8)
    assert "12.345678 % · 12,345,678 of 100,000,000 prices" in shown
    assert "width:12.3457%" in shown


def test_table_has_eight_windows_and_mutes_those_not_full() -> None:
    shown = views.symbol_html(symbol_of("AAPL", 12_800), 10**8)
    assert shown.count("<tr") == 1 + 8
    assert shown.count('" class="muted">') == 4
    for text in ("64,123.45", "64,123.4500", "2.25000", "1.50000", "</span>12.8 %"):
        assert f"{text}</td>" in shown, text
    assert 'data-field="avg" title="64123.45"' in shown


@pytest.mark.parametrize(
    "symbol",
    ["**bold**", "<script>alert(1)</script>", "a&amp;b", "$x$ :smile: `c`", "价格 \u202eabc", '"'],
)
def test_symbols_are_shown_literally(symbol: str) -> None:
    escaped = symbol.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = escaped.replace('"', "&quot;")
    shown = views.symbol_html(symbol_of(symbol, 5), 10**8)
    assert f"<bdi>{escaped}</bdi>" in shown
    assert f'data-symbol="{escaped}"' in shown


def test_data_of_the_plots_is_json_of_what_is_wanted() -> None:
    board = Board()
    board.begin({"symbols": [], "max_symbols": 10, "largest_window": 1000})
    for k in (1, 2, 3):
        window = symbol_of("A", 5, price=1e-7 / 3).windows[k]
        board.take({**window, "symbol": "A", "sequence": 5, "event": "update"}, NOW)
    board.sample(NOW)
    board.lose("gone", NOW)
    board.sample(NOW + 1)
    data = views.plots_data(board.snapshot().symbols[0], [1, 3], 1000)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert [window["k"] for window in data["windows"]] == [1, 3]
    assert data["windows"][1]["avg"] == [1e-7 / 3, None]
    assert (data["heldMax"], data["decimals"], data["held"]) == (1000, 8, [5.0, None])
    window = {"avg": 1e-7 / 3, "std": 1.5, "min": 1e-7 / 3, "max": 1e-7 / 3}
    now = {"last": 1e-7 / 3, "held": 5, "rate": None, "windows": [window, window]}
    assert data["now"] == now, "what the table shows, though the newest sample is a gap"


def test_colours_are_those_of_the_plots() -> None:
    static = files("financial_data_service") / "server" / "page" / "static"
    script = (static / "plots.js").read_text("utf-8")
    listed = script.partition("export const COLOURS = [")[2].partition("]")[0]
    assert tuple(re.findall(r'"(#\w+)"', listed)) == views.COLOURS
    assert f"nth-of-type(8) p {{ color: {views.COLOURS[7]}; }}" in views.bands_style("bands")


def test_hint_says_how_to_begin() -> None:
    hint = views.hint("http://127.0.0.1:8000")
    assert hint.startswith("curl http://127.0.0.1:8000/add_batch/ ")
    commands = views.hint("http://a/b&c").replace("\\\n", "").split("\n\n")
    first, second = map(shlex.split, commands)
    assert first[1] == "http://a/b&c/add_batch/"
    assert second[:2] == ["fds", "load"]
    assert second[-4:] == ["--symbol", "BTC/USDT", "--url", "http://a/b&c"]
    assert json.loads(first[-1])["symbol"] != "BTC/USDT", "a file is compared with what is there"


@pytest.mark.parametrize(
    ("price", "decimals", "text"),
    [
        (64123.5, 2, "64,123.50"),
        (1.0834, 5, "1.08340"),
        (0.00001234, 8, "0.00001234"),
        (5.001e-9, 8, "5.001e-09"),
        (999_775_482_835.44, 4, "999,775,482,835.440"),
        (-0.5, 2, "-0.50"),
        (416.955, 2, "416.96"),  # less than that in binary
        (416.965, 2, "416.97"),
        (-0.125, 2, "-0.13"),
        (0.0, 2, "0.00"),
        (1e150, 2, "1e+150"),
    ],
)
def test_format_price(price: float, decimals: int, text: str) -> None:
    assert views.format_price(price, decimals) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (4138.04256, "4,138.04"),
        (0.00108616, "0.00108616"),
        (7.762e-7, "7.76200e-07"),
        (1.03421e18, "1.03421e+18"),
        (5e-324, "4.94066e-324"),
    ],
)
def test_format_spread(value: float, text: str) -> None:
    assert views.format_spread(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.2, "0 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_format_age(seconds: float, text: str) -> None:
    assert views.format_age(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(math.nan, "–"), (0.0, "0"), (0.52, "0.5"), (12_345.6, "12,346")]
)
def test_format_rate(rate: float, text: str) -> None:
    assert views.format_rate(rate) == text
