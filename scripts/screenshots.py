"""Makes the images of the README: both live pages, Swagger, the tmux session of `make start-all`.

Everything is real: the service on a free port, the BTC/USDT trades that come along, prices that
jitter on from them, Chromium. Needs Debian's chromium, tmux and htop.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import typer
from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from websockets.sync.client import connect

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
TRADES = ROOT / "examples" / "btcusdt-trades.csv"
MONITOR = ROOT / "src" / "financial_data_service" / "monitor" / "page.py"

# Symbol, first price, tick: the others jitter as BTC/USDT does.
MARKETS = (("BTC/USDT", 39_491.76, 0.01), ("EUR/USD", 1.0834, 0.00001), ("ETH/USDT", 2_105.3, 0.01))
BATCHES_PER_SECOND = 40
BATCH_MAX = 25

SESSION = "fds-screenshots"
WAIT_SECONDS = 60.0

THEME = TerminalTheme(
    (15, 19, 25),
    (220, 226, 234),
    [
        *((56, 62, 71), (248, 81, 73), (63, 185, 80), (210, 153, 34)),
        *((88, 166, 255), (188, 140, 255), (57, 197, 207), (201, 209, 217)),
    ],
    [
        *((110, 118, 129), (255, 123, 114), (86, 211, 100), (227, 179, 65)),
        *((121, 192, 255), (210, 168, 255), (86, 212, 221), (240, 246, 252)),
    ],
)
TERMINAL_STYLE = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; padding: 10px; background: #0f1319; color: #dce2ea; width: max-content; }
body, pre { font: 13px/17px "DejaVu Sans Mono", monospace; }
.window { position: relative; }
pre { position: absolute; margin: 0; overflow: hidden; white-space: pre; }
pre.edge { color: #57606a; }
pre.wall { margin-left: .5ch; border-left: 1px solid #57606a; }
pre.title { color: #8d96a5; background: #0f1319; }
pre.status { background: #1f6feb; color: #fff; }
</style>"""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    to: Annotated[Path, typer.Option(help="Directory the images go to.")] = IMAGES,
    seconds: Annotated[float, typer.Option(min=1, help="Time for which prices come first.")] = 60,
) -> None:
    """Make every image anew."""
    from playwright.sync_api import sync_playwright

    missing = [tool for tool in ("chromium", "tmux", "htop") if shutil.which(tool) is None]
    if missing:
        typer.echo(f"Screenshots need {', '.join(missing)}: apt install {' '.join(missing)}")
        raise typer.Exit(1)
    to.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        shoot_pages(browser, to, seconds)
        shoot_session(browser, to / "tmux.png", seconds)
        browser.close()


def shoot_pages(browser: Browser, to: Path, seconds: float) -> None:
    """Show all pages of a service whose prices have been coming for a while."""
    with service() as url, streamlit(url) as monitor_url:
        load = ("load", str(TRADES), "--symbol", "BTC/USDT", "--url", url)
        subprocess.run([sys.executable, "-m", "financial_data_service", *load], check=True)
        with jitter(url):
            page = window(browser, f"{url}/", 1280, 1000)
            monitor = window(browser, monitor_url, 1280, 1120)
            monitor.locator("canvas").first.wait_for(timeout=WAIT_SECONDS * 1000)
            time.sleep(seconds)
            for shown, name in ((page, "page.png"), (monitor, "monitor.png")):
                shown.bring_to_front()
                time.sleep(2)  # It has been in the background.
                save(shown, to / name)
            save(swagger(browser, url), to / "swagger.png")


def swagger(browser: Browser, url: str) -> Page:
    """Show the documentation with a request tried out."""
    page = window(browser, f"{url}/docs", 1280, 1120)
    operation = page.locator("#operations-statistics-window_stats")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".try-out__btn").click()
    operation.get_by_placeholder("symbol").fill("BTC/USDT")
    operation.get_by_placeholder("k", exact=True).fill("3")
    operation.locator(".execute").click()
    operation.locator(".live-responses-table .response-col_status").first.wait_for()
    operation.evaluate("(element) => { element.scrollIntoView(); window.scrollBy(0, -75); }")
    return page


def shoot_session(browser: Browser, to: Path, seconds: float) -> None:
    """Show the panes of `make start-all` after some seconds of load."""
    variables = environment(FDS_PORT=str(free_port(8000)), SESSION=SESSION, TERM="xterm-256color")
    subprocess.run(
        ["make", "start-all"], cwd=ROOT, env=variables, check=True, stdin=subprocess.DEVNULL
    )
    try:
        tmux_lines("resize-window", "", "-x", "180", "-y", "34")
        deadline = time.monotonic() + WAIT_SECONDS
        while not are_loading() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(min(seconds / 4, 10))
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_content(session_html())
        page.locator("body").screenshot(path=to)
        typer.echo(f"{to} {to.stat().st_size // 1024} KiB")
    finally:
        subprocess.run(["make", "kill-session"], cwd=ROOT, env=variables, check=True)


def are_loading() -> bool:
    """Whether both load generators show how far they are."""
    panes = tmux_lines("list-panes", "#{pane_id}")
    return sum("/s" in captured(pane) for pane in panes) >= 2


def captured(pane: str) -> str:
    """Return what a pane shows, colours and all, and paths as seen from the repository."""
    command = ["tmux", "-L", SESSION, "capture-pane", "-e", "-p", "-t", pane]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    root = f"{ROOT}/"
    cut_off = "|".join(re.escape(root[:end]) for end in range(len(root), 3, -1))
    return re.sub(rf"(?:{cut_off})(?=\x1b|\s*$)", "", text.replace(root, ""), flags=re.MULTILINE)


def session_html() -> str:
    """Return the tmux session as it looks: panes in their places, titles on their upper edges."""
    width, height = (int(size) for size in tmux("display", "#{window_width} #{window_height}"))
    parts = []
    for line in tmux_lines(
        "list-panes",
        "#{pane_id} #{pane_left} #{pane_top} #{pane_width} #{pane_height} #{pane_title}",
    ):
        pane, *place, title = line.split(" ", 5)
        left, top, columns, rows = (int(number) for number in place)
        edge = "─" * min(columns + 1, width - left)
        parts += [
            block(edge, left, top - 1, len(edge), 1, "edge"),
            block(f" {escape(title)} ", left + 2, top - 1, len(title) + 2, 1, "title"),
            block(ansi_html(captured(pane), columns), left, top, columns, rows, ""),
        ]
        if left + columns < width:
            parts.append(block("", left + columns, top - 1, 1, rows + 1, "wall"))
    status = " financial-data-service" + " Ctrl-b d leaves, make kill-session ends it all ".rjust(
        width - len(" financial-data-service")
    )
    parts.append(block(escape(status), 0, height, width, 1, "status"))
    size = f"width:{width}ch;height:{17 * (height + 1)}px"
    return f'{TERMINAL_STYLE}<div class="window" style="{size}">{"".join(parts)}</div>'


def block(content: str, left: int, top: int, columns: int, rows: int, kind: str) -> str:
    place = f"left:{left}ch;top:{17 * top}px;width:{columns}ch;height:{17 * rows}px"
    return f'<pre class="{kind}" style="{place}">{content}</pre>'


def ansi_html(text: str, columns: int) -> str:
    """Return text for a terminal as HTML."""
    console = Console(
        record=True, width=columns, file=StringIO(), color_system="truecolor", force_terminal=True
    )
    for line in AnsiDecoder().decode(text):
        console.print(line, no_wrap=True, overflow="crop", highlight=False, soft_wrap=True)
    return console.export_html(theme=THEME, inline_styles=True, code_format="{code}")


def tmux(command: str, form: str) -> list[str]:
    return tmux_lines(command, form)[0].split()


def tmux_lines(command: str, form: str, *flags: str) -> list[str]:
    if form:
        flags = (*flags, "-p" if command == "display" else "-F", form)
    done = subprocess.run(
        ["tmux", "-L", SESSION, command, "-t", f"={SESSION}:", *flags],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def window(browser: Browser, url: str, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark")
    page.goto(url)
    return page


def save(page: Page, to: Path) -> None:
    page.screenshot(path=to)
    typer.echo(f"{to} {to.stat().st_size // 1024} KiB")


@contextmanager
def service() -> Iterator[str]:
    command = [sys.executable, "-m", "financial_data_service", "serve"]
    command += ["--port", str(free_port(8000))]
    with running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("Serving on ").strip()


@contextmanager
def streamlit(service_url: str) -> Iterator[str]:
    port = free_port(8501)
    command = [sys.executable, "-m", "streamlit", "run", str(MONITOR), f"--server.port={port}"]
    with running(command, stdout=subprocess.DEVNULL, FDS_URL=service_url):
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_up(url):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Expected Streamlit at {url} within {WAIT_SECONDS:g} s")
            time.sleep(0.1)
        yield url


@contextmanager
def running(
    command: Sequence[str], stdout: int, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a process until the end of the block, in which it is told to stop."""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(**variables), stdout=stdout, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def jitter(url: str) -> Iterator[None]:
    """Have prices of every market come until the end of the block."""
    is_over = threading.Event()
    threads = [
        threading.Thread(target=send_jitter, args=(url, *market, is_over)) for market in MARKETS
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def send_jitter(url: str, symbol: str, price: float, tick: float, is_over: threading.Event) -> None:
    """Send batches in which the price moves by what its volatility asks for, in whole ticks."""
    chance = random.Random(symbol)
    address = f"ws{url.removeprefix('http')}/ingest/{symbol.replace('/', '%2F')}"
    drift = 0.0
    with connect(address, proxy=None) as socket:
        while not is_over.wait(1 / BATCHES_PER_SECOND):
            prices = []
            drift = 0.98 * drift + chance.gauss(0, 4e-7)
            for _ in range(chance.randint(1, BATCH_MAX)):
                price *= 1 + drift + chance.gauss(0, 6e-6)
                prices.append(round(round(price / tick) * tick, 8))
            socket.send(struct.pack(f"<{len(prices)}d", *prices))
            socket.recv()


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_stcore/health", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def free_port(wanted: int) -> int:
    """Return the port that the README speaks of, or another if that is taken."""
    for port in (wanted, 0):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)) as listener:
            return int(listener.getsockname()[1])
    raise OSError("Expected a free port on 127.0.0.1, got none")


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without what make and settings of a service put there."""
    outer = ("FDS_", "MAKE", "MFLAGS", "TMUX", "SESSION")
    bare = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
    return bare | variables


if __name__ == "__main__":
    app()
