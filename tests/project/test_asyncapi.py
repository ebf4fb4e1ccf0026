"""The AsyncAPI document: it is whole, its examples are what its schemas say, and so is everything
that the service says and understands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml  # type: ignore[import-untyped]

from financial_data_service import wire
from financial_data_service.engine.symbol_manager import SymbolManager
from financial_data_service.server.api import error_replies
from financial_data_service.server.app import create_app
from financial_data_service.server.connection.websocket_protocol import (
    CUT_OFF_SECONDS,
    STALLED_SECONDS_MAX,
)
from financial_data_service.server.stream.ingest_route import Intake
from financial_data_service.server.stream.lifecycle import CloseCode
from financial_data_service.server.stream.session import Kind, StreamSession, update_message
from financial_data_service.settings import Settings
from support.in_process import InProcess
from support.paths import ROOT

DOCUMENT = ROOT / "docs" / "asyncapi.yaml"


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load(DOCUMENT.read_text())


def validate(document: Any, name: str, content: Any) -> None:
    """Validate against the payload of a message, references and all."""
    whole = document["components"]["messages"][name]["payload"] | {
        "components": document["components"]
    }
    jsonschema.Draft202012Validator(whole).validate(content)


def is_valid(document: Any, name: str, content: Any) -> bool:
    try:
        validate(document, name, content)
    except jsonschema.ValidationError:
        return False
    return True


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_it_is_served_as_it_lies_in_docs() -> None:
    with InProcess(create_app(Settings())) as client:
        reply = client.get("/asyncapi.yaml")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/yaml"
    assert reply.content == DOCUMENT.read_bytes()


def test_every_reference_leads_somewhere_and_every_message_is_used(document: Any) -> None:
    found = set(references(document))
    for reference in found:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
    for name in document["components"]["messages"]:
        assert f"#/components/messages/{name}" in found
    for channel, content in document["channels"].items():
        for name in content["messages"]:
            assert f"#/channels/{channel}/messages/{name}" in found


def test_every_example_is_what_its_schema_says(document: Any) -> None:
    for name, message in document["components"]["messages"].items():
        if name != "prices":
            assert message["examples"]
        for example in message.get("examples", []):
            validate(document, name, example["payload"])


def test_every_question_of_the_examples_is_understood(document: Any) -> None:
    for name in ("subscribe", "unsubscribe", "listSubscriptions"):
        for example in document["components"]["messages"][name]["examples"]:
            answer = StreamSession(10**8, 200, 65536).receive(json.dumps(example["payload"]))
            validate(document, "result", json.loads(answer.text))


@pytest.mark.parametrize(
    ("name", "is_fit"),
    [
        ("stats.A.3", True),
        ("stats.*.8@0ms", True),
        ("stats.A.03", False),
        ("stats.A.0", False),
        ("stats.A.9", False),
        ("stats.A.1@9999999ms", False),
    ],
)
def test_names_of_streams(document: Any, name: str, is_fit: bool) -> None:
    question = {"method": "SUBSCRIBE", "params": [name], "id": 1}
    said = json.loads(StreamSession(10**8, 1, 500).receive(json.dumps(question)).text)
    assert ("result" in said) == is_fit
    assert is_valid(document, "subscribe", question) == is_fit


@pytest.mark.parametrize(
    ("number", "is_fit"),
    [
        (-(2**63), True),
        (2**63 - 1, True),
        ("x", True),
        (None, True),
        (2**63, False),
        (1.5, False),
        ([], False),
    ],
)
def test_ids_of_questions(document: Any, number: Any, is_fit: bool) -> None:
    question = {"method": "LIST_SUBSCRIPTIONS", "id": number}
    said = json.loads(StreamSession(10**8, 1, 500).receive(json.dumps(question)).text)
    assert ("result" in said) == is_fit
    assert is_valid(document, "listSubscriptions", question) == is_fit


def test_what_the_service_says(document: Any) -> None:
    manager = SymbolManager(1, 100)
    manager.add_batch("A", [1.0, 2.0])
    for kind in (Kind.SNAPSHOT, Kind.UPDATE):
        said = json.loads(update_message("A", 2, kind, manager.stats("A", 2)))
        validate(document, "statistics", said)
    validate(document, "deleted", json.loads(update_message("A", 2, Kind.DELETED, None)))
    for message in ("x", "[]", '{"id":1}', b"", "x" * 100):
        answer = StreamSession(10**8, 1, 50).receive(message)
        validate(document, "error", json.loads(answer.text))
    for frame in (b"x", "x", b"\0" * 8):
        text, _ = Intake(manager, "A", 9).receive(frame)
        validate(document, "ingestError", json.loads(text))
    validate(document, "receipt", json.loads(Intake(manager, "A").receive(b"\0" * 8)[0]))


def test_every_close_code_is_told(document: Any) -> None:
    text = document["info"]["description"]
    ours = {value for name, value in vars(CloseCode).items() if name.isupper()}
    ours.remove(CloseCode.OF_ERROR)
    # Of the errors that a batch can meet; the others have no place on /ingest.
    ours |= {CloseCode.OF_ERROR + status for status in (400, 409, 503, 507)}
    assert {400, 409, 503, 507} <= set(error_replies._STATUS.values())
    for code in ours:
        assert f"| {code} |" in text, code


def test_times_are_those_of_the_server(document: Any) -> None:
    said = " ".join(document["channels"]["stream"]["description"].split())
    assert f"reads nothing for {STALLED_SECONDS_MAX:g} seconds is closed with 1013." in said
    assert f"within {CUT_OFF_SECONDS:g} seconds, the connection is reset" in said
    assert (
        f"| 1013 | the client read nothing for {STALLED_SECONDS_MAX:g} seconds;"
        in (document["info"]["description"])
    )


def test_limits_are_those_of_the_settings(document: Any) -> None:
    text = document["channels"]["stream"]["description"]
    settings = Settings()
    assert f"up to {settings.stream_subscriptions_max} subscriptions" in text
    assert f"a message up to {settings.stream_message_bytes_max} bytes" in text
    assert f"{wire.DEFAULT_INTERVAL_MS} ms" in text
    assert str(wire.INTERVAL_MS_MAX) in text
