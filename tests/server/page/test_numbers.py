"""Numbers in words, as ``numbers.js`` writes them on both pages, in a real browser.

Expected texts are written by hand. Each case is a call; a browser evaluates all cases of a function
at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.browser import chromium, needs_chromium
from support.paths import ROOT

pytestmark = [needs_chromium, pytest.mark.one_python]

STATIC = ROOT / "src" / "financial_data_service" / "server" / "page" / "static"


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with chromium() as browser:
        page = browser.new_page()
        script = (STATIC / "numbers.js").read_text("utf-8").replace("export ", "")
        names = "priceText, spreadText, briefSpread, percentText, spanText, ageText, rateText"
        page.add_script_tag(
            content=f"{script}\nObject.assign(globalThis, {{ {names}, decimalsOf, Decimals }});"
        )
        yield page


def results(page: Any, function: str, cases: list[tuple[Any, ...]]) -> list[Any]:
    calls = [list(case[:-1]) for case in cases]
    found: list[Any] = page.evaluate(f"(calls) => calls.map((call) => {function}(...call))", calls)
    return found


PRICES = [
    (64123.5, 2, "64,123.50"),
    (1.0834, 5, "1.08340"),
    (0.00001234, 8, "0.00001234"),
    (5.001e-9, 8, "5.001e-9"),
    (999_775_482_835.44, 4, "999,775,482,835.440"),
    (-0.5, 2, "-0.50"),
    (416.955, 2, "416.96"),  # less than that in binary
    (416.965, 2, "416.97"),
    (-0.125, 2, "-0.13"),
    (0.0, 2, "0.00"),
    (999_999_999_999_999.0, 2, "999,999,999,999,999"),
    (1e150, 2, "1e+150"),
]
SPREADS = [
    (0.0, "0"),
    (4138.04256, "4,138.04"),
    (0.00108616, "0.00108616"),
    (7.762e-7, "7.76200e-7"),
    (1.03421e18, "1.03421e+18"),
    (5e-324, "4.94066e-324"),
]
BRIEF_SPREADS = [
    (0.0, "0.00"),
    (1.5, "1.50"),
    (99.94, "99.9"),
    (2261.95, "2,262"),
    (5e-9, "5.00e-9"),
    (1e18, "1.00e+18"),
]
PERCENTS = [
    (12_345_678, 10**8, "12.345678 %"),
    (12_800, 10**8, "0.0128 %"),
    (1, 10**8, "0.000001 %"),
    (10**8, 10**8, "100 %"),
]
SPANS = [
    (-1, "0 s"),
    (0.2, "0 s"),
    (59, "59 s"),
    (61, "1 min 1 s"),
    (3600, "1 h"),
    (7300, "2 h 1 min"),
    (200_000, "2 d 7 h"),
]
RATES = [(None, "–"), (0.0, "0"), (0.52, "0.5"), (99.9, "99.9"), (12_345.6, "12,346")]
AGES = [(999, "now"), (1000, "1 s ago"), (61_000, "1 min 1 s ago")]
DECIMALS = [
    (64123.0, 2),
    (-1.5, 2),
    (0.0, 2),
    (1.08341, 5),
    (0.00001234, 8),
    (0.1 + 0.2, 6),
    (64123.456789123, 2),
    (1.0834567891, 5),
    (711_232.4812345678, 2),
    (71_123_248.12345678, 2),
    (999_775_482_835.44, 2),
    (1e-9, 8),
    (1e150, 2),
]


@pytest.mark.parametrize(
    ("function", "cases"),
    [
        ("priceText", PRICES),
        ("spreadText", SPREADS),
        ("briefSpread", BRIEF_SPREADS),
        ("percentText", PERCENTS),
        ("spanText", SPANS),
        ("rateText", RATES),
        ("ageText", AGES),
        ("decimalsOf", DECIMALS),
    ],
)
def test_texts(page: Any, function: str, cases: list[tuple[Any, ...]]) -> None:
    assert results(page, function, cases) == [case[-1] for case in cases]


def test_decimals_stay_while_a_price_of_the_plots_has_them(page: Any) -> None:
    """The price with five decimals is sample 2 of a history that keeps three samples."""
    found = page.evaluate(
        """(prices) => {
            const history = { times: [], last: [] };
            const decimals = new Decimals(history);
            return prices.map((price, i) => {
                history.times.push(i);
                history.last.push(price);
                if (history.times.length > 3) { history.times.shift(); history.last.shift(); }
                return decimals.take([{ min: price, max: price, last: price }, null], history);
            });
        }""",
        [1.08, 1.5, 1.08341, 2.0, 2.0, 2.0, 2.0, 2.0],
    )
    assert found[:3] == [2, 2, 5]
    assert found[3:5] == [5, 5], "it is still in the plots"
    assert found[-1] == 2


def test_a_viewer_that_comes_late_sees_the_decimals_of_the_history(page: Any) -> None:
    history = {"times": [1, 2, 3], "last": [1.08341, None, 2.0]}
    found = page.evaluate(
        f"""() => {{
            const history = {json.dumps(history)};
            return new Decimals(history).take([{{ min: 2, max: 2, last: 2 }}], history);
        }}"""
    )
    assert found == 5
