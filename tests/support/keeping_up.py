"""A live page beside 10 symbols that take 100 batches a second each.

Each price is the time at which it was sent, so a page shows its own delay. The bounds are wide,
because a machine may be busy. The delay must not grow, no table may mix sequences, and in the end
the page must show what the service answers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import httpx

from support.browser import ALL_ELEMENTS, Window
from support.service_process import Service

__all__ = ["keep_up"]

SYMBOLS = [f"S{number}" for number in range(10)]
BATCHES_A_SECOND = 100
SECONDS = 20
AGE_SECONDS_MAX = 5.0

FEEDER = """
import http.client, json, sys, time
host, key, symbols, rate = sys.argv[1], sys.argv[2], sys.argv[3].split(","), float(sys.argv[4])
headers = {"Content-Type": "application/json", "X-API-Key": key}
connection = http.client.HTTPConnection(host)
began, sent = time.monotonic(), 0
while True:
    for symbol in symbols:
        body = json.dumps({"symbol": symbol, "values": [time.time()]})
        connection.request("POST", "/add_batch/", body, headers)
        assert connection.getresponse().read()
    sent += 1
    time.sleep(max(0.0, began + sent / rate - time.monotonic()))
"""

# Of each table: how old the newest price is that it shows, and of how many moments its rows are.
LOOK = f"""(tables) => ({ALL_ELEMENTS})(tables).map((table) => {{
    const last = [...table.querySelectorAll("td[data-field=last]")].map((cell) => cell.title);
    return [Date.now() / 1000 - Number(last[0]), new Set(last).size];
}})"""

FILLED = f"""([tables, count]) => {{
    const found = ({ALL_ELEMENTS})(tables);
    return found.length === count && found.every((table) => [...table.querySelectorAll(
        "td[data-field=last]")].every((cell) => cell.title !== ""));
}}"""

VALUES = f"""(tables) => ({ALL_ELEMENTS})(tables).map((table) =>
    Number([...table.querySelectorAll("td[data-field=values]")].at(-1).title))"""


@contextmanager
def fed(service: Service, key: str) -> Iterator[None]:
    """Have every symbol fed, by a process of its own."""
    host = service.url.removeprefix("http://")
    command = [sys.executable, "-c", FEEDER, host, key, ",".join(SYMBOLS), str(BATCHES_A_SECOND)]
    with subprocess.Popen(command) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()


def keep_up(service: Service, window: Window, tables: str, key: str = "") -> None:
    """Let the symbols be fed while a page shows them, and look at it all the time.

    Parameters
    ----------
    service : Service
        With room for the symbols.
    window : Window
        That shows the page.
    tables : str
        What selects the tables of windows, one for each symbol.
    key : str
        The service's key, if it has one.
    """
    ages, torn, looks = [], 0, 0
    with fed(service, key):
        window.until(FILLED, [tables, len(SYMBOLS)])
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            found = window.page.evaluate(LOOK, tables)
            assert len(found) == len(SYMBOLS)
            ages.append(max(age for age, _ in found))
            torn += sum(moments > 1 for _, moments in found)
            looks += len(found)
            time.sleep(0.1)
    third = len(ages) // 3
    print(f"age: median {median(ages):.2f} s, worst {max(ages):.2f} s; torn {torn} of {looks}")
    assert max(ages) < AGE_SECONDS_MAX
    assert median(ages[-third:]) < median(ages[:third]) + 1.0
    assert torn <= looks // 50
    _assert_shows_the_api(service, window, tables, key)


def _assert_shows_the_api(service: Service, window: Window, tables: str, key: str) -> None:
    reply = httpx.get(f"{service.url}/symbols", headers={"X-API-Key": key})
    expected = [entry["sequence"] for entry in reply.raise_for_status().json()["symbols"]]
    assert min(expected) > SECONDS * BATCHES_A_SECOND / 4, "it was fed"
    window.until(
        f"([tables, expected]) => String(({VALUES})(tables)) === String(expected)",
        [tables, expected],
    )
    assert {moments for _, moments in window.page.evaluate(LOOK, tables)} == {1}
