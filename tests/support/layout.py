"""How the view lies on screens of three sizes: nothing overflows, wraps badly or is in the way."""

from __future__ import annotations

from support.browser import ALL_ELEMENTS, Window

__all__ = ["PHONE", "SCREENS", "assert_lies_well"]

PHONE = (390, 844)
SCREENS = (PHONE, (768, 1024), (1400, 1000))
TARGET_PX = 24  # WCAG 2.2, 2.5.8: the least size of what is touched

_TEXTS = (
    "h1, #state dt, #state dd, #bands legend, #bands label, h2, section .last, .pill span,"
    "thead th, tbody td, figcaption b, figcaption .item"
)
_TARGETS = "header nav a, #index a, #bands label"
_SCROLLERS = "html, .stMain, .wide"  # Streamlit scrolls in an element of its own.


def assert_lies_well(window: Window, width: int, height: int) -> None:
    """Look at a page that shows symbols, on a screen of this size."""
    page = window.page
    page.set_viewport_size({"width": width, "height": height})
    too_wide = page.evaluate(
        f"""() => ({ALL_ELEMENTS})({_SCROLLERS!r})
            .filter((each) => each.scrollWidth > each.clientWidth)
            .map((each) => [each.tagName, each.className])"""
    )
    assert too_wide == [], too_wide
    window.assert_apart(_TEXTS)
    small = page.evaluate(
        f"""() => ({ALL_ELEMENTS})({_TARGETS!r}).filter((each) => each.checkVisibility())
            .map((each) => [each.textContent, each.offsetWidth, each.offsetHeight])
            .filter(([, ...sizes]) => Math.min(...sizes) < {TARGET_PX})"""
    )
    assert small == [], small
    lines = page.evaluate(
        f"""() => ({ALL_ELEMENTS})("tbody [data-field=fill] span:last-child")
            .map((each) => each.getClientRects().length)"""
    )
    assert set(lines) == {1}, "fill is on one line"
    if (width, height) == PHONE:
        _assert_plots_come_first(window, height)


def _assert_plots_come_first(window: Window, height: int) -> None:
    """Both plots of prices are on the first screen of a phone, and the table is below them."""
    canvases = window.page.locator("section").first.locator("canvas")
    canvases.nth(1).wait_for()  # A section is drawn when it comes into view, after the resize.
    plots: list[list[float]] = canvases.evaluate_all(
        """(each) => each.slice(0, 2).map((canvas) => canvas.getBoundingClientRect())
            .map(({ top, bottom }) => [top, bottom])"""
    )
    assert len(plots) == 2
    assert all(0 <= top < bottom <= height for top, bottom in plots), plots
    table = window.page.locator("section table").first.bounding_box()
    assert table is not None
    assert table["y"] > plots[1][1]
