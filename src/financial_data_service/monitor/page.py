"""The page itself, as Streamlit runs it.

One subscription serves every session: :func:`feed_of` is a resource of the process. Each session
refreshes one fragment, whose elements keep their places; the plots are a component that draws in
place, so that nothing on the page is ever taken away and put back.
"""

from __future__ import annotations

import os
import time
from importlib.resources import files
from typing import TYPE_CHECKING

import streamlit as st
from msgspec.json import encode

from financial_data_service.monitor import views
from financial_data_service.monitor.feed import Feed
from financial_data_service.monitor.history import SAMPLE_SECONDS

if TYPE_CHECKING:
    from streamlit.components.v2.types import ComponentRenderer

BANDS_FIRST = [2, 3, 4]  # windows in the plots to begin with, as powers of ten

_DRAW = """
export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root");
  root.plots ??= new Plots(root);
  const history = JSON.parse(data);
  root.classList.toggle("stale", history.isStale);
  root.plots.draw(history);
}
"""
_COLOURS = """
.root { --ink: var(--st-text-color); --muted: #8d96a5; --line: #8883;
  font-family: var(--st-font); color: var(--st-text-color); margin: .6rem 0 1.6rem; }
.root.stale { opacity: .6; }
"""


@st.cache_resource(show_spinner=False)
def feed_of(url: str, api_key: str | None) -> Feed:
    """Return the subscription of this process to a service."""
    return Feed(url, api_key).start()


@st.cache_resource(show_spinner=False)
def plots_component() -> ComponentRenderer:
    """Return the component that draws the plots: the script of the service's own page."""
    static = files("financial_data_service") / "server" / "page" / "static"
    script, style = ((static / name).read_text("utf-8") for name in ("plots.js", "plots.css"))
    return st.components.v2.component(
        "fds_plots", html='<div class="root"></div>', css=style + _COLOURS, js=script + _DRAW
    )


@st.fragment(run_every=SAMPLE_SECONDS)
def live() -> None:
    """Show the part of the page that changes."""
    url = os.environ.get("FDS_URL", views.DEFAULT_URL).rstrip("/")
    snapshot = feed_of(url, os.environ.get("FDS_API_KEY") or None).board.snapshot(time.time())
    stale = " stale" if snapshot.problem else ""

    def show(html: str) -> None:
        st.html(f'<div class="fds{stale}">{html}</div>')

    show(views.header_html(url, snapshot, time.time()))
    if not snapshot.symbols:
        if snapshot.is_online and not snapshot.refused:
            st.write("No symbols yet. Send the first prices, or load a file:")
            st.code(views.hint(url), language="bash")
        return
    options = range(1, snapshot.k_max + 1)
    ks = st.pills(
        "Windows in the plots",
        options,
        selection_mode="multi",
        default=[k for k in BANDS_FIRST if k in options],
        format_func=lambda k: f"{10**k:,}",
        key="bands",
    )
    for symbol in snapshot.symbols:
        show(views.symbol_html(symbol, snapshot.largest_window))
        data = views.plots_data(symbol, sorted(ks), snapshot.largest_window)
        data["isStale"] = bool(stale)
        # Encoded here, it takes a tenth of the time that Streamlit would take.
        plots_component()(data=encode(data).decode(), key=f"plots-{symbol.symbol}")


def page() -> None:
    """Lay out the page."""
    st.set_page_config(page_title="financial-data-service", page_icon="📈", layout="wide")
    st.html(views.STYLE)
    st.html(views.bands_style("bands"))
    st.title("financial-data-service", anchor=False)
    live()


if __name__ == "__main__":
    page()
