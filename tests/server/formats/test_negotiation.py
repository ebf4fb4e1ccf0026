"""The ``Accept`` header: a table of headers and results, from RFC 9110 and from what browsers and
libraries send.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from financial_data_service.server.formats.negotiation import best_type

JSON = "application/json"
CSV = "text/csv"
BYTES = "application/octet-stream"
ARROW = "application/vnd.apache.arrow.stream"
OFFERED = (JSON, CSV, BYTES, ARROW)

BROWSER = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)

WANTED = {
    # Nothing said, or anything: the first there is.
    None: JSON,
    "": JSON,
    "  ": JSON,
    "*/*": JSON,
    BROWSER: JSON,
    "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2": None,  # Java's: ".2" is no weight
    "text/html, *; q=0.2, */*; q=0.2": JSON,
    # One by its name.
    "application/json": JSON,
    "text/csv": CSV,
    "application/octet-stream": BYTES,
    "application/vnd.apache.arrow.stream": ARROW,
    "TEXT/CSV": CSV,
    " text/csv ": CSV,
    "text/csv;header=present": CSV,
    'text/csv; note="a, b; q=0"; q=0.5': CSV,
    # By kind.
    "text/*": CSV,
    "application/*": JSON,
    "TEXT/*;q=0.1": CSV,
    # Weights.
    "application/json;q=0.5, text/csv": CSV,
    "application/json;q=0.5, text/csv;q=0.6": CSV,
    "application/json;q=0.5,text/csv;q=0.5": JSON,
    "text/csv;q=0.5,application/json;q=0.5": JSON,
    "text/csv;q=0.501,application/json;q=0.5": CSV,
    "text/csv ; q=1.000 , */* ; q=0.999": CSV,
    "text/csv;Q=0.2, application/octet-stream;q=0.3": BYTES,
    "text/*;q=0.3, application/*;q=0.2": CSV,
    # The most specific range counts, not the heaviest.
    "*/*, application/json;q=0": CSV,
    "*/*;q=0.1, application/*;q=0, text/csv;q=0.05": CSV,
    "application/*, application/json;q=0.1": BYTES,
    "text/*;q=0, */*;q=0.1, application/json;q=0": BYTES,
    "*/*;q=0, text/csv;q=0.001": CSV,
    # Nothing of it.
    "text/html": None,
    "image/*": None,
    "*/*;q=0": None,
    "application/json;q=0": None,
    "application/json;q=0.000": None,
    "text/plain, application/xml": None,
    "application/vnd.apache.arrow.file": None,
    # Malformed: passed over, and what is well-formed beside it counts.
    "json": None,
    "*/json": None,
    "text/": None,
    "/csv": None,
    "text/csv/x": None,
    "text csv": None,
    ",,": None,
    "text/csv;q=2": None,
    "text/csv;q=-1": None,
    "text/csv;q=": None,
    "text/csv;q=0.1234": None,
    "text/csv;q=nan": None,
    "text/csv;q=abc, application/json": JSON,
    ", ,text/csv,": CSV,
}


@pytest.mark.parametrize(("accept", "wanted"), WANTED.items())
def test_what_is_wanted_most(accept: str | None, wanted: str | None) -> None:
    assert best_type(accept, OFFERED) == wanted


def test_among_those_wanted_alike_the_first_offered() -> None:
    for first in OFFERED:
        offered = [first, *(each for each in OFFERED if each != first)]
        assert best_type("*/*", offered) == first
        assert best_type(None, offered) == first


WEIGHTS = st.integers(0, 1000).map(lambda weight: f"{weight / 1000:.3f}")


@given(st.dictionaries(st.sampled_from(OFFERED), WEIGHTS, min_size=1), st.randoms())
def test_the_heaviest_whatever_the_order(weights: dict[str, str], random: object) -> None:
    items = [f"{media_type};q={weight}" for media_type, weight in weights.items()]
    random.shuffle(items)  # type: ignore[attr-defined]
    best = max(OFFERED, key=lambda each: float(weights.get(each, "0")))
    expected = best if float(weights.get(best, "0")) > 0 else None
    assert best_type(", ".join(items), OFFERED) == expected


@given(st.text('*/;,q=0.1 "\\ateplicosn', max_size=60) | st.text())
@example('"' * 5000)
@example('"\\' * 5000)
@example("a/b;q=" * 5000)
@example("a/b;q=" + " " * 60_000 + "x")
@example("a/b" + " " * 60_000 + "x")
@example('a/b;"' + "\\" * 60_001)
def test_no_header_is_an_error(accept: str) -> None:
    assert best_type(accept, OFFERED) in (None, *OFFERED)
