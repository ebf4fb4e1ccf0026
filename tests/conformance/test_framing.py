"""HTTP itself: how requests are cut from the bytes of a connection, in what order they are
answered, and when the connection ends.

Where a test wants the server to see two pieces apart, it lets a request on another connection be
answered in between: the event loop has then come round.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from support.raw_http import JSON_TYPE, Connection, batch, chunk, get, post, post_chunked
from support.service_process import Service

BODY = batch("S", [1.0, 2.5])
READY = b'{"status":"ok"}'


@contextmanager
def bystander(service: Service) -> Iterator[Connection]:
    """Another connection."""
    with service.connect() as connection:
        yield connection


def come_round(connection: Connection) -> None:
    """Wait until the server has seen what was sent before on other connections."""
    for _ in range(2):
        assert connection.is_usable()


def sequence(service: Service) -> int:
    found: int = service.get("/stats/S/1")["sequence"]
    return found


def is_empty(service: Service) -> bool:
    return not service.get("/symbols")["symbols"]


# --- Keep-alive and pipelining


def test_a_connection_serves_many_requests(service: Service) -> None:
    with service.connect() as connection:
        for i in range(1, 101):
            assert connection.ask(post(BODY)).json()["sequence"] == 2 * i
            assert connection.ask(get("/stats/S/1")).json()["sequence"] == 2 * i
            assert connection.ask(get("/stats/S/9")).status == 422


def test_pipelined_requests_are_answered_in_their_order(service: Service) -> None:
    requests, expected = [], []
    for i in range(1, 51):
        requests += [
            post(BODY),
            get("/stats/S/3"),
            get("/stats/?symbol=S&k=1"),
            get("/stats/nobody/1"),
            post(b'{"symbol":"S","values":[NaN]}'),
            post_chunked([BODY[:7], BODY[7:]]),
            get("/livez"),
            get("/stats/S?last=1"),
            get("/symbols", method="PUT"),
            post(BODY, content_type="text/plain"),
        ]
        odd, even = 4 * i - 2, 4 * i
        expected += [(201, odd), (200, odd), (200, odd), (404, None), (422, None)]
        expected += [(201, even), (200, None), (200, even), (405, None), (415, None)]
    with service.connect() as connection:
        connection.send(b"".join(requests))
        answers = []
        for _ in requests:
            reply = connection.receive()
            answers.append((reply.status, reply.json().get("sequence")))
        assert answers == expected
        assert connection.is_usable()


def test_pipelined_requests_in_pieces_of_every_size(service: Service) -> None:
    stream = b"".join([post(BODY), get("/stats/S/1"), post(BODY), get("/livez"), get("/stats/S/2")])
    with bystander(service) as other:
        for size in (1, 2, 3, 7, 50, 151, 200, 333):
            service.empty()
            with service.connect() as connection:
                for begin in range(0, len(stream), size):
                    connection.send(stream[begin : begin + size])
                    if size > 20:
                        come_round(other)
                answers = [connection.receive() for _ in range(5)]
                assert [reply.status for reply in answers] == [201, 200, 201, 200, 200]
                found = [reply.json().get("sequence") for reply in answers]
                assert found == [2, 2, 4, None, 4]


@pytest.mark.parametrize(
    "request_bytes",
    [post(BODY), post_chunked([BODY[:9], BODY[9:]]), post(BODY, "Connection: close")],
    ids=["declared", "chunked", "closing"],
)
def test_a_batch_split_at_every_byte(service: Service, request_bytes: bytes) -> None:
    boundaries = range(1, len(request_bytes))
    with ExitStack() as stack, bystander(service) as other:
        connections = [stack.enter_context(service.connect()) for _ in boundaries]
        for connection, boundary in zip(connections, boundaries, strict=True):
            connection.send(request_bytes[:boundary])
        come_round(other)
        assert is_empty(service)
        for done, (connection, boundary) in enumerate(zip(connections, boundaries, strict=True)):
            connection.send(request_bytes[boundary:])
            reply = connection.receive()
            assert (reply.status, reply.json()["sequence"]) == (201, 2 * done + 2), boundary
            if b"close" in request_bytes:
                assert connection.is_closed()
    assert sequence(service) == 2 * len(boundaries)


def test_a_query_split_at_every_byte(service: Service) -> None:
    service.add(BODY)
    request = get("/stats/S/1")
    with ExitStack() as stack, bystander(service) as other:
        connections = [stack.enter_context(service.connect()) for _ in request[1:]]
        for boundary, connection in enumerate(connections, 1):
            connection.send(request[:boundary])
        come_round(other)
        for boundary, connection in enumerate(connections, 1):
            assert connection.ask(request[boundary:]).json()["sequence"] == 2
            # And the same once more, on a connection that has been through the pieces.
            assert connection.ask(request).json()["sequence"] == 2


def test_a_batch_byte_by_byte(service: Service) -> None:
    with service.connect() as connection, bystander(service) as other:
        for byte in post(BODY):
            assert is_empty(service) or byte == BODY[-1]
            connection.send(bytes([byte]))
            come_round(other)
        assert connection.receive().status == 201
        assert connection.is_usable()


def test_a_large_batch_in_many_small_pieces(service: Service) -> None:
    prices = [100 + i / 64 for i in range(10_000)]
    body = batch("S", prices)
    with service.connect() as connection, bystander(service) as other:
        request = post(body)
        for begin in range(0, len(request), 1500):
            connection.send(request[begin : begin + 1500])
            if begin % 15_000 == 0:
                come_round(other)
        assert connection.receive().json()["sequence"] == 10_000
    assert service.add(batch("S", prices, 0)).status == 200


def test_a_read_that_ends_within_the_next_request(service: Service) -> None:
    service.add(BODY)
    first, second = post(BODY), get("/stats/S/1")
    with bystander(service) as other:
        for boundary in range(1, len(second)):
            before = sequence(service)
            with service.connect() as connection:
                connection.send(first + second[:boundary])
                come_round(other)
                assert connection.receive().json()["sequence"] == before + 2
                connection.send(second[boundary:])
                assert connection.receive().json()["sequence"] == before + 2


# --- Bodies


def test_chunks_of_one_byte(service: Service) -> None:
    chunks = [BODY[i : i + 1] for i in range(len(BODY))]
    with service.connect() as connection:
        assert connection.ask(post_chunked(chunks)).status == 201
        assert connection.is_usable()


def test_chunks_with_all_that_they_may_have(service: Service) -> None:
    head = post_chunked([], "Trailer: X-Sum")[: -len(chunk(b""))]
    size = f"{len(BODY):08x}".encode()
    with service.connect() as connection:
        request = head + size + b';name="a;b"\r\n' + BODY + b"\r\n0\r\nX-Sum: 1\r\n\r\n"
        assert connection.ask(request).status == 201
        assert connection.is_usable()


def test_a_batch_without_body(service: Service) -> None:
    with service.connect() as connection:
        reply = connection.ask(get("/add_batch/", f"Content-Type: {JSON_TYPE}", method="POST"))
        assert (reply.status, reply.json()["detail"][0]["loc"]) == (422, ["body"])
        assert connection.is_usable()


def test_a_body_that_nobody_asked_for(service: Service) -> None:
    service.add(BODY)
    with service.connect() as connection:
        for target in ("/stats/S/1", "/livez", "/nope"):
            connection.send(get(target, "Content-Length: 18") + b"GET / HTTP/1.1\r\n\r\n")
            assert connection.receive().status == (404 if target == "/nope" else 200)
        assert connection.is_usable()


def test_a_refused_body_is_not_taken_for_a_request(service: Service) -> None:
    smuggled = post(BODY)
    with service.connect() as connection:
        for content_type in ("text/plain", JSON_TYPE):
            reply = connection.ask(post(smuggled, content_type=content_type))
            assert reply.status == (415 if content_type == "text/plain" else 422)
        assert connection.is_usable()
    assert is_empty(service)


@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
def test_expect_continue(service: Service, value: str) -> None:
    request = post(BODY, f"Expect: {value}")
    with service.connect() as connection:
        connection.send(request[: -len(BODY)])
        assert connection.receive().status == 100
        assert connection.ask(BODY).status == 201
        assert connection.is_usable()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(b"", "Expect: 100-continue").replace(b"gth: 0", b"gth: 100000000"), 413),
        (post(b" " * 9, "Expect: 100-continue", content_type="text/plain")[:-9], 415),
        (get("/stats/S/1", "Expect: 100-continue", "Content-Length: 9"), 404),
    ],
)
def test_expect_continue_of_what_will_be_refused(
    service: Service, request_bytes: bytes, status: int
) -> None:
    with service.connect() as connection:
        assert connection.ask(request_bytes).status == status


def test_expect_continue_when_the_body_comes_at_once(service: Service) -> None:
    with service.connect() as connection:
        connection.send(post(BODY, "Expect: 100-continue"))
        statuses = [connection.receive().status]
        if statuses == [100]:
            statuses.append(connection.receive().status)
        assert statuses[-1] == 201
        assert connection.is_usable()


# --- The end of a connection


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
def test_connection_close(service: Service, value: str) -> None:
    service.add(BODY)
    header = f"Connection: {value}"
    for request in (get("/stats/S/1", header), post(BODY, header), get("/nope", header)):
        with service.connect() as connection:
            reply = connection.ask(request)
            assert reply.headers["connection"] == "close"
            assert connection.is_closed()


def test_nothing_counts_behind_connection_close(service: Service) -> None:
    with service.connect() as connection:
        connection.send(post(BODY, "Connection: close") + post(BODY))
        assert connection.receive().json()["sequence"] == 2
        assert connection.is_closed()
    assert sequence(service) == 2


@pytest.mark.parametrize("header", [[], ["Connection: keep-alive"]], ids=["", "keep-alive"])
def test_http_1_0(service: Service, header: list[str]) -> None:
    for request in (
        post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
        get("/stats/S/1", *header, version="1.0"),
        get("/nope", *header, version="1.0"),
    ):
        with service.connect() as connection:
            reply = connection.ask(request)
            assert reply.status in (201, 200, 404)
            if "connection" in reply.headers:
                assert reply.headers["connection"] == "close"
                assert connection.is_closed()
    assert sequence(service) == 2


@pytest.mark.parametrize(
    "part",
    [
        post(BODY)[:10],
        post(BODY)[: -len(BODY)],
        post(BODY)[:-1],
        post_chunked([BODY[:9]])[: -len(chunk(b""))],
        post_chunked([BODY])[: -len(chunk(b""))],
        post_chunked([BODY])[:-1],
        post(b"").replace(b"gth: 0", b"gth: 2000000") + b" " * 1_000_000,
    ],
    ids=["head", "head alone", "body", "chunk", "last chunk", "last byte", "a megabyte"],
)
def test_a_client_that_goes_in_mid_request(service: Service, part: bytes) -> None:
    with bystander(service) as other:
        for settled in (False, True):
            with service.connect() as connection:
                connection.send(part)
                if settled:
                    come_round(other)
            come_round(other)
        assert is_empty(service)


def test_a_client_that_goes_before_it_reads(service: Service) -> None:
    for _ in range(20):
        with service.connect() as connection:
            connection.send((post(BODY) + get("/stats/S")) * 20)
    # Whatever came is there whole.
    assert service.add(batch("S", [0.0])).json()["sequence"] % 2 == 1


def test_a_client_that_has_done_sending_gets_its_replies(service: Service) -> None:
    """Half a close (``nc -N``) is the end of requests, not of interest in the replies."""
    service.add(BODY)
    for requests in ([get("/stats/S/1")], [post(BODY)], [get("/livez"), post(BODY), get("/nope")]):
        with service.connect() as connection:
            connection.send(b"".join(requests))
            connection._socket.shutdown(socket.SHUT_WR)
            statuses = [connection.receive().status for _ in requests]
            assert connection.is_closed()
        assert statuses == [
            {b"GET /sta": 200, b"POST /ad": 201, b"GET /liv": 200, b"GET /nop": 404}[request[:8]]
            for request in requests
        ]


# --- What is not HTTP


@pytest.mark.parametrize("encoding", ["identity", "gzip", "chunked\r\nX: y"])
@pytest.mark.parametrize("upgrade", [(), ("Connection: Upgrade", "Upgrade: h2c")])
def test_nothing_is_deleted_by_what_is_not_http(
    service: Service, encoding: str, upgrade: tuple[str, ...]
) -> None:
    """The end of the head starts a handler; what follows it here is no valid request."""
    service.add(BODY)
    with service.connect() as connection:
        head = get("/symbols/S", f"Transfer-Encoding: {encoding}", *upgrade, method="DELETE")
        connection.send(head + b"ZZ\r\n")
        assert connection.receive().status == 400
        assert connection.is_closed()
    assert service.get("/stats/S/1")["sequence"] == 2


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
        get("/livez", method="FOO"),
        get("/livez", method="get"),
        get("/livez", version="1.2"),
        b"GET /stats/\xc3\xa9/1 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /li vez HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: test\n\n",
        b"GET /livez HTTP/1.1\r\nHost : test\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: te\0st\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: test\r\nA: b\r\n c\r\n\r\n",
        post(BODY, "Transfer-Encoding: chunked"),
        post(BODY, f"Content-Length: {len(BODY)}"),
        post(BODY, "Content-Length: 3"),
        post(BODY).replace(b"gth: ", b"gth: +"),
        post(BODY).replace(b"gth: ", b"gth: -"),
        post(BODY).replace(b"gth: ", b"gth: 0x"),
        post(BODY).replace(b"gth: ", b"gth: 99999999999999999999"),
        post(BODY).replace(b"gth: ", b"gth: 1, "),
        post(BODY).replace(b"Content-Length: ", b"Content-Length: \r\nA: "),
        post_chunked([BODY]).replace(b"21\r\n", b"zz\r\n"),
        post_chunked([BODY]).replace(b"21\r\n", b"20\r\n"),
        post_chunked([BODY]).replace(b"chunked", b"chunked, gzip"),
    ],
)
def test_what_is_not_http_is_400_and_the_end(service: Service, garbage: bytes) -> None:
    with service.connect() as connection:
        connection.send(garbage + get("/livez"))
        reply = connection.receive()
        assert reply.status == 400
        assert reply.json() == {"detail": "Expected a valid HTTP request"}
        assert reply.headers["connection"] == "close"
        assert connection.is_closed()
    assert is_empty(service)


def test_garbage_behind_requests(service: Service) -> None:
    """Each answered batch is stored, each stored one answered; 400 comes last, then the end."""
    for count in (1, 2, 5):
        for request in (post(BODY), post_chunked([BODY])):
            service.empty()
            with service.connect() as connection:
                connection.send(request * count + b"garbage\r\n\r\n")
                statuses = [connection.receive().status]
                while statuses[-1] != 400:
                    statuses.append(connection.receive().status)
                assert connection.is_closed()
            answered = statuses.count(201)
            assert statuses == [201] * answered + [400]
            held = service.get("/symbols")["symbols"]
            assert (held[0]["sequence"] if held else 0) == 2 * answered


def test_a_refused_request_does_not_hold_up_the_next(service: Service) -> None:
    with service.connect() as connection:
        connection.send(post(b'{"symbol":"S","values":[1}') + post(BODY) + get("/stats/S/1"))
        statuses = [connection.receive().status for _ in range(3)]
        assert statuses == [422, 201, 200]


def test_empty_lines_before_a_request(service: Service) -> None:
    with service.connect() as connection:
        for request in (post(BODY), get("/stats/S/1"), get("/stats/S/1")):
            assert connection.ask(b"\r\n" + request).status in (200, 201)


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_upgrade_that_is_not_offered_is_ignored(service: Service, protocol: str) -> None:
    service.add(BODY)
    headers = ("Connection: Upgrade", f"Upgrade: {protocol}")
    for request, status in (
        (get("/stats/S/1", *headers), 200),
        (post(BODY, *headers), 201),
        (post_chunked([BODY], *headers), 201),
    ):
        with service.connect() as connection:
            assert connection.ask(request).status == status
            assert connection.ask(get("/stats/S/1")).status == 200
            assert connection.is_usable()
            # And with others behind it in the same packet, and in a packet of its own.
            connection.send(request + request + get("/stats/S/1"))
            assert [connection.receive().status for _ in range(3)] == [status, status, 200]
            connection.send(request[:-1])
            with bystander(service) as other:
                come_round(other)
            assert connection.ask(request[-1:]).status == status
    assert sequence(service) == 2 + 8 + 8


# --- Headers


def test_names_of_headers_have_no_case(service: Service) -> None:
    for spell in (str.lower, str.upper, str.title):
        head, _, body = post(BODY).decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        spelled = [f"{spell(name)}:{value}" for name, value in (li.split(":", 1) for li in lines)]
        request = "\r\n".join([first, *spelled, "", body]).encode()
        assert service.ask(request).status == 201


def test_headers_that_mean_nothing_here(service: Service) -> None:
    headers = [f"X-Header-{i}: {'v' * 40}" for i in range(50)]
    headers += ["Cookie: a=b", "Authorization: Bearer x", "Origin: http://elsewhere", "X-Empty:"]
    headers += [
        "Accept: text/html",
        "Accept-Encoding: gzip",
        'If-None-Match: "x"',
        "Range: bytes=0-1",
    ]
    with service.connect() as connection:
        assert connection.ask(post(BODY, *headers)).status == 201
        assert connection.ask(get("/stats/S/1", *headers)).json()["sequence"] == 2


def test_what_replies_say_of_themselves(service: Service) -> None:
    service.add(BODY)
    with service.connect() as connection:
        for request in (get("/stats/S/1"), post(BODY), get("/nope"), get("/stats/S")):
            reply = connection.ask(request)
            assert reply.headers.keys() == {"date", "server", "content-length", "content-type"}
            assert reply.headers["content-type"] == JSON_TYPE
