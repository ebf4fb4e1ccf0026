"""The reply of ``GET /metrics``, its samples, and a clock for the times in it."""

from __future__ import annotations

from prometheus_client import parser

from support.raw_http import get
from support.wire import Wire


class Clock:
    """Each look at it is 1.5 µs after the last."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1500
        return self.now


def exposition(wire: Wire, *headers: str) -> str:
    """Return the text of the metrics."""
    reply = wire.connect().ask(get("/metrics", *headers))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK"), head
    return body.decode()


Samples = dict[str, dict[tuple[str, ...], float]]


def samples(text: str) -> Samples:
    """Return values by name and values of labels, these in the order of their names."""
    found: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found
