"""The fast lane answers batches and requests for one window without the framework.

``POST /add_batch/`` and ``GET /stats`` are answered in the protocol class if they are plain and
succeed. All other requests, including every error, are passed unchanged to uvicorn and FastAPI (the
slow lane). The fast lane looks at bytes between two requests, takes whole requests that it fully
understands, and hands over all others as they came. It only skips work whose result is already
known. It does not behave differently from the slow lane. One conformance suite tests both lanes.

:mod:`~financial_data_service.server.connection.head_cache` decides which requests it understands.

Invariants
----------
* The fast lane reads bytes only while the connection is between requests. So uvicorn completes its
  requests in order.
* A request is either answered here, exactly once, or passed on with no side effects.
* While a body is collected, its request counts as one in flight.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any
from urllib.parse import quote

from financial_data_service.server.connection.arrival import ArrivalEvent
from financial_data_service.server.connection.head_cache import (
    CachedReply,
    FastLane,
    KnownBatch,
    SampledQuery,
)
from financial_data_service.server.connection.http_protocol import LimitedHttpProtocol
from financial_data_service.server.connection.request_head import HEAD_END
from financial_data_service.server.telemetry.metrics import Metrics

__all__ = ["FastLaneProtocol"]

_LETTER_G = ord("G")

_UNKNOWN: Any = object()  # a head that is not classified; None is the decision for the slow lane


class FastLaneProtocol(LimitedHttpProtocol):
    """uvicorn's HTTP protocol with the fast lane in front of it.

    The connection is *open* (between requests, the fast lane looks at bytes), *collecting* (the
    head of a batch was taken, its body is arriving), or *handed over* (uvicorn has bytes that it
    has not answered). Only *collecting* is a state of ``arrival``. *Open* and *handed over* differ
    only in which lane gets the next bytes. One attribute stores this, so that a query costs only
    one look-up.

    Attributes
    ----------
    lane : FastLane
        What the connections share.
    metrics : Metrics
        The counters of the process.
    in_flight_max : int
        Maximum number of requests in flight, above which the slow lane replies 429.
    """

    lane: FastLane
    metrics: Metrics
    in_flight_max: int = 2**62

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Copied to the instance, because instance attributes are faster to look up than class
        # attributes.
        self._lane = self.lane
        self._known = self.lane.known
        self._manager = self.lane.manager
        self._access_log = self.lane.access_log
        self._open = True
        # The batch that is being collected: its head, the parts of its body, and the number of
        # missing bytes.
        self._batch: tuple[bytes, KnownBatch] | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self._stopping = False

    def data_received(self, data: bytes) -> None:
        """Answer the requests that the fast lane knows. Pass the rest to uvicorn."""
        if self._open:
            # The most frequent case: one read contains exactly one known query. A look-up hashes
            # all bytes of the key, so it is skipped for batches.
            known = self._known.get(data) if data[0] == _LETTER_G else None
            if (
                type(known) is CachedReply
                and not self.flow.write_paused
                and self._answer_query(known)
            ):
                return
        elif self._batch is not None:
            self._collect(data)
            return
        elif self.is_between_requests():
            self._unset_keepalive_if_required()
            self._open = True
        else:
            super().data_received(data)
            return
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop a body that will not be complete."""
        if self._batch is not None:
            self._end_collecting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection, after the reply to a batch whose body is arriving."""
        if self._batch is not None:
            self._stopping = True
        else:
            super().shutdown()

    def is_between_requests(self) -> bool:
        """Tell whether every request so far has arrived and been answered, and all were HTTP/1."""
        return (
            self._batch is None
            and super().is_between_requests()
            and not self.parser.should_upgrade()
        )

    def _take(self, data: bytes) -> None:
        """Answer the requests at the start of `data` as far as they are known."""
        headers = self._lane.headers(self.server_state.default_headers)
        length = len(data)
        position = 0
        while position < length and not self.flow.write_paused:
            end = data.find(HEAD_END, position) + 4
            if end < 4:
                break
            head = data[position:end]
            known = self._known.get(head, _UNKNOWN)
            if known is _UNKNOWN:
                known = self._lane.classify(head)
            if type(known) is CachedReply:
                if not self._answer_query(known):
                    break
            elif type(known) is SampledQuery:
                if not self._answer_due(head, known):
                    break
            elif type(known) is KnownBatch:
                begin, end = end, end + known.body_bytes
                if length < end:
                    if self.metrics.in_flight >= self.in_flight_max:
                        break  # The slow lane replies 429.
                    self._start_collecting(head, known, data[begin:])
                    return
                if not self._add(known, data[begin:end], headers):
                    break
            else:
                break
            position = end
        if position < length:
            self._hand_over(data[position:] if position else data)

    def _answer_query(self, known: CachedReply) -> bool:
        """Answer a query; False when it is for the slow lane."""
        reply = known.reply(self._manager, self._lane.headers(self.server_state.default_headers))
        if reply is None:
            return False
        self.transport.write(reply)
        self._was_active = True
        known.answers.append(None)
        return True

    def _answer_due(self, head: bytes, due: SampledQuery) -> bool:
        """Answer a query and measure its time; False when it is for the slow lane."""
        began = perf_counter_ns()
        if not self._answer_query(due.query):
            return False
        nanoseconds = perf_counter_ns() - began
        due.query.measured(nanoseconds)
        if self._access_log is None:
            self._known[head] = due.query
        else:
            self._log(due.query.path, "GET", 200, nanoseconds)
        return True

    def _add(self, known: KnownBatch, body: bytes, headers: bytes) -> bool:
        """Store and answer a batch; False when it is for the slow lane."""
        began = perf_counter_ns()
        added = self._lane.add(known, body, headers)
        if added is None:
            return False
        status, reply = added
        self.transport.write(reply)
        self._was_active = True
        counter = known.counters[status]
        counter.left -= 1
        if not counter.left:
            nanoseconds = perf_counter_ns() - began
            counter.sampled(nanoseconds)
            if self._access_log is not None:
                self._log(known.path, "POST", status, nanoseconds)
        return True

    def _start_collecting(self, head: bytes, known: KnownBatch, part: bytes) -> None:
        self._open = False
        self._batch = head, known
        self._parts.append(part)
        self._missing = known.body_bytes - len(part)
        self._arrival.on(ArrivalEvent.COLLECT)
        self._arriving_since = self.loop.time()
        self.metrics.in_flight += 1

    def _end_collecting(self) -> bytes:
        """Return the part of the body that has arrived. Stop counting the request as in flight."""
        body = b"".join(self._parts)
        self._parts.clear()
        self._batch = None
        self._arrival.on(ArrivalEvent.COLLECTED)
        self.metrics.in_flight -= 1
        return body

    def _collect(self, data: bytes) -> None:
        """Keep a part of a body, and continue once it is complete."""
        part, rest = data[: self._missing], data[self._missing :]
        self._parts.append(part)
        self._missing -= len(part)
        if self._missing > 0:
            return
        assert self._batch is not None
        head, known = self._batch
        body = self._end_collecting()
        if self._stopping:
            # uvicorn adds `connection: close` to the last reply of a connection.
            self._hand_over(head + body)
            super().shutdown()
            return
        headers = self._lane.headers(self.server_state.default_headers)
        if self.flow.write_paused or not self._add(known, body, headers):
            self._hand_over(head + body + rest)
            return
        self._open = True
        if rest:
            self._take(rest)

    def _hand_over(self, data: bytes) -> None:
        self._open = False
        super().data_received(data)

    def _log(self, path: str, method: str, status: int, nanoseconds: int) -> None:
        assert self._access_log is not None
        client = f"{self.client[0]}:{self.client[1]}" if self.client else ""
        target = quote(self.root_path) + path
        self._access_log.note(client, method, target, "1.1", status, nanoseconds)
