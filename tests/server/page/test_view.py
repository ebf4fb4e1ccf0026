"""The view alone, in a real browser: what it shows of a model, without a service behind it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from support.browser import chromium, needs_chromium
from support.paths import ROOT

pytestmark = [needs_chromium, pytest.mark.one_python]

STATIC = ROOT / "src" / "financial_data_service" / "server" / "page" / "static"
NOW = 1_700_000_000_000
EMPTY_HISTORY: dict[str, Any] = {
    "times": [],
    "last": [],
    "held": [],
    "rate": [],
    "windows": [],
}
NAMES = [
    "**bold**",
    "<script>alert(1)</script>",
    "a&amp;b",
    "$x$ :smile: `c`",
    "价格 \u202eabc",
    '"',
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of another site, with the files of the view beside it."""
    page = browser.new_page()
    page.route(
        "**/*.js",
        lambda route: route.fulfill(
            path=STATIC / route.request.url.rpartition("/")[2], content_type="text/javascript"
        ),
    )
    page.route(
        "http://view.test/",
        lambda route: route.fulfill(
            body='<!doctype html><meta charset="utf-8"><div id="root"></div>',
            content_type="text/html",
        ),
    )
    page.goto("http://view.test/")
    page.evaluate("""async () => {
        const { View } = await import("/view.js");
        globalThis.chosen = [];
        globalThis.view = new View(document.getElementById("root"), (ks) => chosen.push(ks));
    }""")
    yield page
    page.close()


def model(*symbols: dict[str, Any], **others: Any) -> dict[str, Any]:
    known = dict.fromkeys(("problem", "offlineSince", "updatedAt", "startedAt", "requestRate"))
    return {
        **known,
        "url": "http://127.0.0.1:8000/",
        "isOnline": True,
        "wantsKey": False,
        "now": NOW,
        "limits": {"max_symbols": 10, "largest_window": 10**8, "batch_max": 10_000},
        "refused": [],
        "symbols": list(symbols),
        **others,
    }


def symbol(name: str, values: int, price: float = 64123.45) -> dict[str, Any]:
    windows = [
        {
            "k": k,
            "window": 10**k,
            **dict.fromkeys(("min", "max", "last", "avg"), price),
            "var": 2.25,
            "values": min(values, 10**k),
            "sequence": values,
        }
        for k in range(1, 9)
    ]
    history = {**EMPTY_HISTORY, "times": [NOW], "rate": [1234.5], "last": [price], "held": [values]}
    return {
        "name": name,
        "sequence": values,
        "last": price,
        "windows": windows,
        "history": history,
    }


def render(page: Any, shown: dict[str, Any]) -> None:
    page.evaluate(f"() => view.render({json.dumps(shown)})")


def texts(page: Any, *ids: str) -> list[str]:
    return [page.locator(f"#{each}").inner_text() for each in ids]


def test_state_of_a_service_that_is_online(page: Any) -> None:
    started = {"startedAt": NOW - 7_300_000, "updatedAt": NOW - 61_000, "requestRate": 0.5}
    render(page, model(symbol("AAPL", 12_800), symbol("MSFT", 5), **started))
    assert texts(page, "online", "symbols", "received", "price-rate", "request-rate", "age") == [
        *("online, up 2 h 1 min", "2 of 10", "12,805", "2,469", "0.5", "1 min 1 s ago"),
    ]
    assert page.locator("#online").get_attribute("class") == "up"
    assert not page.locator("#notice").is_visible()


def test_before_the_first_answer_nothing_is_known(page: Any) -> None:
    render(page, model(isOnline=False, limits=None))
    assert texts(page, "online", "symbols", "received") == ["connecting …", "–", "–"]
    assert not page.locator("#notice").is_visible()
    assert not page.locator("#hint").is_visible(), "no symbols are known, which is not none"


def test_a_service_that_is_gone_leaves_its_numbers(page: Any) -> None:
    gone = {"isOnline": False, "problem": "<b>gone</b>", "offlineSince": NOW}
    render(page, model(symbol("A", 5), **gone))
    assert texts(page, "online", "price-rate") == ["not reachable", "–"]
    notice = page.locator("#notice").inner_text()
    assert notice.startswith("<b>gone</b>: not reachable since ")
    assert notice.endswith(", trying again. The numbers are those from before.")
    assert page.locator("#root").get_attribute("class") == "stale"
    assert page.locator("section").count() == 1
    render(page, model(**gone))
    assert page.locator("#notice").inner_text().endswith(", trying again.")


def test_a_service_that_requires_a_key(page: Any) -> None:
    wants = {"isOnline": False, "wantsKey": True, "problem": "It requires its API key"}
    render(page, model(**wants, offlineSince=NOW))
    assert texts(page, "online", "notice") == ["needs the API key", "It requires its API key."]


def test_files_that_cannot_be_served_are_named(page: Any) -> None:
    files = [{"file": "A<b>.ring", "reason": "<i>cut short</i>"}]
    render(page, model(refused=files, startedAt=NOW - 5000))
    assert texts(page, "online") == ["degraded, up 5 s"]
    assert (
        texts(page, "refused")[0].splitlines()[0]
        == "A file of the data directory cannot be served:"
    )
    assert page.locator("#refused li").all_inner_texts() == ["A<b>.ring: <i>cut short</i>"]
    render(page, model(refused=[*files, {"file": "B.ring", "reason": "cut short"}]))
    assert "2 files of the data directory" in texts(page, "refused")[0]
    render(page, model())
    assert not page.locator("#refused").is_visible()


def test_table_and_fill_of_a_symbol(page: Any) -> None:
    render(page, model(symbol("AAPL", 12_345_678)))
    assert page.locator(".pill").inner_text() == "12.345678 % · 12,345,678 of 100,000,000 prices"
    assert page.locator("tbody tr").count() == 8
    assert page.locator("tbody tr.filling").count() == 1
    cells = page.locator("tbody tr").last.locator("td").all_inner_texts()
    assert cells == [
        *("100,000,000", "12,345,678", "12.345678 %", "64,123.45", "64,123.45", "64,123.45"),
        *("64,123.4500", "2.25000", "1.50000"),
    ]
    title = page.locator("tbody tr").first.locator("[data-field=avg]").get_attribute("title")
    assert title == "64123.45"


def test_names_are_shown_literally(page: Any) -> None:
    render(page, model(*(symbol(name, 5) for name in NAMES)))
    assert sorted(page.locator("section h2").all_text_contents()) == sorted(NAMES)
    assert sorted(page.locator("#index a bdi").all_text_contents()) == sorted(NAMES)
    found = page.evaluate(
        "() => [...document.querySelectorAll('section')].map((s) => s.dataset.symbol)"
    )
    assert found == sorted(NAMES), "by name"


def test_windows_are_chosen_for_the_plots(page: Any) -> None:
    render(page, model(symbol("A", 5)))
    boxes = page.locator("#bands input")
    assert [box.is_checked() for box in boxes.all()] == [False, True, True, True, *[False] * 4]
    boxes.nth(7).check()
    boxes.nth(1).uncheck()
    assert page.evaluate("() => chosen") == [[2, 3, 4, 8], [3, 4, 8]]


def test_fewer_windows_in_the_plots_with_new_numbers(page: Any) -> None:
    """What the legends tell now has to fit what is drawn."""
    both, one = symbol("A", 5), symbol("A", 6)
    series = {name: [1.0] for name in ("avg", "std", "min", "max")}
    both["history"]["windows"] = [{"k": k, "window": 10**k, **series} for k in (2, 3)]
    one["history"]["windows"] = both["history"]["windows"][:1]
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    for shown in (both, one, both):
        render(page, model(shown))
    page.get_by_role("img", name="last 64,123.45, 100 64,123.45 ± 1.50, 1,000 ").wait_for()
    assert errors == []


def test_another_largest_window_makes_other_tables(page: Any) -> None:
    render(page, model(symbol("A", 5)))
    short = symbol("A", 5)
    short["windows"] = short["windows"][:3]
    limits = {"max_symbols": 10, "largest_window": 1000, "batch_max": 10_000}
    render(page, model(short, limits=limits))
    assert page.locator("tbody tr").count() == 3
    assert page.locator("#bands label").all_inner_texts() == ["10", "100", "1,000"]


def test_the_hint_has_commands_for_any_address(page: Any) -> None:
    render(page, model(url="http://a/b&c"))
    text = page.locator("#hint pre").inner_text()
    first, second = (shlex.split(each) for each in text.replace("\\\n", "").split("\n\n"))
    assert first[:2] == ["curl", "http://a/b&c/add_batch/"]
    assert second[:2] == ["fds", "load"]
    assert second[-4:] == ["--symbol", "BTC/USDT", "--url", "http://a/b&c/"]
    assert json.loads(first[-1])["symbol"] != "BTC/USDT", "a file is compared with what is stored"
