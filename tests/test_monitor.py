"""The live page: what it shows of a server's replies, and what it does while there is no server.

The page runs in Streamlit's own test harness against a stub that gives replies of the shape of the
HTTP API. The numbers of the stub are chosen so that each format appears once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

testing = pytest.importorskip("streamlit.testing.v1", reason="needs streamlit")
monitor = pytest.importorskip("financial_data_service.monitor", reason="needs streamlit")

PAGE = Path(__file__).parents[1] / "src" / "financial_data_service" / "monitor.py"


def symbol_reply(symbol: str, values: int, price: float = 64123.45) -> dict[str, Any]:
    stats = [
        {
            "k": k,
            "window": 10**k,
            "min": price,
            "max": price,
            "last": price,
            "avg": price,
            "var": 2.25,
            "values": min(values, 10**k),
        }
        for k in range(1, 9)
    ]
    return {"symbol": symbol, "sequence": values, "stats": stats}


class Stub:
    """A server whose replies a test sets, and which it stops and starts on the same port."""

    def __init__(self) -> None:
        self.symbols: list[dict[str, Any]] = []
        self.status = 200
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reply(self, path: str) -> dict[str, Any]:
        if path == "/symbols":
            return {"symbols": [], "max_symbols": 10, "largest_window": 10**8}
        return {"symbols": self.symbols}

    def start(self) -> None:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(stub.reply(self.path)).encode()
                self.send_response(stub.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    stub = Stub()
    monkeypatch.setenv("FDS_URL", stub.url + "/")
    yield stub
    stub.stop()


@pytest.fixture
def page(stub: Stub) -> Any:
    return testing.AppTest.from_file(str(PAGE), default_timeout=30)


def html(page: Any) -> str:
    page.run()
    assert not page.exception
    return str(page.get("html")[0].proto.body).partition("</style>")[2]


def test_header_says_state_and_symbols_used(stub: Stub, page: Any) -> None:
    stub.symbols = [symbol_reply("AAPL", 12_800), symbol_reply("MSFT", 5)]
    shown = html(page)
    assert "<b>ready</b>" in shown
    assert "<b>2</b> of 10 symbols" in shown
    assert "<b>12,805</b> prices received" in shown
    assert stub.url in shown


def test_pill_shows_exact_fill_of_the_largest_window(stub: Stub, page: Any) -> None:
    stub.symbols = [symbol_reply("AAPL", 12_345_678)]
    shown = html(page)
    assert "12.345678 % · 12,345,678 of 100,000,000 prices" in shown
    assert "width:12.3457%" in shown


def test_table_has_eight_windows_and_mutes_those_not_full(stub: Stub, page: Any) -> None:
    stub.symbols = [symbol_reply("AAPL", 12_800)]
    shown = html(page)
    assert shown.count("<tr") == 1 + 8
    assert shown.count('<tr class="muted">') == 4
    cells = ["64,123.45", "64,123.4500", "2.25000", "1.50000"]
    assert all(f">{text}</td>" in shown for text in cells)


@pytest.mark.parametrize(
    "symbol",
    ["**bold**", "<script>alert(1)</script>", "a&amp;b", "$x$ :smile: `c`", "价格 \u202eabc"],
)
def test_symbols_are_shown_literally(stub: Stub, page: Any, symbol: str) -> None:
    stub.symbols = [symbol_reply(symbol, 5)]
    escaped = symbol.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<bdi>{escaped}</bdi>" in html(page)


def test_no_symbols_gives_a_hint(stub: Stub, page: Any) -> None:
    assert "<b>0</b> of 10 symbols" in html(page)
    assert f"curl {stub.url}/add_batch/" in page.code[0].value
    assert "fds load" in page.code[0].value


def test_server_that_goes_and_comes_back(stub: Stub, page: Any) -> None:
    stub.symbols = [symbol_reply("AAPL", 12_800)]
    html(page)
    stub.stop()
    shown = html(page)
    assert "<b>not reachable</b>" in shown
    assert f"The server at {stub.url} does not answer; these numbers are stale, 0 s old" in shown
    assert "12,800 of 100,000,000" in shown
    stub.start()
    assert "<b>ready</b>" in html(page)


def test_server_that_was_never_there(stub: Stub, page: Any) -> None:
    stub.stop()
    shown = html(page)
    assert "does not answer; <code>make run</code> starts it" in shown
    assert not page.code
    stub.start()


def test_something_else_on_the_port(stub: Stub, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.status = 503
    assert f"{stub.url} answers 503" in html(page)
    stub.status = 200
    monkeypatch.setattr(stub, "reply", lambda path: {"hello": "world"})
    assert f"What answers at {stub.url} is not this service" in html(page)


def test_proxies_of_the_environment_are_not_used(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert monitor.fetch(stub.url).max_symbols == 10
    with pytest.raises(httpx.HTTPError):
        httpx.get(stub.url)


@pytest.mark.parametrize(
    ("price", "decimals", "text"),
    [
        (64123.5, 2, "64,123.50"),
        (1.0834, 5, "1.08340"),
        (0.00001234, 8, "0.00001234"),
        (5.001e-9, 8, "5.001e-09"),
        (999_775_482_835.44, 4, "999,775,482,835.440"),
        (-0.5, 2, "-0.50"),
        (0.0, 2, "0.00"),
        (1e150, 2, "1e+150"),
    ],
)
def test_format_price(price: float, decimals: int, text: str) -> None:
    assert monitor.format_price(price, decimals) == text


@pytest.mark.parametrize(
    ("prices", "decimals"),
    [([64123.0], 2), ([1.0834, 1.08341], 5), ([0.1 + 0.2], 8), ([1e-9], 8), ([1e30], 2)],
)
def test_decimals_follow_the_prices(prices: list[float], decimals: int) -> None:
    assert monitor.decimals_of(prices) == decimals


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
    assert monitor.format_spread(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h")]
)
def test_format_age(seconds: float, text: str) -> None:
    assert monitor.format_age(seconds) == text
