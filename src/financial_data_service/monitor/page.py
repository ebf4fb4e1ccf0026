"""The Streamlit page: the view of the service's own page, fed by one subscription.

The view (``view.js``, ``plots.js``, their styles) is the service's own. This page embeds it as a
component, so both pages show the same view. This page differs from the root page in three ways. It
keeps the API key in its own process. It uses one subscription for all viewers. Its history begins
before a viewer opens the page.
"""

from __future__ import annotations

import os
import re
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import streamlit as st
from msgspec.json import encode

from financial_data_service.monitor.feed import Feed
from financial_data_service.monitor.history import SAMPLE_SECONDS
from financial_data_service.monitor.model import model_of
from financial_data_service.wire import DEFAULT_URL

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

KEY = "view"
SCRIPTS = ("elements.js", "numbers.js", "plots.js", "view.js")
STYLES = ("palette.css", "plots.css", "view.css")

_SHOW = """
export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".root");
  const { bands, ...model } = JSON.parse(data);
  if (!root.view) {
    root.view = new View(root, (chosen) => setStateValue("bands", chosen), bands ?? undefined);
    if (!bands) setStateValue("bands", root.view.bands);
  }
  root.view.render(model);
}
"""
# The first colours come from Streamlit's theme, which may differ from the system's theme. The fixed
# colours suit both a light and a dark theme.
_THEME = """
:host { color-scheme: inherit; }
.root { --ink: var(--st-text-color); --back: var(--st-background-color); --muted: #8d96a5;
  --panel: var(--st-secondary-background-color); --line: #8883; --link: var(--st-link-color);
  --fill: #2f6fd0; --good: #3fb950; --warn: #d29922; --bad: #f85149;
  color: var(--st-text-color); font-family: var(--st-font); font-variant-numeric: tabular-nums; }
"""
_LAYOUT = """<style>
.stMainBlockContainer { padding-top: 4rem; max-width: 88rem; }
.stMainBlockContainer h1 { font-size: 1.75rem; padding: 0; }
@media (max-width: 40rem) { /* The title is in Streamlit's own bar, which would cover it. */
  .stMainBlockContainer { padding-top: 1.9rem; }
  .stMainBlockContainer h1 { position: fixed; top: .7rem; z-index: 999991; font-size: 1.1rem; }
  .stAppHeader { height: 2.8rem; min-height: 2.8rem; }
}
</style>"""


@st.cache_resource(show_spinner=False)
def feed_of(url: str, api_key: str | None) -> Feed:
    """Return the subscription of this process to a service."""
    return Feed(url, api_key).start()


@st.cache_resource(show_spinner=False)
def view_component() -> ComponentRenderer:
    """Return the component: the view's files as one script and one style."""
    static = files("financial_data_service") / "server" / "page" / "static"
    script = "".join((static / name).read_text("utf-8") for name in SCRIPTS)
    script = re.sub(r"(?ms)^import .*?;\n", "", script)  # All of them are in this one file.
    style = "".join((static / name).read_text("utf-8") for name in STYLES)
    html = '<div class="root"></div>'
    return st.components.v2.component("fds_view", html=html, css=style + _THEME, js=script + _SHOW)


@st.fragment(run_every=SAMPLE_SECONDS)
def live(feed: Feed) -> None:
    """Show the part of the page that changes."""
    now = time.time()
    bands: list[int] | None = st.session_state.get(KEY, {}).get("bands")
    model = model_of(feed.board.snapshot(now), feed.url, bands or (), now)
    # Encoding the model here takes a tenth of the time that Streamlit needs.
    data: Any = encode(model | {"bands": bands}).decode()
    view_component()(data=data, key=KEY, on_bands_change=lambda: None)


def page() -> None:
    """Lay out the page."""
    st.set_page_config(page_title="financial-data-service", page_icon="📈", layout="wide")
    st.html(_LAYOUT)
    st.title("financial-data-service", anchor=False)
    url = os.environ.get("FDS_URL") or DEFAULT_URL
    try:
        feed = feed_of(url, os.environ.get("FDS_API_KEY") or None)
    except ValueError as error:
        st.error(f"{error}. Set FDS_URL or FDS_API_KEY, and start the monitor again.")
        return
    live(feed)


if __name__ == "__main__":
    page()
