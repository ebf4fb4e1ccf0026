"""Debian's Chromium, headless, on pages of this machine; and what no page may do in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["ALL_ELEMENTS", "WAIT_MS", "Window", "chromium", "needs_chromium"]

CHROMIUM = shutil.which("chromium")
WAIT_MS = 20_000.0  # A busy machine is no defect.

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

# What Chromium itself says of a server that is not there, whatever the page does about it.
_OF_THE_NETWORK = (
    *("net::ERR_CONNECTION_REFUSED", "net::ERR_CONNECTION_RESET", "net::ERR_EMPTY_RESPONSE"),
    *("net::ERR_SOCKET_NOT_CONNECTED", "WebSocket connection to"),
)


# A function of a selector: the elements of the document and of the components in it.
ALL_ELEMENTS = """(selector) => [document, ...[...document.querySelectorAll("*")]
    .map((each) => each.shadowRoot).filter(Boolean)]
    .flatMap((root) => [...root.querySelectorAll(selector)])"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser, for as many windows as wanted."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """A page that is watched: every complaint, and every host it asks.

    Parameters
    ----------
    browser : Browser
        What shows it.
    options
        Of the browser's context: ``color_scheme`` and the like.
    """

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._on_url(request.url))
        self.page.on("websocket", lambda socket: self._on_url(socket.url))

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def _on_url(self, url: str) -> None:
        if urlsplit(url).scheme in ("http", "https", "ws", "wss"):
            self.hosts.add(str(urlsplit(url).hostname))

    def assert_fits(self, elements: str) -> None:
        """Nothing of these elements lies outside of the window, nor over another of them."""
        boxes = self.assert_apart(elements)
        width = self.page.evaluate("() => document.documentElement.clientWidth")
        assert [box for box in boxes if box[0] < 0 or box[2] > width] == []

    def assert_apart(
        self, elements: str, gap: float = 0.0
    ) -> list[tuple[float, float, float, float]]:
        """No text of these elements is nearer than `gap` to that of another; return their boxes."""
        boxes: list[tuple[float, float, float, float]] = self.page.evaluate(
            f"""(elements) => ({ALL_ELEMENTS})(elements).map((element) => {{
                const range = document.createRange();
                range.selectNodeContents(element);
                const {{ left, top, right, bottom }} = range.getBoundingClientRect();
                return [left, top, right, bottom];
            }}).filter(([left, , right]) => right > left)""",
            elements,
        )
        assert boxes
        for i, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[:i]:
                apart = (
                    *(left - other[2], other[0] - right),
                    *(top - other[3] + gap, other[1] - bottom + gap),
                )
                assert max(apart) >= gap, (boxes[i], other)
        return boxes

    def until(self, condition: str, argument: Any = None) -> None:
        """Wait until a JavaScript function of the page is true."""
        self.page.wait_for_function(condition, arg=argument)

    def close(self, *excused: str, lost: bool = False) -> None:
        """Close it; nothing must have been complained of, and nobody else asked.

        Parameters
        ----------
        excused : str
            Parts of complaints that the test is about.
        lost : bool
            Whether the server was away in between.
        """
        self.context.close()
        excuses = excused + (_OF_THE_NETWORK if lost else ())
        left = [each for each in self.complaints if not any(part in each for part in excuses)]
        assert left == [], left
        assert self.hosts <= {"127.0.0.1"}
