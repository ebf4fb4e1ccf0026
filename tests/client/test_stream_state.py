"""What is new in a stream, and what to send: by tables and by Hypothesis, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import financial_data_service as fds
from financial_data_service.client import Update, stream_name
from financial_data_service.client.stream_state import StreamState, closing_error
from support.scripted_streams import gone, told


class TestNews:
    def state(self, *streams: str) -> StreamState:
        return StreamState(streams or ("stats.A.3",), "ws://model/stream")

    def test_a_snapshot_that_repeats_what_is_known_is_no_news(self) -> None:
        state = self.state()
        sequences = []
        for message in [
            '{"result":null,"id":1}',
            told(5, "snapshot"),
            told(6),
            told(6, "snapshot"),  # a new connection
            told(7, "snapshot"),  # and once more
            told(7),
        ]:
            update = state.receive(message).update
            sequences += [update.sequence] if update else []
        assert sequences == [5, 6, 7]

    def test_an_update_is_the_statistics_and_where_they_come_from(self) -> None:
        update = self.state().receive(told(5, "snapshot")).update
        assert update == Update("A", 3, 1000, 1.5, 1.5, 1.5, 1.5, 0.0, 5, 5, "stats.A.3", True)
        assert isinstance(update, fds.client.Stats)

    def test_windows_and_symbols_are_apart(self) -> None:
        state = self.state()
        messages = [told(5, symbol=symbol, k=k) for symbol in "AB" for k in (1, 2)]
        assert all(state.receive(message).update for message in messages)
        assert not any(state.receive(message).update for message in messages)

    def test_a_deletion_is_told_once_and_what_comes_then_is_new(self) -> None:
        state = self.state()
        state.receive(told(5))
        state.receive(told(5, k=2))
        assert state.receive(gone()).deleted == "A"
        assert state.receive(gone(k=2)).deleted is None
        assert state.receive(told(1, "snapshot")) == (state_update(1), None)

    def test_a_symbol_that_began_anew_unseen_was_deleted(self) -> None:
        state = self.state()
        state.receive(told(5))
        assert state.receive(told(3, "snapshot")) == (state_update(3), "A")

    @given(
        st.lists(
            st.tuples(st.sampled_from("AB"), st.integers(1, 2), st.integers(0, 5), st.booleans())
        )
    )
    def test_sequences_only_grow_until_a_deletion_is_told(
        self, messages: list[tuple[str, int, int, bool]]
    ) -> None:
        state = self.state()
        seen: dict[tuple[str, int], int] = {}
        for symbol, k, sequence, is_deletion in messages:
            news = state.receive(gone(symbol, k) if is_deletion else told(sequence, "", symbol, k))
            assert not news.update
            news = state.receive(told(sequence, "update", symbol, k))
            if is_deletion or news.deleted:
                seen = {key: value for key, value in seen.items() if key[0] != symbol}
            if news.update:
                assert news.update.sequence > seen.get((symbol, k), -1)
                seen[symbol, k] = news.update.sequence
            assert seen[symbol, k] == sequence  # Nothing is kept back either.

    def test_commands(self) -> None:
        state = self.state("stats.A.3", "stats.*.8@0ms", "stats.A.3")
        assert [json.loads(command) for command in state.opening()] == [
            {"method": "SUBSCRIBE", "params": ["stats.A.3", "stats.*.8@0ms"], "id": 1}
        ]
        assert json.loads(*state.subscribe(["stats.A.3", "stats.B.1"]))["params"] == ["stats.B.1"]
        assert json.loads(*state.unsubscribe(["stats.A.3", "stats.C.1"]))["params"] == ["stats.A.3"]
        assert state.streams == ["stats.*.8@0ms", "stats.B.1"]
        assert state.unsubscribe(["stats.C.1"]) == []

    def test_an_interval_is_no_part_of_a_stream(self) -> None:
        state = self.state("stats.A.3@500ms", "stats.A.3@0ms")
        assert state.streams == ["stats.A.3@0ms"]
        assert state.subscribe(["stats.A.3@0ms"]) == []
        command = json.loads(*state.subscribe(["stats.A.3", "stats.A.3@500ms"]))
        assert (command["method"], command["params"]) == ("SUBSCRIBE", ["stats.A.3@500ms"])
        assert state.streams == ["stats.A.3@500ms"]
        command = json.loads(*state.unsubscribe(["stats.A.3", "stats.A.3@0ms"]))
        assert (command["method"], command["params"]) == ("UNSUBSCRIBE", ["stats.A.3@500ms"])
        assert state.streams == []

    def test_a_symbol_is_the_same_however_it_is_encoded(self) -> None:
        state = self.state("stats.BRK%2eA.3@0ms", "stats.*.3", "stats.%2A.3")
        state.receive(told(5, symbol="BRK.A"))
        assert state.subscribe(["stats.%42RK%2EA.3"])
        assert state.unsubscribe(["stats.BRK%2EA.3"])
        assert state.receive(told(5, symbol="BRK.A")).update
        assert state.streams == ["stats.*.3", "stats.%2A.3"]

    def test_what_is_subscribed_to_again_begins_with_its_snapshot(self) -> None:
        state = self.state("stats.A.3@0ms", "stats.*.2")
        state.receive(told(5))
        state.receive(told(5, k=2))
        state.unsubscribe(["stats.A.3@0ms"])
        assert state.receive(told(5, "snapshot")).update
        assert not state.receive(told(5, "snapshot", k=2)).update

    def test_many_streams_are_subscribed_to_in_several_messages(self) -> None:
        names = [f"stats.{'%2E' * 128}{index}.3" for index in range(150)]
        commands = self.state(*names).opening()
        assert max(map(len, commands)) < 65_536
        assert [name for command in commands for name in json.loads(command)["params"]] == names

    @pytest.mark.parametrize("message", ["", "[]", "hello", b"\xff", '{"sequence":"x"}'])
    def test_what_is_no_message_of_the_service(self, message: str | bytes) -> None:
        with pytest.raises(fds.ServiceError, match="not one of a financial-data-service"):
            self.state().receive(message)

    @pytest.mark.parametrize(
        ("code", "is_final"),
        [
            *((code, False) for code in (1000, 1001, 1006, 1011, 1012, 1013, 4429, 4503)),
            *((code, True) for code in (1003, 1007, 1008, 1009, 4401, 4409, 4422)),
        ],
    )
    def test_close_codes(self, code: int, is_final: bool) -> None:
        assert (closing_error(code, "why", "ws://model") is not None) == is_final

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            (("AAPL", 3), "stats.AAPL.3"),
            (("BRK.A", 3, 0), "stats.BRK%2EA.3@0ms"),
            (("a@b*%", 1, 250), "stats.a%40b%2A%25.1@250ms"),
            ((None, 8), "stats.*.8"),
        ],
    )
    def test_names(self, arguments: Any, name: str) -> None:
        assert stream_name(*arguments) == name


def state_update(sequence: int) -> Update:
    return Update(
        "A", 3, 1000, 1.5, 1.5, 1.5, 1.5, 0.0, sequence, sequence, "stats.A.3", sequence < 5
    )
