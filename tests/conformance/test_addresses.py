"""Paths and queries: symbols of every spelling, windows, and what is no address at all."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from support.raw_http import Reply, batch, get, post, post_float64
from support.service_process import Service

NOT_FOUND_WITH_HINT = (
    "Not Found: in a path, write a slash of a symbol as %2F, such as /stats/BTC%2FUSDT/3, "
    "or ask by query: /stats/?symbol=BTC/USDT&k=3"
)
SYMBOLS = [
    "AAPL",
    "BRK.A",
    "BTC/USDT",
    "/",
    "//",
    "../symbols",
    "..",
    "a b",
    " ",
    "a+b",
    "100%",
    "%2F",
    "%",
    "?k=1",
    "#",
    "&symbol=B",
    "a;b",
    "=",
    "\\",
    '"',
    "é",
    "\N{GREEK CAPITAL LETTER SIGMA}\N{ROCKET}",
    "\N{ROCKET}" * 128,
    "\ufffd",
    "\u2028",
    "\xa0",
    "null",
    "1",
    "stats",
]


def path_of(symbol: str) -> str:
    return quote(symbol, safe="")


def lower_hex(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_symbol_in_every_form_of_address(service: Service, symbol: str) -> None:
    assert service.add(batch("other", [7.0])).status == 201
    assert service.add(batch(symbol, [1.0, 2.0, 4.5])).status == 201
    encoded = path_of(symbol)
    everywhere = "".join(f"%{byte:02X}" for byte in symbol.encode())
    expected = service.get(f"/stats/{encoded}/2")
    assert (expected["symbol"], expected["k"], expected["window"]) == (symbol, 2, 100)
    assert (expected["min"], expected["max"], expected["last"]) == (1.0, 4.5, 4.5)
    for target in (
        f"/stats/{lower_hex(encoded)}/2",
        f"/stats/{everywhere}/2",
        f"/stats/{encoded}/%32",
        f"/stats/{encoded}?k=2",
        f"/stats/?symbol={encoded}&k=2",
        f"/stats?symbol={encoded}&k=2",
        f"/stats/?k=2&symbol={encoded}",
        f"/stats/?symbol={lower_hex(encoded)}&k=2",
        f"/stats/?symbol={quote_plus(symbol)}&k=2",
        f"/stats/?symbol={everywhere}&k=%32",
        f"/stats/?%73ymbol={encoded}&%6B=2",
        f"http://test/stats/{encoded}/2",
        f"http://elsewhere:1/stats/?symbol={encoded}&k=2",
    ):
        assert service.get(target) == expected, target
    (window,) = [w for w in service.get(f"/stats/{encoded}")["stats"] if w["k"] == 2]
    assert window.items() <= expected.items()
    assert service.get(f"/stats/?symbol={encoded}") == service.get(f"/stats/{encoded}")
    last = service.get(f"/stats/{encoded}?last=2")
    assert (last["symbol"], last["k"], last["window"], last["min"]) == (symbol, None, 2, 2.0)
    assert service.get(f"/stats/?symbol={encoded}&last=2") == last
    assert service.get(f"/stats/?last=2&symbol={encoded}") == last
    delete = get(f"/symbols/{encoded}", method="DELETE")
    assert service.ask(delete).json() == {
        "status": "success",
        "message": f"Deleted symbol: {symbol}",
    }
    for request in (delete, get(f"/stats/{encoded}/2"), get(f"/stats/?symbol={encoded}&k=2")):
        reply = service.ask(request)
        assert (reply.status, reply.json()) == (404, {"detail": f"Symbol {symbol} not found"})
    assert [entry["symbol"] for entry in service.get("/symbols")["symbols"]] == ["other"]


def answer(service: Service, target: str) -> tuple[int, Any]:
    """The status of a target and what is said, on a connection that must stay usable."""
    with service.connect() as connection:
        reply: Reply = connection.ask(get(target))
        assert connection.is_usable()
        return reply.status, reply.json()["detail"]


@pytest.mark.parametrize(
    ("target", "symbol"),
    [
        ("/stats/%zz/1", "%zz"),
        ("/stats/%/1", "%"),
        ("/stats/%4/1", "%4"),
        ("/stats/%252F/1", "%2F"),
        ("/stats/%EF%BF%BD/1", "\ufffd"),
        ("/stats/a+b/1", "a+b"),
        ("/stats/a&b/1", "a&b"),
        ("/stats/./1", "."),
        ("/stats/?symbol=a+b&k=1", "a b"),
        ("/stats/?symbol=a%2Bb&k=1", "a+b"),
        ("/stats/?symbol=%zz&k=1", "%zz"),
        ("/stats/?symbol=%FF&k=1", "\ufffd"),
        ("/stats/?symbol=a=b&k=1", "a=b"),
        ("/stats/?symbol=a;k=2&k=1", "a;k=2"),
        ("/stats/?symbol=A/1&k=1", "A/1"),
        ("/stats/aapl/1", "aapl"),
        ("/stats/AAPL%2F0/1", "AAPL/0"),
    ],
)
def test_symbol_that_is_not_there(service: Service, target: str, symbol: str) -> None:
    service.add(batch("AAPL", [1.0]))
    assert answer(service, target) == (404, f"Symbol {symbol} not found")


@pytest.mark.parametrize(
    ("target", "place", "message"),
    [
        ("/stats/A%00/1", "path", "without control characters, got U+0000 - at `symbol[1]`"),
        ("/stats/%0A/1", "path", "without control characters, got U+000A - at `symbol[0]`"),
        ("/stats/%C2%80/1", "path", "without control characters, got U+0080 - at `symbol[0]`"),
        ("/stats/A%00", "path", "without control characters, got U+0000 - at `symbol[1]`"),
        (
            "/stats/?symbol=%7F&k=1",
            "query",
            "without control characters, got U+007F - at `symbol[0]`",
        ),
        ("/stats/?symbol=&k=1", "query", "of 1 to 128 characters, got 0 - at `symbol`"),
        ("/stats/?symbol=", "query", "of 1 to 128 characters, got 0 - at `symbol`"),
        ("/stats/" + "A" * 129 + "/1", "path", "of 1 to 128 characters, got 129 - at `symbol`"),
        (
            "/stats/?symbol=" + "A" * 9000 + "&k=1",
            "query",
            "of 1 to 128 characters, got 9000 - at `symbol`",
        ),
    ],
)
def test_symbol_that_cannot_be(service: Service, target: str, place: str, message: str) -> None:
    status, detail = answer(service, target)
    assert status == 422
    assert detail == [
        {
            "type": "invalid_symbol",
            "loc": [place, "symbol"],
            "msg": f"Expected a symbol {message}",
            "input": None,
        }
    ]


KNOWN_KEYS = {
    "/stats/A": ["k", "last"],
    "/stats/": ["symbol", "k", "last"],
    "/stats": ["symbol", "k", "last"],
    "/stats/A/1": [],
    "/verify/A/1": [],
    "/symbols": [],
    "/values/A": ["last", "format"],
}


@pytest.mark.parametrize("path", KNOWN_KEYS)
@pytest.mark.parametrize("key", ["lst", "symbl", "K", "_", "", "api_key", "from_sequence"])
def test_a_query_has_no_key_that_the_route_does_not_know(
    service: Service, path: str, key: str
) -> None:
    service.add(batch("A", [1.0]))
    known = " or ".join(f"`{name}`" for name in KNOWN_KEYS[path])
    expected = f"no query key but {known}" if known else "no query"
    first = KNOWN_KEYS[path][:1]
    for query in (f"{key}=1", "&".join([*(f"{name}=1" for name in first), f"{key}=1"])):
        status, detail = answer(service, f"{path}?{query}")
        assert (status, detail) == (
            422,
            [
                {
                    "type": "query_key_unknown",
                    "loc": ["query", key],
                    "msg": f"Expected {expected}, got `{key}`",
                    "input": None,
                }
            ],
        )


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/stats/?symbol=A&symbol=B&k=1", "symbol"),
        ("/stats/?symbol=A&k=1&k=1", "k"),
        ("/stats/?symbol=A&k=1&%6b=1", "k"),
        ("/stats/A?last=1&last=1", "last"),
        ("/values/A?last=1&last=", "last"),
        ("/values/A?format=csv&format=json", "format"),
    ],
)
def test_a_query_has_no_key_twice(service: Service, target: str, key: str) -> None:
    service.add(batch("A", [1.0]))
    status, detail = answer(service, target)
    assert status == 422
    message = f"Expected `{key}` once, got it 2 times"
    assert detail == [
        {"type": "query_key_twice", "loc": ["query", key], "msg": message, "input": None}
    ]


def test_many_keys_and_long_ones_make_no_long_reply(service: Service) -> None:
    for query in ("&".join(f"x{number}" for number in range(1000)), "x" * 9000):
        reply = service.ask(get(f"/stats/?{query}"))
        assert reply.status == 422
        assert len(reply.body) < 2000


def test_a_query_that_is_empty_is_none(service: Service) -> None:
    service.add(batch("A", [1.0]))
    for path in KNOWN_KEYS:
        assert service.ask(get(f"{path}?")).status == 200
        assert service.ask(get(f"{path}?&")).status == 200


def test_probes_and_pages_are_answered_whatever_the_query(service: Service) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/", "/docs", "/openapi.json"):
        assert service.ask(get(f"{path}?x=1")).status == 200


@pytest.mark.parametrize(
    "name", ["%FF", "%C3", "A%80", "%ED%A0%80", "%C0%AF", "%F5%80%80%80", "%2F%FF", "%EF%BF%BD%FF"]
)
def test_a_name_that_is_not_utf8_is_no_symbol(service: Service, name: str) -> None:
    """Servers decode such paths with U+FFFD, which is a symbol of its own."""
    for symbol in ("\ufffd", "A\ufffd", "\ufffd" * 3, "/\ufffd"):
        service.add(batch(symbol, [1.0]))
    for request in (
        *(get(f"/stats/{name}/1"), get(f"/stats/{name}"), get(f"/verify/{name}/1")),
        *(get(f"/values/{name}"), get(f"/symbols/{name}", method="DELETE")),
        *(post_float64(name, [1.0]), post(b"[1.0]", target=f"/add_batch/{name}")),
        get(f"/stats/{name}/1/events"),
    ):
        for _ in range(2):
            reply = service.ask(request)
            (error,) = reply.json()["detail"]
            assert (reply.status, error["type"]) == (422, "invalid_symbol"), request
            assert error["loc"] == ["path", "symbol"]
            assert error["msg"] == "Expected UTF-8 behind `%` - at `symbol`"
    for entry in service.get("/symbols")["symbols"]:
        assert entry["sequence"] == 1


def test_only_one_slash_parts_symbol_and_exponent(service: Service) -> None:
    for symbol in ("A", "A/1", "A/1/2"):
        service.add(batch(symbol, [1.0]))
    assert service.get("/stats/A/1")["symbol"] == "A"
    assert service.get("/stats/A%2F1/1")["symbol"] == "A/1"
    assert service.get("/stats/A%2F1%2F2/1")["symbol"] == "A/1/2"
    assert service.get("/stats/A%2F1")["symbol"] == "A/1"
    assert answer(service, "/stats/A/1/2") == (404, NOT_FOUND_WITH_HINT)


def test_a_fragment_is_no_part_of_an_address(service: Service) -> None:
    service.add(batch("A", [1.0]))
    service.add(batch("A#b", [2.0]))
    assert service.get("/stats/A/1#k")["k"] == 1
    assert service.get("/stats/A#b/1") == service.get("/stats/A")
    assert service.get("/stats/?symbol=A&k=1#2") == service.get("/stats/A/1")
    assert service.get("/stats/?symbol=A#b&k=1") == service.get("/stats/A")


@pytest.mark.parametrize("k", [0, -1, 6, 9, 10, 99, 999999999, 10**30, -(10**30)])
def test_exponent_out_of_range(service: Service, k: int) -> None:
    service.add(batch("A", [1.0]))
    for target in (f"/stats/A/{k}", f"/stats/?symbol=A&k={k}", f"/stats/A?k={k}", f"/stats/?k={k}"):
        assert answer(service, target) == (
            422,
            f"Window size exponent (k={k}) must be between 1 and 5",
        )


@pytest.mark.parametrize("last", [0, -1, 100_001, 10**8, 10**30])
def test_length_out_of_range(service: Service, last: int) -> None:
    service.add(batch("A", [1.0]))
    for target in (f"/stats/A?last={last}", f"/stats/?symbol=A&last={last}"):
        assert answer(service, target) == (
            422,
            f"Window size (last={last}) must be between 1 and 100000",
        )


@pytest.mark.parametrize(
    "text", ["abc", "", "1.5", "1.0", "1e1", "0x1", "one", "%31%2F", "NaN", "1;2"]
)
def test_window_that_is_no_number(service: Service, text: str) -> None:
    service.add(batch("A", [1.0]))
    targets = {
        f"/stats/A?k={text}": ["query", "k"],
        f"/stats/?symbol=A&k={text}": ["query", "k"],
        f"/stats/A?last={text}": ["query", "last"],
        f"/stats/?k={text}": ["query", "k"],
        f"/values/A?last={text}": ["query", "last"],
        f"/stats/A/1/events?interval={text}": ["query", "interval"],
    }
    if text:
        targets[f"/stats/A/{text}"] = ["path", "k"]
        targets[f"/verify/A/{text}"] = ["path", "k"]
        targets[f"/stats/A/{text}/events"] = ["path", "k"]
    for target, place in targets.items():
        status, detail = answer(service, target)
        assert status == 422, target
        assert [error["loc"] for error in detail] == [place]
        assert detail[0]["type"] in ("int_parsing", "int_from_float")


def test_a_number_of_5000_digits(service: Service) -> None:
    service.add(batch("A", [1.0]))
    for target in ("/stats/A/{}", "/stats/A?last={}", "/stats/?k={}"):
        status, detail = answer(service, target.format("9" * 5000))
        assert (status, detail[0]["type"]) == (422, "int_parsing_size")
        assert len(detail[0]["input"]) < 100


@pytest.mark.parametrize("k", ["01", "+3", "%20%33", "0003"])
def test_other_spellings_of_an_exponent_mean_the_same_or_nothing(service: Service, k: str) -> None:
    service.add(batch("A", [1.0]))
    for target in (f"/stats/A/{k}", f"/stats/?symbol=A&k={k}"):
        reply = service.ask(get(target))
        assert reply.status in (200, 422)
        if reply.status == 200:
            assert reply.json()["window"] == 10 ** reply.json()["k"]


def test_combinations_of_a_query(service: Service) -> None:
    service.add(batch("A", [1.0, 2.0]))
    service.add(batch("B", [3.0]))
    assert answer(service, "/stats/A?k=1&last=2") == (
        422,
        "Expected either k or last, got both (k=1, last=2)",
    )
    assert answer(service, "/stats/?last=2") == (
        422,
        "Expected a symbol together with last=2, got none",
    )
    both = service.get("/stats/?k=1")["symbols"]
    assert [(entry["symbol"], len(entry["stats"])) for entry in both] == [("A", 1), ("B", 1)]
    everything = service.get("/stats/")
    assert service.get("/stats") == everything
    assert [len(entry["stats"]) for entry in everything["symbols"]] == [5, 5]
    assert service.get("/stats/?") == everything
    assert service.get("/stats/?&symbol=A&&k=1&") == service.get("/stats/A/1")
    assert service.get("/stats/A/1?") == service.get("/stats/A/1")


@pytest.mark.parametrize("target", ["/nope", "/stats//1", "/Stats/A/1", "//stats/A/1", "/verify/A"])
def test_no_such_path(service: Service, target: str) -> None:
    service.add(batch("A", [1.0]))
    assert answer(service, target) == (404, "Not Found")


@pytest.mark.parametrize(
    "target",
    [
        "/stats/BTC/USDT/3",
        "/stats/BTC/USDT/3/events",
        "/verify/BTC/USDT/3",
        "/values/BTC/USDT?last=2",
        "/symbols/BTC/USDT",
        "/add_batch/BTC/USDT",
    ],
)
def test_a_slash_of_a_symbol_that_is_not_encoded(service: Service, target: str) -> None:
    service.add(batch("BTC/USDT", [7.0]))
    assert answer(service, target) == (404, NOT_FOUND_WITH_HINT)
    assert service.get("/stats/BTC%2FUSDT/3")["last"] == 7.0
    assert service.get("/stats/?symbol=BTC/USDT&k=3")["last"] == 7.0


@pytest.mark.parametrize(
    "target",
    [
        *("/livez", "/readyz", "/stats/A/1", "/stats/?symbol=A&last=2", "/stats/A", "/stats/"),
        *("/values/A", "/values/A?format=csv", "/values/A?format=float64", "/symbols"),
        *("/verify/A/1", "/", "/static/page.js", "/openapi.json", "/asyncapi.yaml", "/docs"),
        *("/stats/X/1", "/stats/A/9", "/nope", "/stats/A/1?x=1"),
    ],
)
def test_head_is_get_without_a_body(service: Service, target: str) -> None:
    service.add(batch("A", [1.0, 2.0]))
    with service.connect() as connection:
        got = connection.ask(get(target))
        reply = connection.ask(get(target, method="HEAD"), method="HEAD")
        assert reply.status == got.status
        assert reply.headers | {"date": ""} == got.headers | {"date": ""}
        assert connection.ask(get("/livez")).status == 200, "no body was sent"
        assert connection.is_usable()


def test_head_of_endless_replies_ends(service: Service) -> None:
    service.add(batch("A", [1.0]))
    with service.connect() as connection:
        for _ in range(3):
            target = "/stats/A/1/events"
            reply = connection.ask(get(target, method="HEAD"), method="HEAD")
            assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
        assert connection.ask(get("/livez")).status == 200


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "DELETE"])
@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/add_batch/", "POST"),
        ("/stats/A/1", "GET"),
        ("/stats/?symbol=A&k=1", "GET"),
        ("/stats/A", "GET"),
        ("/symbols", "GET"),
        ("/symbols/A", "DELETE"),
    ],
)
def test_other_methods(service: Service, method: str, target: str, allowed: str) -> None:
    if allowed in (method, {"HEAD": "GET"}.get(method)):
        return
    service.add(batch("A", [1.0]))
    with service.connect() as connection:
        reply = connection.ask(get(target, method=method), method=method)
        assert reply.status == 405
        assert reply.headers["allow"] == allowed
        if method != "HEAD":
            assert reply.json() == {"detail": "Method Not Allowed"}
        assert connection.is_usable()
    assert service.get("/stats/A/1")["sequence"] == 1


def test_a_slash_too_many_is_led_back(service: Service) -> None:
    service.add(batch("A", [1.0]))
    for target in ("/stats/A/1", "/stats/A", "/symbols", "/livez"):
        reply = service.ask(get(f"{target}/"))
        assert (reply.status, reply.headers["location"]) == (307, f"http://test{target}")


def test_a_slash_too_many_behind_an_encoded_one(service: Service) -> None:
    service.add(batch("A/B", [1.0]))
    assert service.get("/stats/A%2FB/1/") == service.get("/stats/A%2FB/1")
    assert service.get("/stats/A%2fB/") == service.get("/stats/A%2FB")


def test_the_bare_address_leads_to_the_documentation(service: Service) -> None:
    reply = service.ask(get("/"))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'<a href="docs">' in reply.body
