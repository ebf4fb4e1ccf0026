"""Refusals and lost connections become the error classes of this package."""

from __future__ import annotations

import pickle
import socket
from typing import Any

import httpx
import pytest

import financial_data_service as fds
from financial_data_service import Client
from support.client_calls import SYMBOLS


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (401, {"detail": "Expected an API key"}, fds.UnauthorizedError),
            (404, {"detail": "Symbol A not found"}, fds.SymbolNotFoundError),
            (422, {"detail": "Window size exponent (k=9) must be"}, fds.WindowSizeError),
            (400, {"detail": "Maximum number of symbols (10) reached"}, fds.SymbolLimitError),
            (409, {"detail": "they differ", "sequence": 7}, fds.SequenceConflictError),
            (507, {"detail": "no room"}, fds.InsufficientStorageError),
            (503, {"detail": "gone by"}, fds.ServiceUnavailableError),
            (413, {"detail": "Body too large"}, fds.ServiceError),
        ],
    )
    def test_each_status_is_its_own_error(
        self, status: int, body: dict[str, Any], kind: type[Exception]
    ) -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
        with (
            Client("http://u:secret@model/fds/", retries=0, transport=transport) as client,
            pytest.raises(kind) as info,
        ):
            client.stats("A", 3)
        error = info.value
        assert isinstance(error, fds.ServiceError)
        assert body["detail"] in error.detail
        assert error.status == status
        assert f"({status} from GET http://model/fds/stats/?symbol=A&k=3)" in str(error)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))

    def test_places_of_a_422(self) -> None:
        item = {"type": "invalid_batch", "loc": ["body", "values", 3], "msg": "too large"}
        reply = httpx.Response(422, json={"detail": [item]})
        transport = httpx.MockTransport(
            lambda request: (
                reply
                if request.method == "POST"
                else httpx.Response(200, json=SYMBOLS | {"batch_max": 10})
            )
        )
        with (
            Client("http://model", transport=transport) as client,
            pytest.raises(fds.InvalidBatchError, match=r"values\[3\]: too large") as info,
        ):
            client.add_batch("A", [1.0], from_sequence=0)
        assert info.value.index == 3

    @pytest.mark.parametrize(
        "reply",
        [
            httpx.Response(200, text="hello"),
            httpx.Response(200, json={}),
            httpx.Response(200, content=b"\xff\xfe"),
            httpx.Response(404, text=""),
            httpx.Response(404, json={"detail": "Not Found"}),
            httpx.Response(302, headers={"location": "/login"}),
            httpx.Response(500, text="oops"),
        ],
        ids=repr,
    )
    def test_another_service(self, reply: httpx.Response) -> None:
        with Client("http://model", transport=httpx.MockTransport(lambda _: reply)) as client:
            for ask in (
                client.symbols,
                lambda: client.stats("A", 1),
                lambda: client.values("A", 1),
            ):
                with pytest.raises(fds.ServiceError, match="not one of a financial-data-service"):
                    ask()

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url) as client:
            sentence = rf"^Cannot reach {url} \(.*refused\). Is the service running\?"
            with pytest.raises(fds.ServiceUnavailableError, match=sentence):
                client.symbols()
            assert not client.alive()
            assert not client.ready()
            with pytest.raises(fds.ServiceUnavailableError, match=r"not ready within 0\.3 seconds"):
                client.wait_until_ready(0.3)
