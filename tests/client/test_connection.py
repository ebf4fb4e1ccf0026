"""The options of a connection: URL, API key, timeout; what is sent, and what is never shown."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from financial_data_service import AsyncClient, Client
from financial_data_service.settings import Settings
from financial_data_service.wire import API_KEY
from support.client_calls import SYMBOLS


class TestErrors:
    @pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://a", "http://", "", "::"])
    def test_a_bad_url(self, url: str) -> None:
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match=r"Expected a URL such as http://127.0.0.1:8000"):
                kind(url)


class TestOptions:
    def seen(self, url: str = "http://model", **options: Any) -> httpx.Request:
        requests: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            return httpx.Response(200, json=SYMBOLS)

        with Client(url, transport=httpx.MockTransport(answer), **options) as client:
            client.symbols()
        return requests[0]

    def test_the_key_goes_with_every_request_and_is_not_shown(self) -> None:
        assert self.seen(api_key="k" * 16).headers["x-api-key"] == "k" * 16
        assert "x-api-key" not in self.seen().headers
        assert "kkk" not in repr(Client("http://u:secret@model", api_key="k" * 16))
        assert "secret" not in repr(AsyncClient("http://u:secret@model"))

    @pytest.mark.parametrize(
        ("key", "got"),
        [
            ("a-key-of-the-tests\n", "one that ends with a newline"),
            ("a-key-of-the-tests\r\n", "one that ends with a newline"),
            ("a-kéy-of-the-tests", "one with another character at index 3"),
            ("a key of the tests", "one with another character at index 1"),
            ("a-key", "5 of them"),
            ("", "0 of them"),
            ("k" * 257, "257 of them"),
        ],
    )
    def test_what_is_no_key_is_refused_and_not_quoted(self, key: str, got: str) -> None:
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match=f"^Expected an API key .*, got {got}") as info:
                kind("http://model", api_key=key)
            assert not key or key.strip() not in str(info.value)
        with pytest.raises(TypeError, match="Expected an API key as `str`, got `bytes`"):
            Client(api_key=b"k" * 16)  # type: ignore[arg-type]

    def test_a_key_is_what_the_service_takes_for_one(self) -> None:
        for key in ("k" * 15, "k" * 16, "~!" * 128, "k" * 257, "k" * 15 + " ", "k" * 15 + "é"):
            if API_KEY.fullmatch(key):
                Client(api_key=key).close()
                assert Settings(api_key=SecretStr(key)).api_key is not None
            else:
                with pytest.raises(ValueError, match="Expected an API key"):
                    Client(api_key=key)
                with pytest.raises(ValidationError):
                    Settings(api_key=SecretStr(key))

    @pytest.mark.parametrize(
        "options",
        [
            {"retries": -1},
            {"retries": "x"},
            {"retries": 0.5},
            {"timeout": "x"},
            {"timeout": 0},
            {"timeout": -1.0},
            {"timeout": float("nan")},
            {"timeout": float("inf")},
            {"timeout": None},
        ],
        ids=str,
    )
    def test_patience_that_is_none(self, options: dict[str, Any]) -> None:
        for kind in (Client, AsyncClient):
            with pytest.raises(ValueError, match=r"^Expected .*, got "):
                kind("http://model", **options)

    def test_the_prefix_of_a_proxy_and_its_password(self) -> None:
        request = self.seen("https://u:p@host:8443/prices/")
        assert str(request.url).endswith("host:8443/prices/symbols")
        assert request.headers["authorization"].startswith("Basic ")
