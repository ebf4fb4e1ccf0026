"""The protocol of `/stream` by table, without a socket: each message with its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.server.api import replies
from financial_data_service.server.stream.lifecycle import (
    CloseCode,
)
from financial_data_service.server.stream.session import (
    Action,
    Kind,
    SessionReply,
    StreamSession,
    update_message,
)
from financial_data_service.windows import WindowStats
from financial_data_service.wire import Stream, SubscribedStream
from support.stream_names import NAMES, NO_NAMES

LARGEST_WINDOW = 10**8
BYTES_MAX = 2000


def session(subscriptions_max: int = 5) -> StreamSession:
    return StreamSession(LARGEST_WINDOW, subscriptions_max, BYTES_MAX)


def ask(session: StreamSession, method: str, *params: str, number: Any = 1) -> SessionReply:
    return session.receive(json.dumps({"method": method, "params": params, "id": number}))


def listed(session: StreamSession) -> list[str]:
    answer = session.receive('{"method":"LIST_SUBSCRIPTIONS","id":0}')
    assert answer.changes == ()
    return list(json.loads(answer.text)["result"])


def test_subscriptions_come_and_go() -> None:
    s = session()
    answer = ask(s, "SUBSCRIBE", "stats.A.1", "stats.*.8@0ms")
    assert answer == SessionReply(
        '{"result":null,"id":1}',
        (
            (Action.SUBSCRIBE, SubscribedStream(Stream("A", 1), 100)),
            (Action.SUBSCRIBE, SubscribedStream(Stream(None, 8), 0)),
        ),
    )
    assert listed(s) == ["stats.A.1@100ms", "stats.*.8@0ms"]
    answer = ask(s, "UNSUBSCRIBE", "stats.*.8", number="x")
    assert answer.text == '{"result":null,"id":"x"}'
    assert answer.changes == ((Action.UNSUBSCRIBE, SubscribedStream(Stream(None, 8), 0)),)
    assert listed(s) == ["stats.A.1@100ms"]


def test_the_same_again_changes_nothing_and_another_interval_only_that() -> None:
    s = session()
    ask(s, "SUBSCRIBE", "stats.A.1")
    assert ask(s, "SUBSCRIBE", "stats.A.1", "stats.A.1@100ms").changes == ()
    changed = SubscribedStream(Stream("A", 1), 7)
    assert ask(s, "SUBSCRIBE", "stats.A.1@7ms").changes == ((Action.CHANGE_INTERVAL, changed),)
    assert listed(s) == ["stats.A.1@7ms"]
    # The interval is no part of what is left.
    assert ask(s, "UNSUBSCRIBE", "stats.A.1@9ms").changes == ((Action.UNSUBSCRIBE, changed),)
    assert listed(s) == []


def test_leaving_what_was_not_subscribed_to_is_harmless() -> None:
    s = session()
    assert ask(s, "UNSUBSCRIBE", "stats.A.1", "stats.*.1") == SessionReply('{"result":null,"id":1}')


def test_a_symbol_of_the_name_of_all_is_not_all() -> None:
    s = session()
    ask(s, "SUBSCRIBE", "stats.%2A.1", "stats.*.1")
    assert listed(s) == ["stats.%2A.1@100ms", "stats.*.1@100ms"]


def test_there_is_a_limit_of_subscriptions() -> None:
    s = session(subscriptions_max=2)
    answer = ask(s, "SUBSCRIBE", "stats.A.1", "stats.A.2", "stats.A.3")
    assert json.loads(answer.text)["error"] == {
        "code": 429,
        "msg": "Expected 2 subscriptions at most, got 3",
    }
    assert answer.changes == ()
    assert listed(s) == []
    assert len(ask(s, "SUBSCRIBE", "stats.A.1", "stats.A.2", "stats.A.1").changes) == 2
    assert "error" in ask(s, "SUBSCRIBE", "stats.A.3").text
    ask(s, "UNSUBSCRIBE", "stats.A.1")
    assert len(ask(s, "SUBSCRIBE", "stats.A.3").changes) == 1


REFUSED = [
    ("", 400, None),
    ("x", 400, None),
    ("{", 400, None),
    ("[" * 1500, 400, None),
    ('{"id":NaN}', 400, None),
    ("\ud800", 400, None),
    ("1", 400, None),
    ("null", 400, None),
    ('"SUBSCRIBE"', 400, None),
    ("[]", 400, None),
    ("{}", 422, None),
    ('{"id":1}', 422, 1),
    ('{"id":"a"}', 422, "a"),
    ('{"id":null}', 422, None),
    ('{"id":1.5,"method":"LIST_SUBSCRIPTIONS"}', 422, None),
    ('{"id":true,"method":"LIST_SUBSCRIPTIONS"}', 422, None),
    ('{"id":[],"method":"LIST_SUBSCRIPTIONS"}', 422, None),
    ('{"id":{},"method":"LIST_SUBSCRIPTIONS"}', 422, None),
    ('{"id":9223372036854775808,"method":"LIST_SUBSCRIPTIONS"}', 422, None),
    ('{"id":1,"method":"subscribe","params":["stats.A.1"]}', 422, 1),
    ('{"id":1,"method":"SET_PROPERTY","params":[]}', 422, 1),
    ('{"id":1,"method":1}', 422, 1),
    ('{"id":1,"method":["SUBSCRIBE"]}', 422, 1),
    ('{"id":1,"method":{}}', 422, 1),
    ('{"id":1,"method":"SUBSCRIBE"}', 422, 1),
    ('{"id":1,"method":"SUBSCRIBE","params":[]}', 422, 1),
    ('{"id":1,"method":"SUBSCRIBE","params":"stats.A.1"}', 422, 1),
    ('{"id":1,"method":"SUBSCRIBE","params":{"a":1}}', 422, 1),
    ('{"id":1,"method":"SUBSCRIBE","params":[1]}', 422, 1),
    ('{"id":1,"method":"SUBSCRIBE","params":[null]}', 422, 1),
    ('{"id":1,"method":"SUBSCRIBE","params":[["stats.A.1"]]}', 422, 1),
    ('{"id":1,"method":"SUBSCRIBE","params":["stats.A.1","x"]}', 422, 1),
    ('{"id":1,"method":"UNSUBSCRIBE","params":["x"]}', 422, 1),
    ('{"id":1,"method":"UNSUBSCRIBE"}', 422, 1),
]


@pytest.mark.parametrize(
    ("message", "got"),
    [
        ("null", "got null"),
        ('{"method":null}', "got null - at `method`"),
        ("{}", "got nothing - at `method`"),
        ('{"method":"SUBSCRIBE","params":null}', "got null - at `params`"),
        ('{"method":"SUBSCRIBE"}', "got nothing - at `params`"),
        ('{"method":"SUBSCRIBE","params":[null]}', "got null - at `params[0]`"),
    ],
)
def test_null_is_told_from_what_is_not_there(message: str, got: str) -> None:
    assert json.loads(session().receive(message).text)["error"]["msg"].endswith(got)


@pytest.mark.parametrize(("message", "code", "number"), REFUSED)
def test_what_is_not_understood_changes_nothing(message: str, code: int, number: Any) -> None:
    s = session()
    ask(s, "SUBSCRIBE", "stats.B.1")
    answer = s.receive(message)
    assert answer.changes == ()
    assert answer.close_code is None
    said = json.loads(answer.text)
    assert said.keys() == {"error", "id"}
    assert said["id"] == number
    assert said["error"].keys() == {"code", "msg"}
    assert said["error"]["code"] == code
    assert 0 < len(said["error"]["msg"]) < 300
    assert listed(s) == ["stats.B.1@100ms"]


def test_an_error_says_where() -> None:
    answer = ask(session(), "SUBSCRIBE", "stats.A.1", "stats.A.12")
    assert json.loads(answer.text)["error"]["msg"] == (
        "Window size exponent (k=12) must be between 1 and 8 - at `params[1]`"
    )


def test_a_binary_message_is_the_end() -> None:
    answer = session().receive(b'{"method":"LIST_SUBSCRIPTIONS","id":1}')
    assert json.loads(answer.text)["error"]["code"] == 415
    assert answer.close_code == CloseCode.UNSUPPORTED == 1003


@pytest.mark.parametrize("character", ["x", "é"])
def test_a_message_too_large_is_the_end(character: str) -> None:
    message = json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": character}, ensure_ascii=False)
    spare = BYTES_MAX - len(message.encode())
    fits = message.replace(character, character + "y" * spare)
    assert json.loads(session().receive(fits).text)["result"] == []
    answer = session().receive(fits + " ")
    assert json.loads(answer.text)["error"]["code"] == 413
    assert answer.close_code == CloseCode.TOO_LARGE == 1009


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.text()
    | st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS"])
            | JSON_VALUES,
            "params": st.lists(st.sampled_from([name for name, *_ in NAMES] + NO_NAMES))
            | JSON_VALUES,
            "id": JSON_VALUES,
        },
    ).map(json.dumps)
)
def test_whatever_comes_has_one_answer(message: str) -> None:
    s = session()
    answer = s.receive(message)
    said = json.loads(answer.text)
    assert said.keys() in ({"result", "id"}, {"error", "id"})
    if "error" in said:
        assert answer.changes == ()
        assert s.subscriptions == []


# --- What the server tells


def test_an_update_holds_what_get_stats_answers() -> None:
    answer = WindowStats(1000, 1.5, 1e300, -0.0, 0.1 + 0.2, 1e-310, 7, 99)
    stats = json.loads(replies.stats("a.b", 3, answer))
    said = json.loads(update_message("a.b", 3, Kind.UPDATE, answer))
    assert said == {"stream": "stats.a%2Eb.3", **stats, "event": "update"}
    assert json.loads(update_message("a.b", 3, Kind.SNAPSHOT, answer))["event"] == "snapshot"


def test_the_end_of_a_symbol() -> None:
    said = json.loads(update_message("A", 3, Kind.DELETED, None))
    assert said == {"stream": "stats.A.3", "symbol": "A", "event": "deleted"}
