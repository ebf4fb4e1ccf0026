"""The documentation: it names every status that a route can answer and no other, its examples are
what its schemas say, and its pages need nothing from elsewhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.errors import FdsError, InsufficientStorageError, SymbolFileError
from financial_data_service.server.app import create_app
from financial_data_service.server.stream.feeds import Subscriber
from financial_data_service.server.stream.hub import Hub
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.service_process import Service, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

BATCH = {"symbol": "AAPL", "values": [189.5, 189.7, 189.6]}
INVALID = "A" * 129


@pytest.fixture(scope="module")
def client() -> Iterator[InProcess]:
    with InProcess(create_app(Settings(max_symbols=1))) as client:
        yield client


@pytest.fixture(scope="module")
def document(client: InProcess) -> Any:
    return client.get("/openapi.json").json()


def answers(client: InProcess) -> Iterator[tuple[str, str, httpx.Response]]:
    """Every kind of answer of every route: path and method as in the document, and the answer."""

    def add(**options: Any) -> tuple[str, str, httpx.Response]:
        return "/add_batch/", "post", client.post("/add_batch/", **options)

    def get(path: str, target: str) -> tuple[str, str, httpx.Response]:
        return path, "get", client.get(target)

    def delete(symbol: str) -> tuple[str, str, httpx.Response]:
        return "/symbols/{symbol}", "delete", client.request("DELETE", f"/symbols/{symbol}")

    yield add(json=BATCH)
    yield add(json=BATCH | {"from_sequence": 0})
    yield add(json=BATCH | {"from_sequence": 9})
    yield add(json=BATCH | {"symbol": "B"})
    yield add(json=BATCH | {"values": []})
    yield add(json=BATCH | {"values": ["1"]})
    yield add(json={})
    yield add(content=b"{}", headers={"Content-Type": "text/plain"})
    yield add(content=b" " * 3_000_000, headers={"Content-Type": "application/json"})
    yield from bulk_answers(client)
    path = "/stats/{symbol}/{k}"
    for target in ("/stats/AAPL/1", "/stats/X/1", "/stats/AAPL/9", f"/stats/{INVALID}/1"):
        yield get(path, target)
    yield get(path, "/stats/AAPL/x")
    path = "/stats/{symbol}"
    for query in ("", "?k=2", "?last=2", "?k=9", "?last=0", "?k=1&last=1", "?k=x"):
        yield get(path, f"/stats/AAPL{query}")
    yield get(path, "/stats/X")
    yield get(path, f"/stats/{INVALID}")
    path = "/stats/"
    for query in ("", "?k=2", "?symbol=AAPL", "?symbol=AAPL&k=1", "?symbol=AAPL&last=2"):
        yield get(path, f"/stats/{query}")
    for query in ("?symbol=X", "?symbol=", "?k=0", "?last=1", "?k=x"):
        yield get(path, f"/stats/{query}")
    path = "/verify/{symbol}/{k}"
    for target in ("AAPL/1", "X/1", "AAPL/9", f"{INVALID}/1", "AAPL/x"):
        yield get(path, f"/verify/{target}")
    for path in ("/symbols", "/livez", "/readyz"):
        yield get(path, path)
    yield get("/symbols", "/symbols?symbol=AAPL")
    for media_type in ("text/plain", "application/openmetrics-text"):
        headers = {"Accept": media_type}
        yield "/metrics", "get", client.request("GET", "/metrics", headers=headers)
    yield delete("X")
    yield delete(INVALID)
    yield delete("AAPL")


def bulk_answers(client: InProcess) -> Iterator[tuple[str, str, httpx.Response]]:
    """Every kind of answer of the routes for bulk, of a service that has one symbol."""

    def add(symbol: str, body: bytes, **query: int) -> tuple[str, str, httpx.Response]:
        headers = {"Content-Type": "application/octet-stream"}
        response = client.post(f"/add_batch/{symbol}", content=body, headers=headers, params=query)
        return "/add_batch/{symbol}", "post", response

    def get(target: str, accept: str = "*/*") -> tuple[str, str, httpx.Response]:
        response = client.request("GET", f"/values/{target}", headers={"Accept": accept})
        return "/values/{symbol}", "get", response

    prices = np.array(BATCH["values"]).tobytes()
    yield add("AAPL", prices)
    yield add("AAPL", prices, from_sequence=0)
    yield add("AAPL", prices, from_sequence=9)
    yield add("AAPL", prices, from_sequence=-1)
    yield add("B", prices)
    yield add("AAPL", b"")
    yield add("AAPL", prices[:-1])
    yield add(INVALID, prices)
    yield add("AAPL", bytes(3_000_000))
    yield "/add_batch/{symbol}", "post", client.post("/add_batch/AAPL", content=b"1")
    for format_name in ("json", "csv", "float64", "arrow", "xml"):
        yield get(f"AAPL?format={format_name}")
    for target in ("AAPL", "AAPL?last=2", "AAPL?last=0", "AAPL?last=x", "X", INVALID):
        yield get(target)
    yield get("AAPL", "text/csv")
    yield get("AAPL", "text/html")


def answers_in_trouble(
    client: InProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str, httpx.Response]]:
    """The answers of a service whose disk is full, and of one that cannot use a symbol's file."""

    def raising(error: FdsError) -> Any:
        def fail(*_: object) -> None:
            raise error

        return fail

    with monkeypatch.context() as patch:
        full = InsufficientStorageError("No memory for a symbol of 1 bytes: for a test")
        patch.setattr(SymbolManager, "add_batch", raising(full))
        yield "/add_batch/", "post", client.post("/add_batch/", json=BATCH)
        yield "/add_batch/{symbol}", "post", client.post("/add_batch/AAPL", json=[1.5])
        refused = SymbolFileError("/data/AAPL.ring", "damaged, for a test")
        patch.undo()
        patch.setattr(SymbolManager, "get", raising(refused))
        patch.setattr(SymbolManager, "refused", {"AAPL.ring": refused.reason})
        yield "/add_batch/", "post", client.post("/add_batch/", json=BATCH)
        yield "/add_batch/{symbol}", "post", client.post("/add_batch/AAPL", json=[1.5])
        yield "/values/{symbol}", "get", client.get("/values/AAPL")
        for path in ("/stats/{symbol}/{k}", "/verify/{symbol}/{k}", "/stats/{symbol}"):
            yield path, "get", client.get(path.format(symbol="AAPL", k=1))
        yield "/stats/", "get", client.get("/stats/?symbol=AAPL")
        yield "/symbols/{symbol}", "delete", client.request("DELETE", "/symbols/AAPL")
        yield "/readyz", "get", client.get("/readyz")


def answers_of_events(
    client: InProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str, httpx.Response]]:
    """The answers of the route whose answer would not end: here it ends before its first event."""

    def get(target: str) -> tuple[str, str, httpx.Response]:
        return "/stats/{symbol}/{k}/events", "get", client.get(f"/stats/{target}")

    def end(_hub: Hub, subscriber: Subscriber, *_: object) -> None:
        subscriber.outbox.close(1000, "for a test")

    client.post("/add_batch/", json=BATCH)
    with monkeypatch.context() as patch:
        patch.setattr(Hub, "subscribe", end)
        yield get("AAPL/1/events")
        for target in ("X/1/events", "AAPL/9/events", "AAPL/1/events?interval=-1"):
            yield get(target)
        patch.setattr(Hub, "is_full", True)
        yield get("AAPL/1/events")


def answers_when_full(
    client: InProcess, document: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str, httpx.Response]]:
    """The answers of a service that has too many requests under way."""
    with monkeypatch.context() as patch:
        patch.setattr(client.app.state.service.metrics, "in_flight", 10**9)
        for path, operations in document["paths"].items():
            for method in operations:
                if path not in ("/livez", "/readyz", "/metrics"):
                    target = path.format(symbol="AAPL", k=1)
                    response = client.request(method.upper(), target)
                    assert response.status_code == 429
                    assert int(response.headers["retry-after"]) > 0
                    assert "Retry-After" in operations[method]["responses"]["429"]["headers"]
                    yield path, method, response


def validate(document: Any, schema: Any, content: Any) -> None:
    """Validate against a schema of the document, references and all."""
    whole = schema | {"components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(content)


def test_every_answer_is_documented_and_every_documented_answer_is_given(
    client: InProcess, document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[tuple[str, str], set[str]] = {}
    found = [
        *answers(client),
        *answers_in_trouble(client, monkeypatch),
        *answers_of_events(client, monkeypatch),
        *answers_when_full(client, document, monkeypatch),
    ]
    for path, method, response in found:
        status = str(response.status_code)
        given.setdefault((path, method), set()).add(status)
        documented = document["paths"][path][method]["responses"]
        assert status in documented, (method, path, response.text)
        content = documented[status]["content"]
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in content
        if media_type == "application/json":
            validate(document, content[media_type]["schema"], response.json())
        else:
            assert content[media_type]["schema"]["type"] == "string"
    assert given == {
        (path, method): set(operation["responses"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def media_types(document: Any) -> Iterator[tuple[str, Any]]:
    """Every body of the document, of requests and replies, and where it is."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                for media_type in operation["requestBody"]["content"].values():
                    yield f"{method} {path}", media_type
            for status, reply in operation["responses"].items():
                for media_type in reply["content"].values():
                    yield f"{method} {path} {status}", media_type


def test_examples_are_what_the_schemas_say(document: Any) -> None:
    examples = 0
    for where, media_type in media_types(document):
        shown = [example["value"] for example in media_type.get("examples", {}).values()]
        if "example" in media_type:
            shown.append(media_type["example"])
        for example in shown:
            validate(document, media_type["schema"], example)
        examples += len(shown)
        if not shown:
            assert where[-4:] in (" 200", " 201", "tch/"), f"an error without example: {where}"
    for schema in document["components"]["schemas"].values():
        if "example" in schema:
            validate(document, schema, schema["example"])
            examples += 1
        for field in schema.get("properties", {}).values():
            for example in field.get("examples", ()):
                validate(document, field, example)
                examples += 1
    body = document["paths"]["/add_batch/"]["post"]["requestBody"]["content"]["application/json"]
    validate(document, body["schema"], body["schema"]["example"])
    assert examples >= 15


def test_every_operation_and_parameter_is_described(document: Any) -> None:
    names = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            assert operation["tags"]
            names.add(operation["operationId"])
            for parameter in operation.get("parameters", ()):
                assert parameter["description"]
                assert parameter["schema"]["examples"] or parameter["examples"]
    assert names == {
        *("add_batch", "window_stats", "symbol_stats", "query_stats", "verify_window"),
        *("symbols", "delete_symbol", "livez", "readyz", "metrics", "window_events"),
        *("add_bulk_batch", "values"),
    }


def test_limits_of_the_settings_are_in_the_document() -> None:
    settings = Settings(max_symbols=3, batch_max=77, largest_window=1000, body_max_bytes=5000)
    with InProcess(create_app(settings)) as client:
        text = client.get("/openapi.json").text
    for part in (
        '"maxItems":77',
        "symbols (3) reached",
        "(k=4) must be between 1 and 3",
        "of 5000 b",
    ):
        assert part in text


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_pages_refer_to_this_service_alone(client: InProcess, page: str) -> None:
    response = client.get(page)
    assert response.status_code == 200
    references = re.findall(r"""(?:src|href|url|spec-url)\s*[=:]\s*["']([^"']+)""", response.text)
    assert len(references) >= 3
    sizes = []
    for reference in references:
        assert re.match("/[^/]", reference), reference
        asset = client.get(reference)
        assert asset.status_code == 200
        sizes.append(len(asset.content))
    assert "//" not in re.sub(r"<!--.*?-->|//\s.*", "", response.text)
    assert max(sizes) > 1_000_000, "the script of the page"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("docs")) as service:
        yield service


@needs_chromium
@pytest.mark.parametrize(
    ("page", "rendered"),
    [
        ("/docs", r'data-path="/stats/\{symbol\}/\{k\}"'),
        ("/redoc", r"<h2[^>]*>.*?Statistics of one window"),
    ],
)
def test_pages_render_without_a_network(
    service: Service, tmp_path: Path, page: str, rendered: str
) -> None:
    """In a browser for which no host exists but this one."""
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-dev-shm-usage", "--enable-logging=stderr"),
        *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=15000", "--dump-dom"),
        *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", service.url + page),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.search(rendered, run.stdout, re.DOTALL), run.stdout[:2000]
    assert "Add a batch of prices" in run.stdout
    # ReDoc would like to show a logo from its maker's servers; it is told not to fetch it.
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    refused = "violates the following Content Security Policy directive"
    assert [line for line in console if not (refused in line and "/logo-mini.svg" in line)] == []
