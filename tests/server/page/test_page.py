"""The page at ``/``: its files over HTTP, and what it shows in a real browser, without a network.

The numbers on the page are compared with those of the API as doubles: each cell holds in its title
the number in full. Symbols have names that would be markup, or parts of an address, if they could.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from support.browser import Window, chromium, needs_chromium
from support.keeping_up import keep_up
from support.layout import PHONE, SCREENS, assert_lies_well
from support.paths import ROOT
from support.service_process import LIGHT, Service, end, environment, started

pytestmark = pytest.mark.one_python

MARKUP = "<b>B.R@K*%2F</b> &amp;"
FIELDS = ("window", "values", "min", "max", "last", "avg", "var", "std")
KEY = "a-key-for-the-tests-1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with started(tmp_path_factory.mktemp("page")) as service:
        yield service
        end(service)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def window(browser: Any) -> Iterator[Window]:
    window = Window(browser)
    yield window
    window.context.close()


def add(url: str, symbol: str, values: list[float]) -> int:
    reply = httpx.post(f"{url}/add_batch/", json={"symbol": symbol, "values": values})
    return int(reply.raise_for_status().json()["sequence"])


def show_sequence(window: Window, symbol: str, sequence: int) -> None:
    """Wait until every window of the symbol is shown at this sequence."""
    window.until(
        """([symbol, sequence]) => [...document.querySelectorAll("section")].some((section) =>
            section.dataset.symbol === symbol && [...section.querySelectorAll("tbody tr")].every(
                (row) => Number(row.dataset.sequence) === sequence))""",
        [symbol, sequence],
    )


def numbers(window: Window, symbol: str) -> list[dict[str, str]]:
    """Return the cells of a symbol's table: field → number in full."""
    rows: list[dict[str, str]] = window.page.evaluate(
        """(symbol) => [...document.querySelectorAll("section")]
            .find((section) => section.dataset.symbol === symbol)
            .querySelectorAll("tbody tr").values().map((row) => Object.fromEntries(
                [...row.querySelectorAll("td")].map((cell) => [cell.dataset.field, cell.title])))
            .toArray()""",
        symbol,
    )
    return rows


def test_the_page_and_its_files_say_what_they_are(service: Service) -> None:
    reply = httpx.get(service.url + "/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"].startswith("default-src 'self'")
    assert "//" not in reply.text, "everything is relative"
    for name, media_type in {
        "board.js": "text/javascript; charset=utf-8",
        "elements.js": "text/javascript; charset=utf-8",
        "numbers.js": "text/javascript; charset=utf-8",
        "page.js": "text/javascript; charset=utf-8",
        "palette.css": "text/css; charset=utf-8",
        "plots.js": "text/javascript; charset=utf-8",
        "view.css": "text/css; charset=utf-8",
        "view.js": "text/javascript; charset=utf-8",
        "page.css": "text/css; charset=utf-8",
        "plots.css": "text/css; charset=utf-8",
        "icon.svg": "image/svg+xml",
    }.items():
        reply = httpx.get(f"{service.url}/static/{name}")
        assert (reply.status_code, reply.headers["content-type"]) == (200, media_type)
        etag = {"if-none-match": reply.headers["etag"]}
        again = httpx.get(f"{service.url}/static/{name}", headers=etag)
        assert (again.status_code, again.content) == (304, b"")
    for name in ("nope.js", "index.html", "..%2Fpage.py", "%2e%2e"):
        assert httpx.get(f"{service.url}/static/{name}").status_code == 404
    assert httpx.head(service.url + "/").status_code == 200


@needs_chromium
def test_numbers_are_those_of_the_api_and_follow_it(service: Service, window: Window) -> None:
    prices = [64123.45, 64123.5, 64122.9, 0.1 + 0.2, 64125.0] * 25
    sequence = add(service.url, MARKUP, prices)
    window.page.goto(service.url + "/")
    show_sequence(window, MARKUP, sequence)
    assert_shows_the_api(service.url, window, MARKUP)
    assert window.page.locator("section h2").all_inner_texts() == [MARKUP]
    assert "online" in window.page.locator("#online").inner_text()
    assert window.page.locator("#symbols").inner_text() == "1 of 10"
    assert "0.125 % · 125 of 100,000 prices" in window.page.locator(".pill").inner_text()

    sequence = add(service.url, MARKUP, [64200.0])
    show_sequence(window, MARKUP, sequence)
    assert_shows_the_api(service.url, window, MARKUP)
    assert window.page.locator("#received").inner_text() == "126"
    window.close()


def assert_shows_the_api(url: str, window: Window, symbol: str) -> None:
    listed = httpx.get(f"{url}/stats/").raise_for_status().json()["symbols"]
    api = next(entry["stats"] for entry in listed if entry["symbol"] == symbol)
    rows = numbers(window, symbol)
    assert len(rows) == len(api) == 5
    for row, stats in zip(rows, api, strict=True):
        stats["std"] = math.sqrt(stats["var"])
        assert [float(row[field]) for field in FIELDS] == [stats[field] for field in FIELDS]


@needs_chromium
def test_a_largest_window_that_is_no_power_of_ten(tmp_path: Path, window: Window) -> None:
    with started(tmp_path, ("--port", "0", "--largest-window", "5000")) as service:
        sequence = add(service.url, "A", [1.0, 2.0, 4.0] * 2000)
        window.page.goto(service.url + "/")
        show_sequence(window, "A", sequence)
        rows = numbers(window, "A")
        assert [float(row["window"]) for row in rows] == [10, 100, 1000]
        assert "100 % · 5,000 of 5,000 prices" in window.page.locator(".pill").inner_text()
        window.page.get_by_label("1,000", exact=True).wait_for()
        assert window.page.locator("#bands label").all_inner_texts() == ["10", "100", "1,000"]
        window.close()


@needs_chromium
def test_files_that_cannot_be_served_are_named(tmp_path: Path, window: Window) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "A<b>.ring").write_bytes(b"")
    (data / "B.ring").write_bytes(b"not a ring")
    with started(tmp_path, (*LIGHT, "--data-dir", str(data))) as service:
        refused = service.get("/readyz")["refused"]
        window.page.goto(service.url + "/")
        window.page.get_by_text("2 files of the data directory cannot be served:").wait_for()
        items = window.page.locator("#refused li").all_inner_texts()
        assert items == [f"{each['file']}: {each['reason']}" for each in refused]
        assert window.page.locator("#online").inner_text().startswith("degraded")
        assert not window.page.locator("#hint").is_visible(), "there were prices"
        for each in refused:
            (data / each["file"]).unlink()
        window.page.locator("#refused").wait_for(state="hidden")
        window.page.locator("#hint").wait_for(state="visible")
        window.close()


@needs_chromium
def test_symbols_come_and_go(service: Service, window: Window) -> None:
    service.empty()
    window.page.goto(service.url + "/")
    window.page.locator("#hint").wait_for(state="visible")
    assert window.page.get_by_role("link", name="Metrics").is_visible()
    show_sequence(window, "NEW", add(service.url, "NEW", [1.0, 2.0]))
    assert not window.page.locator("#hint").is_visible()
    service.empty()
    window.until("() => !document.querySelector('section')")
    assert window.page.locator("#index a").count() == 0
    show_sequence(window, "NEW", add(service.url, "NEW", [3.0]))  # a new symbol
    window.close()


@needs_chromium
def test_plots_are_drawn_and_can_be_read_with_the_keyboard(
    service: Service, window: Window
) -> None:
    service.empty()
    add(service.url, "A", [10.0, 20.0, 30.0])
    window.page.goto(service.url + "/")
    canvas = window.page.locator("section canvas").first
    window.until(
        """() => {
            const canvas = document.querySelector("section canvas");
            const label = canvas?.getAttribute("aria-label") ?? "";
            if (!label.includes("last 30.00, 100 20.00 ± 8.16")) return false;
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            return data.some((value) => value !== 0);
        }"""
    )
    canvas.focus()
    canvas.press("ArrowLeft")
    window.until("() => /\\d\\d:\\d\\d:\\d\\d/.test(document.querySelector('.legend').textContent)")
    window.page.get_by_label("10,000", exact=True).uncheck()
    window.until("() => !document.querySelector('canvas').ariaLabel.includes('10,000')")
    window.close()


@needs_chromium
def test_legends_tell_what_the_table_tells(service: Service, window: Window) -> None:
    service.empty()
    add(service.url, "A", [10.0, 20.0, 30.0])
    # No further sample is taken once there has been one of these.
    window.page.add_init_script(
        """const inTime = setInterval;
        setInterval = (call, ms) => inTime(() => {
            const isKnown = document.querySelector("canvas")?.ariaLabel?.includes("last 30.00");
            if (ms !== 500 || !isKnown) call();
        }, ms);"""
    )
    window.page.goto(service.url + "/")
    window.page.get_by_role("img", name="last 30.00, 100 20.00 ± 8.16").wait_for()
    add(service.url, "A", [40.0])
    window.page.get_by_role("img", name="last 40.00, 100 25.00 ± 11.2").wait_for()
    window.page.get_by_role("img", name="last 40.00, 100 10.00 … 40.00").wait_for()
    window.page.get_by_role("img", name="Prices held: 4 of 100,000").wait_for()
    assert window.page.locator("section .last").inner_text() == "40.00"
    window.close()


@needs_chromium
def test_all_of_it_fits_a_phone(service: Service, window: Window) -> None:
    service.empty()
    window.page.set_viewport_size({"width": 390, "height": 844})
    window.page.goto(service.url + "/")
    show_sequence(window, "A", add(service.url, "A", [64123.25, -64123.5, 64122.9]))
    window.assert_fits("#state dt, #state dd")
    window.assert_fits("tbody td")
    assert window.page.locator("td[data-field=std]").last.is_visible()
    window.close()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_view_lies_well_on_screens_of_any_size(
    tmp_path: Path, browser: Any, scheme: str
) -> None:
    window = Window(browser, color_scheme=scheme)
    with started(tmp_path, ("--port", "0")) as service:
        window.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        window.page.goto(service.url + "/")
        for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT"):
            sequence = add(service.url, symbol, [39_184.11, 39_550.0, 39_179.25] * 3000)
            show_sequence(window, symbol, sequence)
        for width, height in SCREENS:
            assert_lies_well(window, width, height)
        window.close()


@needs_chromium
def test_windows_of_the_plots_come_first_in_the_table_of_a_phone(
    service: Service, window: Window
) -> None:
    service.empty()
    window.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    window.page.goto(service.url + "/")
    show_sequence(window, "A", add(service.url, "A", [1.0, 2.0]))
    shown = """() => [...document.querySelectorAll("tbody tr")]
        .toSorted((one, other) => one.offsetTop - other.offsetTop).map((row) => row.dataset.k)"""
    window.until(f"() => ({shown})().join() === '2,3,4,1,5'")
    window.page.get_by_label("100,000", exact=True).check()
    window.page.get_by_label("1,000", exact=True).uncheck()
    window.until(f"() => ({shown})().join() === '2,4,5,1,3'")
    window.page.set_viewport_size({"width": 1400, "height": 900})
    window.until(f"() => ({shown})().join() === '1,2,3,4,5'")
    window.close()


@needs_chromium
def test_columns_are_apart_however_long_their_numbers(service: Service, window: Window) -> None:
    service.empty()
    window.page.goto(service.url + "/")
    show_sequence(window, "KRW", add(service.url, "KRW", [1.4e8 + 1 / 3, 1.4e8 + 1e5, 1.4e8]))
    show_sequence(window, "IDR", add(service.url, "IDR", [1e12 + 0.33, 1e12 + 1e7, 1e12]))
    for width in (1100, 1440, 1920):
        window.page.set_viewport_size({"width": width, "height": 900})
        window.assert_apart("th, td", gap=8)
    assert window.page.evaluate("() => document.documentElement.scrollWidth") <= 1920
    window.close()


@needs_chromium
def test_ticks_are_told_without_a_minus_before_zero(service: Service, window: Window) -> None:
    window.page.goto(service.url + "/")
    values = window.page.evaluate(
        """async () => {
            const { ticks } = await import("./static/plots.js");
            return ticks(-0.4, 2.2, 3).values.map((value) => Object.is(value, -0) ? "-0" : value);
        }"""
    )
    assert values == [0, 1, 2]
    window.close()


@needs_chromium
@pytest.mark.parametrize(
    ("low", "high"),
    [(711_232.48, 711_240.0), (1.5499e9, 1.5501e9), (9.94e11, 9.96e11), (-9.96e14, -9.94e14)],
)
def test_labels_of_ticks_are_not_cut_off(
    service: Service, window: Window, low: float, high: float
) -> None:
    window.page.goto(service.url + "/")
    for width in (1280, 390):
        window.page.set_viewport_size({"width": width, "height": 844})
        labels = drawn_labels(window, low, high)
        assert labels
        assert [each for each in labels if each["right"] > each["width"]] == []
    window.close()


@needs_chromium
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1.0083e12, 1.0083e12 + 9),
        (1.00831e12, 1.00836e12),
        (9.99999e15, 1.00001e16),
        (1e17, 1e17 + 64),
        (3e-9, 3.0005e-9),
        (0.0, 3e-300),
        (0.5, 0.5 + 1e-9),
    ],
)
def test_labels_of_ticks_differ(service: Service, window: Window, low: float, high: float) -> None:
    window.page.goto(service.url + "/")
    labels = [each["text"] for each in drawn_labels(window, low, high)]
    assert len(labels) > 1
    assert len(set(labels)) == len(labels), labels
    step = (high - low) / len(labels)
    shown = [float(label.replace(",", "")) for label in labels]
    assert all(low - 2 * step <= each <= high + 2 * step for each in shown), shown
    window.close()


def drawn_labels(window: Window, low: float, high: float) -> list[dict[str, Any]]:
    """Draw prices between these; return the labels of the price axis, and where each ends."""
    labels: list[dict[str, Any]] = window.page.evaluate(
        """async ([low, high]) => {
            const { Plots } = await import("./static/plots.js");
            const root = document.querySelector("main").appendChild(document.createElement("div"));
            const plots = new Plots(root);
            const labels = [];
            const canvas = root.querySelector("canvas");
            const context = canvas.getContext("2d");
            context.fillText = (text, x) => context.textAlign === "left" && labels.push(
                { text, right: x + context.measureText(text).width, width: canvas.clientWidth });
            const now = Date.now();
            plots.isSeen = true;
            plots.draw({
                times: [now - 500, now], last: [low, high], held: [1, 2], heldMax: 100,
                rate: [null, 2], decimals: 2, windows: [],
                now: { last: high, held: 2, rate: 2, windows: [] },
            });
            root.remove();
            return labels;
        }""",
        [low, high],
    )
    return labels


@needs_chromium
def test_decimals_stay_while_a_price_of_the_history_has_them(
    service: Service, window: Window
) -> None:
    service.empty()
    window.page.add_init_script(
        "const inTime = setInterval;setInterval = (call, ms) => inTime(call, ms === 500 ? 5 : ms);"
    )
    window.page.goto(service.url + "/")
    last = window.page.locator("section .last")
    shown = []
    for price in (71_123_248.12345678, 1.08, 1.08341, 2.0, 0.1 + 1e-13, 64123.456789123, 2.0):
        show_sequence(window, "A", add(service.url, "A", [price]))
        shown.append(last.inner_text())
    assert shown[:2] == ["71,123,248.12", "1.08"], "computed, it is no tick"
    assert shown[2:] == ["1.08341", "2.00000", "0.100000", "64,123.456789", "2.000000"]
    for _ in range(10):  # as many as the largest window holds
        add(service.url, "A", [2.0] * 10_000)
    window.until("() => document.querySelector('section .last').textContent === '2.00'")
    window.close()


@needs_chromium
def test_dark_and_light(service: Service, window: Window) -> None:
    window.page.goto(service.url + "/")
    backgrounds = []
    for scheme in ("dark", "light"):
        window.page.emulate_media(color_scheme=scheme)
        backgrounds.append(
            window.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        )
    assert backgrounds == ["rgb(15, 19, 25)", "rgb(255, 255, 255)"]
    window.close()


@needs_chromium
def test_server_that_dies_and_comes_back(tmp_path: Path, window: Window) -> None:
    with started(tmp_path) as first:
        port = urlsplit(first.url).port
        show = first.url + "/"
        add(first.url, "GONE", [1.0])
        sequence = add(first.url, "BACK", [1.0, 2.0, 3.0])
        window.page.goto(show)
        show_sequence(window, "BACK", sequence)
        first.process.send_signal(signal.SIGKILL)
        window.until("() => /not reachable since \\d/.test(document.body.innerText)")
        notice = window.page.locator("#notice")
        notice.filter(has_text="The service does not answer: not reachable since ").wait_for()
        assert window.page.locator("#online").inner_text() == "not reachable"
        assert window.page.locator("section").count() == 2, "the last numbers stay"
        name = "Last price, avg ± std: last 3.00, 100 2.00 ± 0.816"
        canvas = window.page.get_by_role("img", name=name)
        canvas.focus()
        window.until(
            "(canvas) => { canvas.dispatchEvent(new KeyboardEvent('keydown',"
            " { key: 'ArrowRight' })); return canvas.ariaLabel.includes('last –, 100 –'); }",
            canvas.element_handle(),
        )
        canvas = window.page.get_by_role("img", name="avg ± std: last –")
        canvas.blur()
        window.page.get_by_role("img", name=name).wait_for()
    with started(tmp_path, (*LIGHT, "--port", str(port))) as second:
        sequence = add(second.url, "BACK", [5.0, 7.0])
        show_sequence(window, "BACK", sequence)
        window.until("() => document.querySelectorAll('section').length === 1")
        assert_shows_the_api(second.url, window, "BACK")
        assert not window.page.locator("#notice").is_visible()
        assert "online" in window.page.locator("#online").inner_text()
        # SIGKILL may fall between the head of a reply and its body.
        window.close("1001", "net::ERR_CONTENT_LENGTH_MISMATCH", lost=True)


@needs_chromium
def test_server_that_comes_back_with_a_larger_window(tmp_path: Path, window: Window) -> None:
    with started(tmp_path, ("--port", "0", "--largest-window", "1000")) as first:
        port = str(urlsplit(first.url).port)
        window.page.goto(first.url + "/")
        show_sequence(window, "A", add(first.url, "A", [1.0, 2.0]))
        assert len(numbers(window, "A")) == 3
        end(first)
    with started(tmp_path, (*LIGHT, "--port", port)) as second:
        show_sequence(window, "A", add(second.url, "A", [5.0, 7.0, 9.0]))
        assert_shows_the_api(second.url, window, "A")
        window.page.get_by_label("100,000", exact=True).wait_for()
        window.close("1001", lost=True)


@needs_chromium
def test_a_row_of_which_nothing_is_known_has_an_empty_bar(service: Service, window: Window) -> None:
    service.empty()
    add(service.url, "A", [1.0, 2.0, 3.0])

    def withhold(stream: Any) -> None:
        """Keep what the service says of the window of 100."""
        server = stream.connect_to_server()
        server.on_message(lambda message: '"k":2' in message or stream.send(message))

    window.page.route_web_socket("**/stream", withhold)
    window.page.goto(service.url + "/")
    window.until("() => document.querySelector('tr[data-k=\"1\"]')?.dataset.sequence === '3'")
    bar = window.page.locator("tr[data-k='2'] .meter i")
    assert bar.evaluate("(bar) => bar.clientWidth") == 0
    window.close()


@needs_chromium
def test_windows_of_an_update_are_shown_together(service: Service, window: Window) -> None:
    service.empty()
    streams: list[Any] = []

    def keep(stream: Any) -> None:
        streams.append(stream)

    def say(symbol: str, sequence: int, ks: list[int]) -> None:
        statistics = dict.fromkeys(("min", "max", "last", "avg", "var"), float(sequence))
        for k in ks:
            about = {"symbol": symbol, "k": k, "window": 10**k, "sequence": sequence}
            streams[0].send(json.dumps(about | statistics | {"event": "update", "values": 1}))

    window.page.route_web_socket("**/stream", keep)
    window.page.goto(service.url + "/")
    window.until("() => document.querySelector('#online').className === 'up'")
    window.page.evaluate("() => { performance.now = () => 0; }")  # No moment passes.
    say("A", 7, [1, 2, 3, 4, 5])
    show_sequence(window, "A", 7)
    say("A", 8, [1, 2, 3, 4])
    say("B", 9, [1, 2, 3, 4, 5])
    show_sequence(window, "B", 9)
    show_sequence(window, "A", 7)
    assert window.page.locator("#received").inner_text() == "16"
    say("A", 8, [5])
    show_sequence(window, "A", 8)
    say("A", 10, [1, 2])
    window.page.evaluate("() => { performance.now = () => 1000; }")
    sequences = "[...document.querySelectorAll('tbody tr')].map((row) => row.dataset.sequence)"
    window.until(f"() => {sequences}.slice(0, 5).join() === '10,10,8,8,8'")  # The rest is late.
    window.close()


@needs_chromium
def test_a_connection_that_has_just_begun_shows_what_was_known(
    service: Service, window: Window
) -> None:
    service.empty()
    add(service.url, "A", [1.0, 2.0, 3.0])
    streams: list[Any] = []
    held: list[str] = []

    def hold(stream: Any) -> None:
        """Pass a first connection on, and keep from a second one what the service says."""
        streams.append(stream)
        server = stream.connect_to_server()
        if len(streams) > 1:
            server.on_message(lambda message: held.append(str(message)))

    window.page.route_web_socket("**/stream", hold)
    window.page.goto(service.url + "/")
    show_sequence(window, "A", 3)
    window.until("() => document.querySelector('#price-rate').textContent === '0'")
    streams[0].close()
    window.until("() => document.querySelector('#online').className === 'down'")
    window.until("() => document.querySelector('#online').className === 'up'")
    window.until("() => document.querySelector('#price-rate').textContent === '–'")
    assert window.page.locator("#received").inner_text() == "3"
    assert "· 3 of 100,000 prices" in window.page.locator(".pill").inner_text()
    canvas = window.page.get_by_role("img", name="Prices held")
    assert canvas.get_attribute("aria-label") == "Prices held:  3 of 100,000"
    canvas.press("ArrowRight")
    assert canvas.get_attribute("aria-label") == "Prices held:  –", "a sample is made of nothing"
    canvas.blur()
    while held:
        streams[1].send(held.pop(0))
    window.until("() => document.querySelector('#price-rate').textContent === '0'")
    window.close()


@needs_chromium
@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_has_no_time_for_figures_is_still_there(
    service: Service, window: Window, status: int
) -> None:
    service.empty()
    asked = []

    def refuse(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=status, body="{}")

    streams: list[str] = []
    window.page.on("websocket", lambda stream: streams.append(stream.url))
    window.page.route("**/metrics", refuse)
    window.page.goto(service.url + "/")
    show_sequence(window, "A", add(service.url, "A", [1.0, 2.0]))
    while len(asked) < 3:
        window.page.wait_for_timeout(50)
    show_sequence(window, "A", add(service.url, "A", [3.0]))
    assert len(streams) == 1, "it goes on"
    assert window.page.locator("#online").inner_text() == "online"
    assert window.page.locator("#request-rate").inner_text() == "–"
    assert not window.page.locator("#notice").is_visible()
    window.close(str(status))


@needs_chromium
def test_the_commands_for_the_first_prices_work(service: Service, window: Window) -> None:
    service.empty()
    window.page.goto(service.url + "/")
    window.page.locator("#hint").wait_for(state="visible")
    first, second = window.page.locator("#hint pre").inner_text().replace("\\\n", "").split("\n\n")
    curl = shlex.split(first)
    assert curl[:2] == ["curl", f"{service.url}/add_batch/"]
    httpx.post(curl[1], json=json.loads(curl[-1])).raise_for_status()
    load = shlex.split(second)
    assert load[:2] == ["fds", "load"]
    command = [sys.executable, "-m", "financial_data_service", *load[1:]]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True)
    names = [entry["symbol"] for entry in service.get("/symbols")["symbols"]]
    assert sorted(names) == ["BTC/USDT", "TEST"]
    service.empty()
    window.close()


@needs_chromium
def test_asks_for_the_key_and_keeps_it(tmp_path: Path, window: Window) -> None:
    with started(tmp_path, FDS_API_KEY=KEY) as service:
        headers = {"X-API-Key": KEY}
        batch = {"symbol": "A", "values": [1.0, 2.0]}
        httpx.post(f"{service.url}/add_batch/", json=batch, headers=headers).raise_for_status()
        window.page.goto(service.url + "/")
        for key, answer in ((KEY[::-1], "not the key"), (KEY, None)):
            window.page.locator("#online").filter(has_text="needs the API key").wait_for()
            window.page.get_by_label("API key").fill(key)
            window.page.get_by_label("API key").press("Enter")
            if answer:
                window.page.get_by_text(answer).wait_for()
        show_sequence(window, "A", 2)
        window.page.locator("#online").filter(has_text="online").wait_for()
        metrics = window.page.get_by_role("link", name="Metrics")
        assert not metrics.is_visible(), "a link asks without the key"
        window.page.reload()
        show_sequence(window, "A", 2)
        assert not metrics.is_visible()
        assert not window.page.locator("#key-form").is_visible()
        window.close("401 (Unauthorized)")


@needs_chromium
def test_behind_a_proxy_with_a_prefix(tmp_path: Path, window: Window) -> None:
    with (
        started(tmp_path, (*LIGHT, "--root-path", "/pri&ces")) as service,
        published_under(b"/pri&ces", urlsplit(service.url).port or 0) as port,
    ):
        add(service.url, "A", [1.0, 2.0])
        window.page.goto(f"http://127.0.0.1:{port}/pri&ces")
        show_sequence(window, "A", 2)
        load = shlex.split(window.page.locator("#hint pre").text_content() or "")[-2:]
        assert load == ["--url", f"http://127.0.0.1:{port}/pri&ces/"]
        link = window.page.get_by_role("link", name="API")
        assert link.evaluate("(link) => link.href").endswith("/pri&ces/docs")
        window.close()


@contextmanager
def published_under(prefix: bytes, port: int) -> Iterator[int]:
    """Publish a port under a prefix, which requests lose on the way; give the port to ask."""
    listener = socket.create_server(("127.0.0.1", 0))
    sockets = [listener]
    threads = []

    def pass_on(source: socket.socket, target: socket.socket, prefix: bytes) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(re.sub(rb" " + prefix + rb"/?", b" /", data) if prefix else data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                inner = listener.accept()[0]
                outer = socket.create_connection(("127.0.0.1", port))
                sockets.extend((inner, outer))
                start(pass_on, inner, outer, prefix)
                start(pass_on, outer, inner, b"")

    def start(target: Callable[..., None], *arguments: Any) -> None:
        threads.append(threading.Thread(target=target, args=arguments))
        threads[-1].start()

    start(accept)
    try:
        yield int(listener.getsockname()[1])
    finally:
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for each in sockets:
            each.close()


@pytest.mark.deep
@needs_chromium
def test_keeps_up_with_ten_symbols_of_a_hundred_updates_a_second(
    tmp_path: Path, window: Window
) -> None:
    with started(tmp_path) as service:
        window.page.goto(service.url + "/")
        keep_up(service, window, "section[data-symbol]")
        window.close()
        end(service)
