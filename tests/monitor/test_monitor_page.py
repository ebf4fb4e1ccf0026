"""The Streamlit page as ``make monitor-ui`` runs it, in a real browser, beside a real service.

One page server for all tests, whose service each test starts on the port it watches. The numbers on
the page are compared with those of the API as doubles: each cell holds in its title the number in
full.
"""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from support.browser import ALL_ELEMENTS, Window, chromium, needs_chromium
from support.keeping_up import keep_up
from support.layout import SCREENS, assert_lies_well
from support.paths import ROOT
from support.service_process import LIGHT, Service, end, environment, started

pytest.importorskip("streamlit", reason="needs streamlit")
pytestmark = [needs_chromium, pytest.mark.one_python]

PAGE = ROOT / "src" / "financial_data_service" / "monitor" / "page.py"
FIELDS = ("window", "values", "min", "max", "last", "avg", "var", "std")
OPACITIES = f"""({ALL_ELEMENTS})("section[data-symbol]")
    .map((section) => getComputedStyle(section).opacity)"""
KEY = "a-key-for-the-tests-1"


class Monitor(NamedTuple):
    """A page server, and where it looks for the service."""

    url: str
    service_port: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    service_port, port = free_port(), free_port()
    log = tmp_path_factory.mktemp("monitor") / "page.log"
    command = [sys.executable, "-m", "streamlit", "run", str(PAGE), f"--server.port={port}"]
    variables = environment(FDS_URL=f"http://127.0.0.1:{service_port}", FDS_API_KEY=KEY)
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=output) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while not answers(f"{url}/_stcore/health"):
                assert time.monotonic() < deadline, log.read_text()
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield Monitor(url, service_port)
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait(20)
    # Streamlit has one of its own, when it stops while a browser is there; no other may be.
    for traceback in log.read_text().split("Traceback")[1:]:
        assert "/financial_data_service/" not in traceback, traceback
        assert "starlette_websocket.py" in traceback, traceback
        assert "starlette.websockets.WebSocketDisconnected: " in traceback, traceback


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def window(browser: Any) -> Iterator[Window]:
    window = Window(browser)
    yield window
    window.context.close()


@pytest.fixture
def flags(monitor: Monitor) -> tuple[str, ...]:
    return (*LIGHT, "--port", str(monitor.service_port))


def add(service: Service, symbol: str, values: list[float]) -> int:
    reply = httpx.post(
        f"{service.url}/add_batch/",
        json={"symbol": symbol, "values": values},
        headers={"X-API-Key": KEY},
    )
    return int(reply.raise_for_status().json()["sequence"])


def show_values(window: Window, symbol: str, values: int) -> None:
    """Wait until every window of the symbol is shown with so many values, as far as they go."""
    window.until(
        f"""([symbol, values]) => {{
            const rows = ({ALL_ELEMENTS})("section")
                .filter((each) => each.dataset.symbol === symbol)
                .flatMap((each) => [...each.querySelectorAll("tbody tr")]);
            const held = (row, field) =>
                Number(row.querySelector(`[data-field=${{field}}]`).title);
            return rows.length === 5 && rows.every((row) =>
                held(row, "values") === Math.min(values, held(row, "window")));
        }}""",
        [symbol, values],
    )


def assert_shows_the_api(service: Service, window: Window, symbol: str) -> None:
    reply = httpx.get(f"{service.url}/stats/?symbol={symbol}", headers={"X-API-Key": KEY})
    rows: list[dict[str, str]] = window.page.evaluate(
        f"""() => ({ALL_ELEMENTS})("tbody tr").map((row) => Object.fromEntries(
            [...row.querySelectorAll("td")].map((cell) => [cell.dataset.field, cell.title])))"""
    )
    api = reply.raise_for_status().json()["stats"]
    assert len(rows) == len(api) == 5
    for row, stats in zip(rows, api, strict=True):
        stats["std"] = math.sqrt(stats["var"])
        assert [float(row[field]) for field in FIELDS] == [stats[field] for field in FIELDS]


def test_numbers_are_those_of_the_api_and_follow_it_in_place(
    tmp_path: Path, monitor: Monitor, flags: tuple[str, ...], window: Window, browser: Any
) -> None:
    with started(tmp_path, flags, FDS_API_KEY=KEY) as service:
        window.page.goto(monitor.url)
        window.page.get_by_text("No symbols yet").wait_for()
        values = add(service, "A", [64123.45, 64123.5, 0.1 + 0.2, 64122.9] * 5)
        show_values(window, "A", values)
        assert_shows_the_api(service, window, "A")
        header = window.page.locator("#state")
        assert re.search(r"online.*1 of 10.*\b20\b", header.inner_text(), re.DOTALL)
        assert "0.02 % · 20 of 100,000 prices" in window.page.locator(".pill").inner_text()

        canvas = window.page.locator("canvas").first
        canvas.wait_for()
        canvas.evaluate("(canvas) => { canvas.isTheSame = true; }")
        values = add(service, "A", [7.0])
        show_values(window, "A", values)
        assert_shows_the_api(service, window, "A")
        label = re.compile(r"Last price, avg ± std: last 7\.00\d*, 100 ")
        window.page.get_by_role("img", name=label).wait_for()
        assert canvas.evaluate("(canvas) => canvas.isTheSame"), "nothing is taken away and put back"
        assert canvas.evaluate(
            """(canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
                .data.some((value) => value !== 0)"""
        ), "something is drawn"

        window.page.get_by_label("10,000", exact=True).uncheck()
        window.page.get_by_role("img", name="1,000 ").first.wait_for()
        window.until(
            f"() => ({ALL_ELEMENTS})('canvas').every(({{ ariaLabel }}) =>"
            "!ariaLabel.includes(', 10,000 '))"
        )

        another = Window(browser)
        another.page.goto(monitor.url)
        show_values(another, "A", values)
        another.close()
        metrics = httpx.get(f"{service.url}/metrics", headers={"X-API-Key": KEY}).text
        assert 'fds_stream_subscribers{worker="1"} 1.0' in metrics, "one for all sessions"
        end(service)
        window.close()


def test_all_of_it_fits_a_phone(
    tmp_path: Path, monitor: Monitor, flags: tuple[str, ...], window: Window
) -> None:
    with started(tmp_path, flags, FDS_API_KEY=KEY) as service:
        window.page.set_viewport_size({"width": 390, "height": 844})
        window.page.goto(monitor.url)
        show_values(window, "A", add(service, "A", [64123.25, -64123.5, 64122.9]))
        window.assert_fits("#state dt, #state dd")
        window.assert_fits("tbody td")
        end(service)
        window.close()


def test_the_view_lies_well_on_screens_of_any_size(
    tmp_path: Path, monitor: Monitor, flags: tuple[str, ...], window: Window
) -> None:
    with started(tmp_path, flags, FDS_API_KEY=KEY) as service:
        window.page.goto(monitor.url)
        for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT"):
            prices = [39_184.11, 39_550.0, 39_179.25] * 3000
            show_values(window, symbol, add(service, symbol, prices))
        for width, height in SCREENS:
            assert_lies_well(window, width, height)
        end(service)
        window.close()


def test_columns_are_apart_however_long_their_numbers(
    tmp_path: Path, monitor: Monitor, flags: tuple[str, ...], window: Window
) -> None:
    with started(tmp_path, flags, FDS_API_KEY=KEY) as service:
        window.page.goto(monitor.url)
        show_values(window, "KRW", add(service, "KRW", [1.4e8 + 1 / 3, 1.4e8 + 1e5, 1.4e8]))
        show_values(window, "IDR", add(service, "IDR", [1e12 + 0.33, 1e12 + 1e7, 1e12]))
        for width in (1100, 1440, 1920):
            window.page.set_viewport_size({"width": width, "height": 900})
            window.assert_apart("th, td", gap=8)
        end(service)
        window.close()


def test_symbols_come_and_go_and_so_does_the_service(
    tmp_path: Path, monitor: Monitor, flags: tuple[str, ...], window: Window
) -> None:
    with started(tmp_path, flags, FDS_API_KEY=KEY) as first:
        window.page.goto(monitor.url)
        show_values(window, "GONE", add(first, "GONE", [1.0]))
        show_values(window, "BACK", add(first, "BACK", [1.0, 2.0, 3.0]))
        first.process.send_signal(signal.SIGKILL)
        window.page.get_by_text("trying again. The numbers are those from before.").wait_for()
        window.until(f"() => {OPACITIES}.join() === '0.55,0.55'")
        shown = window.page.locator("#notice").inner_text()
        assert re.search(r"not reachable since \d\d:\d\d:\d\d, trying again", shown)
        assert window.page.locator("section[data-symbol]").count() == 2
    with started(tmp_path, flags, FDS_API_KEY=KEY) as second:
        show_values(window, "BACK", add(second, "BACK", [5.0, 7.0]))
        window.until(f"() => ({ALL_ELEMENTS})('section[data-symbol]').length === 1")
        window.until(f"() => {OPACITIES}.join() === '1'")
        assert_shows_the_api(second, window, "BACK")
        assert not window.page.get_by_text("trying again").is_visible()
        httpx.delete(f"{second.url}/symbols/BACK", headers={"X-API-Key": KEY})
        window.page.get_by_text("No symbols yet").wait_for()
        end(second)
        window.close()


@pytest.mark.deep
def test_keeps_up_with_ten_symbols_of_a_hundred_updates_a_second(
    tmp_path: Path, monitor: Monitor, flags: tuple[str, ...], window: Window
) -> None:
    with started(tmp_path, flags, FDS_API_KEY=KEY) as service:
        window.page.goto(monitor.url)
        keep_up(service, window, "section[data-symbol]", KEY)
        window.close()
        end(service)
