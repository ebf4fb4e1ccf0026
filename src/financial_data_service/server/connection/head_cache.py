"""Requests that are known by the bytes of their heads, and the replies to them.

Clients send the same head again and again: same request line, same headers. The first time, a head
is parsed (by the parser that uvicorn uses) and classified: which route would take it, with which
arguments? The decision is stored in a dictionary under the bytes of the head. From then on a head
costs one look-up. A ``GET`` consists of its head. A ``POST`` continues with a body of the declared
length: JSON, read by :mod:`~financial_data_service.server.formats.json_batch`, or the prices as
float64, whose symbol and ``from_sequence`` are in the head.

The reply to a ``GET`` depends on the symbol, the window and the symbol's sequence. It is cached
with the decision and sent again until the sequence, or the second in its ``date`` header, changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, unquote

from financial_data_service.engine.running_stats import RunningStats
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import FdsError, InvalidSymbolError
from financial_data_service.server.api import replies
from financial_data_service.server.api.body import is_json
from financial_data_service.server.connection.request_head import RequestHead, parse_head
from financial_data_service.server.formats.float64_batch import FLOAT64_BYTES, float64_prices
from financial_data_service.server.formats.json_batch import PlainBatch, plain_reader
from financial_data_service.server.middleware.api_key import ApiKey
from financial_data_service.server.middleware.proxy_prefix import ProxyPrefix
from financial_data_service.server.telemetry.counter_row import FastCounter
from financial_data_service.server.telemetry.logs import AccessLog
from financial_data_service.settings import Settings
from financial_data_service.symbols import check_symbol

__all__ = ["CachedReply", "FastLane", "KnownBatch", "SampledQuery"]

KNOWN_HEADS_MAX = 4096
"""Maximum number of heads kept.

A new head (for example with another trace id or another body length) must be classified, which
takes a few microseconds. When the dictionary is full, it is emptied.
"""

KNOWN_HEAD_BYTES_MAX = 2048  # so that the known heads take 8 MiB at most

# Other spellings of a number are left to the validating path, and so is what does not fit 63 bits.
_FROM_SEQUENCE = re.compile(rb"from_sequence=(0|[1-9][0-9]{0,17})")


class CachedReply:
    """A head that asks for one window of one symbol, and the last reply to it.

    Attributes
    ----------
    answers : list of None
        A list with one None for each answer since the last flush. Its length is the count.
        Appending to it is the only cost of the metrics per request: 2 % of the time of a query.
        ``count += 1`` would take 6 %, because it creates a new integer. A flush comes ten times a
        second, so the list takes 80 KB at 100,000 queries a second.
    """

    __slots__ = (
        *("_headers", "_reply", "_running_stats", "_sequence", "_unmeasured"),
        *("answers", "k", "path", "symbol", "counter"),
    )

    def __init__(self, symbol: str, k: int, path: str, counter: FastCounter) -> None:
        self.symbol = symbol
        self.k = k
        self.path = path
        self.counter = counter
        self.answers: list[None] = []
        self._unmeasured = 0  # counted since the last one whose time was measured
        self._running_stats: RunningStats | None = None
        self._sequence = -1
        self._headers = b""
        self._reply = b""

    def reply(self, manager: SymbolManager, headers: bytes) -> bytes | None:
        """Return the current reply, or None when the framework has to answer with an error.

        Parameters
        ----------
        manager : SymbolManager
            The symbols.
        headers : bytes
            The headers that all replies in this second begin with. Each second has a new object.
        """
        try:
            running_stats = manager.get(self.symbol)
        except FdsError:
            return None
        if running_stats is None:
            return None
        sequence = running_stats.sequence
        if (
            sequence != self._sequence
            or headers is not self._headers
            or running_stats is not self._running_stats
        ):
            answer = running_stats.stats(self.k)
            if answer.sequence < 0:  # Another process has just deleted the symbol.
                return None
            body = replies.stats(self.symbol, self.k, answer)
            self._reply = _response(b"200 OK", headers, body)
            self._sequence = answer.sequence
            self._headers = headers
            self._running_stats = running_stats
        return self._reply

    def flush(self) -> bool:
        """Add the answers since the last flush to the metrics; return whether there were any."""
        since = len(self.answers)
        self.answers.clear()
        self._unmeasured += since
        self.counter.count(since)
        return since > 0

    def measured(self, nanoseconds: int) -> None:
        """Add the time of one answer, weighted by the answers since the one measured before."""
        self.flush()
        self.counter.measured(nanoseconds, self._unmeasured)
        self._unmeasured = 0


class SampledQuery:
    """A known query whose next request is measured.

    It replaces the query in the dictionary until the measured request. So other requests need no
    check of whether they are measured.
    """

    __slots__ = ("query",)

    def __init__(self, query: CachedReply) -> None:
        self.query = query


class KnownBatch:
    """The head of a batch, with the length of its body.

    The body is float64 if the head names a symbol, and JSON otherwise.
    """

    __slots__ = ("body_bytes", "counters", "from_sequence", "path", "symbol")

    def __init__(
        self,
        body_bytes: int,
        path: str,
        counters: dict[int, FastCounter],
        symbol: str | None = None,
        from_sequence: int | None = None,
    ) -> None:
        self.body_bytes = body_bytes
        self.path = path
        self.counters = counters  # by status
        self.symbol = symbol
        self.from_sequence = from_sequence


class FastLane:
    """What the connections of a server share: the known heads, the JSON reader, the symbols.

    Parameters
    ----------
    manager : SymbolManager
        The symbols.
    settings : Settings
        Limits, API key and access log are read here.
    counter_of : callable
        Returns the counter of a method, a route and a status.
    """

    def __init__(
        self,
        manager: SymbolManager,
        settings: Settings,
        counter_of: Callable[[str, str, int], FastCounter] = lambda *_: FastCounter.unread(),
    ) -> None:
        self.manager = manager
        self.access_log = AccessLog() if settings.access_log else None
        self._counter_of = counter_of
        self._api_key = None if settings.api_key is None else ApiKey(settings.api_key)
        self._unusual = _unusual_headers(settings)
        self._prefix = ProxyPrefix(settings.root_path)
        self._body_bytes_max = settings.body_max_bytes
        self._batch_max = manager.batch_max
        self._k_max = manager.k_max
        self._read_batch = plain_reader()
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._headers = b""
        self.known: dict[bytes, CachedReply | SampledQuery | KnownBatch | None] = {}

    def headers(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Return uvicorn's default headers as bytes. uvicorn makes a new list every second."""
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self._headers = b"".join(b"%b: %b\r\n" % header for header in default_headers)
        return self._headers

    def flush(self) -> None:
        """Add the answers since the last flush to the metrics; measure the next of each query.

        O(n) in the known heads: some 50 ns each.
        """
        for head, known in list(self.known.items()):
            if type(known) is CachedReply and known.flush():
                self.known[head] = SampledQuery(known)
            elif type(known) is SampledQuery:
                known.query.flush()

    def classify(self, head: bytes) -> CachedReply | SampledQuery | KnownBatch | None:
        """Classify a head, and cache the result. None means that the slow lane answers.

        Where an API key is set, a head with the right key is known by its bytes like any other; a
        head without it is classified each time. The time of the look-up reveals nothing about the
        key. A dictionary compares the bytes only if their 64-bit hashes are equal, and the hash has
        a random seed. So a partly correct guess takes as long as any other wrong guess.
        """
        if len(head) > KNOWN_HEAD_BYTES_MAX:
            return None
        parsed = parse_head(head)
        if self._api_key is not None and (parsed is None or not self._has_key(parsed)):
            return None
        decision = None if parsed is None else self._decide(parsed)
        if len(self.known) >= KNOWN_HEADS_MAX:
            self.flush()
            self.known.clear()
        self.known[head] = decision
        return decision

    def _has_key(self, head: RequestHead) -> bool:
        assert self._api_key is not None
        keys = head.headers.get(b"x-api-key", ())
        return self._api_key.admits(keys, head.headers.get(b"authorization", ()))

    def add(self, known: KnownBatch, body: bytes, headers: bytes) -> tuple[int, bytes] | None:
        """Store a batch and return status and response, or None where nothing was stored."""
        batch = self._read_batch(body) if known.symbol is None else _float64_batch(known, body)
        if batch is None or not 0 < len(batch[1]) <= self._batch_max:
            return None
        try:
            receipt = self.manager.add_prices(*batch)
        except FdsError:
            return None
        status, line = (201, b"201 Created") if receipt.added else (200, b"200 OK")
        return status, _response(line, headers, replies.added(receipt))

    def _decide(self, head: RequestHead) -> CachedReply | SampledQuery | KnownBatch | None:
        if head.http_version != "1.1" or not head.keep_alive:
            return None
        if any(name in head.headers for name in self._unusual):
            return None
        path, question_mark, query = head.target.partition(b"?")
        path = self._prefix.remove(path)
        head.target = path + question_mark + query
        if head.method == b"GET" and b"content-length" not in head.headers:
            if question_mark:
                return self._query("/stats/", _asked_in_query(path, query), head.target)
            return self._query("/stats/{symbol}/{k}", _asked_in_path(path), head.target)
        if head.method == b"POST":
            if path in (b"/add_batch/", b"/add_batch"):
                return None if question_mark else self._json_batch(head)
            if path.startswith(b"/add_batch/"):
                return self._float64_batch(head, path, query if question_mark else None)
        return None

    def _query(
        self, route: str, asked: tuple[str, str] | None, target: bytes
    ) -> CachedReply | SampledQuery | None:
        if asked is None:
            return None
        symbol, exponent = asked
        # Other spellings of a number, such as "+3" or "03", are left to the validating path.
        if not (len(exponent) == 1 and "1" <= exponent <= "9" and int(exponent) <= self._k_max):
            return None
        try:
            check_symbol(symbol)
        except InvalidSymbolError:
            return None
        counter = self._counter_of("GET", route, 200)
        query = CachedReply(symbol, int(exponent), _logged(target), counter)
        # The access log has a line with the time of every request.
        return query if self.access_log is None else SampledQuery(query)

    def _json_batch(self, head: RequestHead) -> KnownBatch | None:
        content_type = head.only(b"content-type")
        body_bytes = self._body_bytes(head)
        if (
            content_type is None
            or body_bytes is None
            or not is_json(content_type.decode("latin-1"))
        ):
            return None
        return KnownBatch(body_bytes, _logged(head.target), self._fast_counters("/add_batch/"))

    def _float64_batch(
        self, head: RequestHead, path: bytes, query: bytes | None
    ) -> KnownBatch | None:
        body_bytes = self._body_bytes(head)
        if head.only(b"content-type") != b"application/octet-stream" or body_bytes is None:
            return None
        symbol = _symbol_of_batch(path)
        from_sequence = None
        if query is not None:
            match = _FROM_SEQUENCE.fullmatch(query)
            if match is None:
                return None
            from_sequence = int(match[1])
        if symbol is None or body_bytes % FLOAT64_BYTES:
            return None
        counters = self._fast_counters("/add_batch/{symbol}")
        return KnownBatch(body_bytes, _logged(head.target), counters, symbol, from_sequence)

    def _fast_counters(self, route: str) -> dict[int, FastCounter]:
        return {status: self._counter_of("POST", route, status) for status in (200, 201)}

    def _body_bytes(self, head: RequestHead) -> int | None:
        """Return the declared length of a body, if it is declared and within the limit."""
        content_length = head.only(b"content-length")
        if content_length is None or not content_length.isdigit():
            return None
        body_bytes = int(content_length)
        return body_bytes if 0 < body_bytes <= self._body_bytes_max else None


def _float64_batch(known: KnownBatch, body: bytes) -> PlainBatch | None:
    prices = float64_prices(body)
    if prices is None or known.symbol is None:
        return None
    return known.symbol, prices, known.from_sequence


def _unusual_headers(settings: Settings) -> list[bytes]:
    """Return the names of headers that make the slow lane answer a request."""
    unusual = [b"content-encoding", b"expect", b"transfer-encoding", b"upgrade", b"x-request-id"]
    if settings.access_log:
        # The log names the client behind a proxy.
        unusual += [b"x-forwarded-for", b"x-forwarded-proto"]
    if settings.cors_origins:
        unusual.append(b"origin")
    return unusual


def _response(status: bytes, headers: bytes, body: bytes) -> bytes:
    """Return status line, headers and body as uvicorn and Starlette would write them."""
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (
        status,
        headers,
        len(body),
        body,
    )


def _asked_in_path(path: bytes) -> tuple[str, str] | None:
    """Return symbol and exponent of ``/stats/{symbol}/{k}``, each segment decoded by itself."""
    segments = path.split(b"/")
    if len(segments) != 4 or segments[:2] != [b"", b"stats"] or not path.isascii():
        return None
    if b"#" in path:  # A fragment is no part of the path.
        return None
    symbol = _decoded(segments[2])
    return None if symbol is None else (symbol, segments[3].decode("ascii"))


def _symbol_of_batch(path: bytes) -> str | None:
    """Return the symbol of ``/add_batch/{symbol}``, decoded; None when no symbol has that name."""
    segments = path.split(b"/")
    if len(segments) != 3 or not path.isascii() or b"#" in path:
        return None
    symbol = _decoded(segments[2])
    if symbol is None:
        return None
    try:
        check_symbol(symbol)
    except InvalidSymbolError:
        return None
    return symbol


def _decoded(segment: bytes) -> str | None:
    """Return a segment of a path, decoded; None when it is not UTF-8."""
    try:
        return unquote(segment.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        return None


def _asked_in_query(path: bytes, query: bytes) -> tuple[str, str] | None:
    """Return symbol and exponent of ``/stats/?symbol=…&k=…``, each given once and nothing else."""
    if path not in (b"/stats/", b"/stats") or b"#" in query:
        return None
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    asked = dict(pairs)
    if len(pairs) != 2 or asked.keys() != {"symbol", "k"}:
        return None
    return asked["symbol"], asked["k"]


def _logged(target: bytes) -> str:
    """Return a target as uvicorn's access log writes it: the path decoded and quoted again."""
    path, question_mark, query = target.decode("ascii", "replace").partition("?")
    return quote(unquote(path)) + question_mark + query
