"""``fds stats``: the table, JSON, and one sentence when the service cannot be reached."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from financial_data_service.cli.stats import fill, number
from support.commands import assert_one_sentence, fds
from support.stub_service import StubService


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """URL of something that answers every connection with ``reply`` and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


class TestStats:
    def test_table(self, stub: StubService) -> None:
        stub.prices["BTCUSDT"] = [39_491.76, 39_493.25, 1_234_567.5]
        result = fds("stats", "BTCUSDT", "--url", stub.url)
        assert result.exit_code == 0
        title, heading, _, *rows = result.stdout.splitlines()
        assert title == "BTCUSDT  3 prices so far"
        columns = ["window", "values", "fill", "min", "max", "last", "avg", "var", "std"]
        assert heading.split() == columns
        assert len({len(row) for row in rows[:8]}) == 1, "right aligned"
        assert rows[0].split()[:4] == ["10", "3", "30.00", "%"]
        assert rows[7].split()[:7] == [
            *("100,000,000", "3", "<0.01", "%"),
            *("39,491.76", "1,234,567.5", "1,234,567.5"),
        ]

    def test_every_digit_of_avg_var_and_std_is_shown_where_there_is_room(
        self, stub: StubService
    ) -> None:
        prices = stub.prices["EURUSD"] = [1.1, 1.2, 1.4]
        _, window = stub.stats("EURUSD", {"k": "1"})
        row = fds("stats", "EURUSD", "--url", stub.url).stdout.splitlines()[3].split()
        assert row[4:7] == [repr(min(prices)), repr(max(prices)), repr(prices[-1])]
        assert row[7:9] == [repr(window["avg"]), repr(window["var"])]
        assert float(row[9]) == window["var"] ** 0.5

    @pytest.mark.parametrize("columns", [79, 100, 110])
    def test_a_narrow_terminal_rounds_but_never_cuts(
        self, stub: StubService, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rich.console.Console.is_terminal", True)
        stub.prices["BTCUSDT"] = [39_491.76 + i / 7 for i in range(200)]
        stub.prices["BTCUSDT"] = [round(price, 2) for price in stub.prices["BTCUSDT"]]
        # Without LINES rich takes a dumb terminal for one of 80 columns.
        terminal = {"COLUMNS": str(columns), "LINES": "24", "TERM": "dumb"}
        result = fds("stats", "--url", stub.url, env=terminal)
        lines = result.stdout.splitlines()
        assert max(map(len, lines)) <= columns
        assert "…" not in result.stdout
        assert "100,000,000" in lines[10]
        assert "39,491.76" in lines[10]
        assert " digits" in lines[-1] or " digits" in lines[-2]

    def test_without_a_symbol_all_are_shown(self, stub: StubService) -> None:
        stub.prices.update({"AAPL": [1.0], "[bold]a/b 🚀": [2.0]})
        result = fds("stats", "--url", stub.url)
        assert "AAPL  1 price so far" in result.stdout
        assert "[bold]a/b 🚀  1 price so far" in result.stdout

    @pytest.mark.parametrize("as_json", [True, False])
    def test_all_symbols_are_one_request(self, stub: StubService, as_json: bool) -> None:
        stub.max_symbols = 50
        stub.prices.update({f"S{i}": [float(i)] for i in range(50)})
        result = fds("stats", "--url", stub.url, *(["--json"] if as_json else []))
        assert result.exit_code == 0, result.stderr
        assert (stub.all_stats_requests, stub.stats_requests) == (1, 0)
        assert all(f"S{i}" in result.stdout for i in range(50))

    def test_all_symbols_with_last(self, stub: StubService) -> None:
        stub.prices.update({"A": [1.0, 2.0, 3.0], "B": [5.0]})
        result = fds("stats", "--last", "2", "--json", "--url", stub.url)
        rows = json.loads(result.stdout)["symbols"]
        assert [(row["symbol"], row["window"], row["min"]) for row in rows] == [
            ("A", 2, 2.0),
            ("B", 2, 5.0),
        ]

    def test_last_shows_that_window_alone(self, stub: StubService) -> None:
        stub.prices["AAPL"] = [float(price) for price in range(100)]
        lines = fds("stats", "AAPL", "--last", "50", "--url", stub.url).stdout.splitlines()
        assert lines[3].split()[:6] == ["50", "50", "100", "%", "50.0", "99.0"]
        assert lines[4:] == [""]

    def test_k_shows_that_window_alone(self, stub: StubService) -> None:
        stub.prices["AAPL"] = [float(price) for price in range(250)]
        lines = fds("stats", "AAPL", "-k", "2", "--url", stub.url).stdout.splitlines()
        assert lines[3].split()[:6] == ["100", "100", "100", "%", "150.0", "249.0"]
        assert lines[4:] == [""]

    def test_k_of_all_symbols_is_one_request(self, stub: StubService) -> None:
        stub.prices.update({"A": [1.0, 2.0, 3.0], "B": [5.0]})
        result = fds("stats", "-k", "1", "--json", "--url", stub.url)
        rows = json.loads(result.stdout)["symbols"]
        assert [[each["k"] for each in row["stats"]] for row in rows] == [[1], [1]]
        assert (stub.all_stats_requests, stub.stats_requests) == (1, 0)

    def test_k_and_last_exclude_each_other(self, stub: StubService) -> None:
        result = fds("stats", "AAPL", "-k", "2", "--last", "5", "--url", stub.url)
        assert_one_sentence(result, 2, "Expected either -k or --last, got both (-k 2 --last 5).")

    def test_json_is_what_the_service_wrote(self, stub: StubService) -> None:
        stub.prices.update({"AAPL": [0.1, 0.7], "MSFT": [5e-324]})
        one = fds("stats", "AAPL", "--json", "--url", stub.url)
        assert json.loads(one.stdout) == stub.stats("AAPL", {})[1]
        both = fds("stats", "--json", "--url", stub.url)
        expected = {"symbols": [stub.stats(name, {})[1] for name in ("AAPL", "MSFT")]}
        assert json.loads(both.stdout) == expected

    def test_json_of_no_symbols_is_json(self, stub: StubService) -> None:
        assert json.loads(fds("stats", "--json", "--url", stub.url).stdout) == {"symbols": []}

    def test_the_url_may_come_from_the_environment(self, stub: StubService) -> None:
        stub.prices["AAPL"] = [1.0]
        assert fds("stats", "AAPL", env={"FDS_URL": stub.url}).exit_code == 0

    def test_the_key_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[httpx.Request] = []

        def answer(_: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(404)

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
        for key in ({}, {"FDS_API_KEY": ""}, {"FDS_API_KEY": "k" * 16}):
            assert fds("stats", "AAPL", env=key).exit_code == 1
        assert [request.headers.get("x-api-key") for request in asked] == [None, None, "k" * 16]

    @pytest.mark.parametrize("key", ["ünï", "a-key-of-the-tests\n"])
    def test_a_key_that_is_none_is_one_sentence(self, key: str) -> None:
        result = fds("stats", env={"FDS_API_KEY": key})
        assert_one_sentence(result, 1, "Expected an API key of 16 to 256 printable ASCII")
        assert key.strip() not in result.stderr

    def test_an_unknown_symbol_is_one_sentence(self, stub: StubService) -> None:
        assert_one_sentence(fds("stats", "X", "--url", stub.url), 1, "Symbol X not found")

    def test_no_symbols_yet_is_one_sentence(self, stub: StubService) -> None:
        assert_one_sentence(fds("stats", "--url", stub.url), 1, "no symbols yet", "fds load")

    @pytest.mark.parametrize(
        ("values", "window", "text"),
        [
            (10, 10, "100 %"),
            (99_999_999, 10**8, "99.99 %"),
            (1, 10**8, "<0.01 %"),
            (2001, 10_000, "20.01 %"),
        ],
    )
    def test_fill_is_rounded_down(self, values: int, window: int, text: str) -> None:
        assert fill(values, window) == text

    def test_numbers_read_back_exactly(self) -> None:
        for value in (0.1, 1e22, 5e-324, 1e150, 41_144.51485643224, -0.0, 1_234_567.125):
            assert float(number(value).replace(",", "")) == value
        assert number(41_144.51485643224, 9) == "41,144.5149"


class TestUnreachable:
    @pytest.mark.parametrize(
        "url",
        ["127.0.0.1:8000", "localhost", "ftp://127.0.0.1", "http://", "http://[::1", "::", ""],
    )
    def test_a_bad_url(self, url: str) -> None:
        assert_one_sentence(fds("stats", "--url", url), 1, "Expected a URL such as http://")

    def test_a_server_that_is_down(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert_one_sentence(fds("stats", "--url", url), 1, f"Cannot reach {url}", "fds serve")

    def test_an_unknown_host(self) -> None:
        assert_one_sentence(fds("stats", "--url", "http://no.such.invalid"), 1, "Cannot reach")

    @pytest.mark.parametrize(
        "body",
        [
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            b'HTTP/1.1 404 Not Found\r\ncontent-length: 22\r\n\r\n{"detail":"Not Found"}',
            b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n",
        ],
    )
    def test_a_port_of_another_service(self, body: bytes) -> None:
        with answering(body) as url:
            told = "The answer is not one of a financial-data-service"
            assert_one_sentence(fds("stats", "--url", url), 1, told, url)

    @pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b""])
    def test_a_port_that_does_not_speak_http(self, greeting: bytes) -> None:
        with answering(greeting) as url:
            assert_one_sentence(fds("stats", "--url", url), 1, "does not speak HTTP")

    def test_a_proxy_without_the_service_behind_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("financial_data_service.client.retries.Retries.pause", lambda *_: 1e-3)
        with answering(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n") as url:
            assert_one_sentence(fds("stats", "--url", url), 1, "not available now", "(503 from GET")

    def test_a_proxy_for_the_outside_is_not_asked_for_this_machine(
        self, stub: StubService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        stub.prices["AAPL"] = [1.0]
        assert fds("stats", "AAPL", "--url", stub.url).exit_code == 0
