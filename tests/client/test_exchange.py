"""One request and its retries: what is sent again, what is final, and which error is raised."""

from __future__ import annotations

import ssl

import httpx
import pytest

import financial_data_service as fds
from financial_data_service import Client
from financial_data_service.client import Retries
from support.client_calls import QUICK, SYMBOLS


class TestRetries:
    def answers(self, *steps: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[int]]:
        rest, count = list(steps), [0]

        def answer(_: httpx.Request) -> httpx.Response:
            count[0] += 1
            step = rest.pop(0) if len(rest) > 1 else rest[0]
            if isinstance(step, Exception):
                raise step
            return step

        return httpx.MockTransport(answer), count

    def test_a_question_is_repeated_until_it_is_answered(self) -> None:
        transport, count = self.answers(
            httpx.Response(503, json={"detail": "draining"}),
            httpx.ReadError("reset"),
            httpx.ConnectError("refused"),
            httpx.ReadTimeout("slow"),
            httpx.Response(502, html="<h1>"),
            httpx.Response(429, json={"detail": "busy"}, headers={"retry-after": "0"}),
            httpx.Response(200, json=SYMBOLS),
        )
        with Client("http://model", retries=QUICK, transport=transport) as client:
            assert client.symbols() == ()
        assert count == [7]

    @pytest.mark.parametrize(
        ("step", "message"),
        [
            (httpx.Response(503, json={"detail": "draining"}), "not available now: draining"),
            (httpx.Response(503), "not available now: Service Unavailable"),
            (httpx.ReadTimeout("slow"), "http://model did not answer within the time allowed."),
            (httpx.ReadError("reset"), r"http://model broke the connection off .* \(reset\)"),
        ],
    )
    def test_patience_ends(self, step: httpx.Response | Exception, message: str) -> None:
        transport, count = self.answers(httpx.Response(200, json=SYMBOLS), step)
        retries = Retries(count=3, pause_seconds=0.0005)
        with Client("http://model", retries=retries, transport=transport) as client:
            client.symbols()
            with pytest.raises(fds.ServiceUnavailableError, match=message) as info:
                client.symbols()
        assert "https" not in str(info.value)
        assert count == [5]

    @pytest.mark.parametrize("retries", [0, Retries(seconds=0), Retries(count=0)])
    def test_no_patience(self, retries: int | Retries) -> None:
        transport, count = self.answers(httpx.ReadError("reset"))
        with (
            Client("http://model", retries=retries, transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError),
        ):
            client.symbols()
        assert count == [1]

    def test_a_wait_that_is_too_long_is_not_begun(self) -> None:
        busy = httpx.Response(429, json={"detail": "busy"}, headers={"retry-after": "3600"})
        transport, count = self.answers(busy)
        with (
            Client("http://model", transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError, match="busy") as info,
        ):
            client.symbols()
        assert count == [1]
        assert info.value.status == 429

    def test_a_wrong_address_shows_at_once(self) -> None:
        transport, count = self.answers(httpx.ConnectError("refused"))
        with (
            Client("http://model", transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError, match="Cannot reach http://model"),
        ):
            client.symbols()
        assert count == [1]

    @pytest.mark.parametrize(
        "step",
        [
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            httpx.ReadError("reset"),
        ],
    )
    def test_https_taken_for_http_shows_soon(self, step: httpx.HTTPError) -> None:
        transport, count = self.answers(step)
        expected = r"^http://model broke the connection off .* Perhaps it is https://model\.$"
        with (
            Client("http://model", transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError, match=expected),
        ):
            client.add_batch("A", [1.0])
        assert count == [2]

    def test_who_speaks_tls_is_not_taken_for_another(self) -> None:
        transport, count = self.answers(httpx.ReadError("reset"))
        retries = Retries(count=3, pause_seconds=0.0005)
        with (
            Client("https://model", retries=retries, transport=transport) as client,
            pytest.raises(fds.ServiceUnavailableError, match=r"\(reset\)\.$"),
        ):
            client.symbols()
        assert count == [4]

    @pytest.mark.parametrize("between", [httpx.ConnectError, httpx.ReadTimeout])
    def test_a_service_killed_under_the_first_request_is_waited_for(
        self, between: type[httpx.TransportError]
    ) -> None:
        transport, count = self.answers(
            httpx.ReadError("reset"),
            between("it is starting"),
            between("it is starting"),
            httpx.ReadError("reset"),  # Killed once more.
            httpx.Response(200, json=SYMBOLS),
        )
        with Client("http://model", retries=QUICK, transport=transport) as client:
            assert client.symbols() == ()
        assert count == [5]

    def test_a_certificate_nobody_vouches_for_is_final(self) -> None:
        failure = httpx.ConnectError("certificate verify failed")
        failure.__cause__ = ssl.SSLCertVerificationError()
        transport, count = self.answers(httpx.Response(200, json=SYMBOLS), failure)
        with Client("https://model", retries=QUICK, transport=transport) as client:
            client.symbols()
            with pytest.raises(fds.ServiceUnavailableError, match="certificate verify failed"):
                client.symbols()
        assert count == [2]

    def test_a_request_that_http_cannot_say_is_final(self) -> None:
        failure = httpx.LocalProtocolError("Illegal header value")
        transport, count = self.answers(httpx.Response(200, json=SYMBOLS), failure)
        with Client("http://model", retries=QUICK, transport=transport) as client:
            client.symbols()
            with pytest.raises(fds.ServiceUnavailableError, match="no way to say"):
                client.symbols()
            with pytest.raises(fds.ServiceUnavailableError) as info:
                client.delete("A")  # It was not sent: there is no doubt.
            assert not isinstance(info.value, fds.UnconfirmedError)
        assert count == [3]

    def test_a_deletion_in_doubt_is_not_repeated(self) -> None:
        transport, count = self.answers(httpx.ReadError("reset"))
        with (
            Client("http://model", retries=QUICK, transport=transport) as client,
            pytest.raises(fds.UnconfirmedError, match="may have been carried out or not"),
        ):
            client.delete("A")
        assert count == [1]
