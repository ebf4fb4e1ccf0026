"""TLS: both lanes, one worker and two, and the messages when a certificate cannot be used.

Clients of every kind trust an authority from the environment. The test makes that authority.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from financial_data_service import AsyncClient, Client, ServiceUnavailableError
from financial_data_service.client.connection import Connection
from financial_data_service.monitor.feed import Feed
from support.raw_http import Reply, batch, get, post
from support.service_process import LIGHT, Service, command, environment, running

PASSWORD = "a password of the key"


class Files(NamedTuple):
    """Where certificate and key are, and what a client trusts."""

    authority: Path
    chain: Path
    key: Path
    locked_key: Path
    other_key: Path
    together: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    found = Files(*(directory / f"{name}.pem" for name in Files._fields))
    authority.cert_pem.write_to_path(str(found.authority))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(found.chain), append=True)
    issued.private_key_pem.write_to_path(str(found.key))
    issued.private_key_and_cert_chain_pem.write_to_path(str(found.together))
    authority.issue_cert("localhost").private_key_pem.write_to_path(str(found.other_key))
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    found.locked_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSWORD.encode()),
        )
    )
    return found


@contextmanager
def connected(url: str, files: Files) -> Iterator[ssl.SSLSocket]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    context = ssl.create_default_context(cafile=str(files.authority))
    with (
        socket.create_connection((parts.hostname, parts.port or 0), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def ask(connection: ssl.SSLSocket, request: bytes) -> Reply:
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 16)
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(1 << 16)
    return Reply(int(status.split(" ")[1]), headers, body)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_both_lanes_are_served(tmp_path: Path, files: Files, workers: str) -> None:
    flags = (*LIGHT, "--workers", workers)
    tls = ("--ssl-certfile", str(files.chain), "--ssl-keyfile", str(files.key))
    with running(tmp_path, (*flags, *tls)) as service:
        assert service.url.startswith("https://127.0.0.1:")
        for _ in range(4):
            with connected(service.url, files) as connection:
                assert ask(connection, post(batch("S", [1.0] * 5000))).status == 201
                assert ask(connection, get("/stats/S/1")).json()["last"] == 1.0
                assert ask(connection, get("/symbols")).json()["symbols"]
                assert connection.version() in ("TLSv1.2", "TLSv1.3")
        context = ssl.create_default_context(cafile=str(files.authority))
        url = service.url.replace("127.0.0.1", "localhost")
        assert httpx.get(f"{url}/readyz", verify=context).json() == {"status": "ok"}
        # Who speaks plainly is not understood, and who trusts nobody does not trust this one.
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http") + "/livez")
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{url}/livez")
        assert httpx.get(f"{url}/livez", verify=context).status_code == 200


def test_a_client_that_has_done_sending_gets_its_reply(tmp_path: Path, files: Files) -> None:
    with running(tmp_path, (*LIGHT, "--ssl-certfile", str(files.together))) as service:
        with connected(service.url, files) as connection:
            assert ask(connection, get("/livez")).status == 200
            connection.unwrap()
        with connected(service.url, files) as connection:
            assert ask(connection, get("/livez")).status == 200
    assert "eof_received" not in service.log.read_text()


def test_a_key_with_a_password(tmp_path: Path, files: Files) -> None:
    flags = ("--ssl-certfile", str(files.chain), "--ssl-keyfile", str(files.locked_key))
    variables = {"FDS_SSL_KEYFILE_PASSWORD": PASSWORD}
    with (
        running(tmp_path, (*LIGHT, *flags), **variables) as service,
        connected(service.url, files) as connection,
    ):
        assert ask(connection, get("/livez")).status == 200
    assert PASSWORD not in service.log.read_text()


def failure(*flags: str, **variables: str) -> str:
    run = subprocess.run(
        command(*LIGHT, *flags),
        check=False,  # What it exits with is looked at here.
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=environment(**variables),
    )
    assert run.returncode == 1, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert run.stderr.endswith(".\n")
    return run.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_certificate_that_is_not_there(tmp_path: Path, workers: str) -> None:
    missing = str(tmp_path / "missing.pem")
    said = failure("--workers", workers, "--ssl-certfile", missing)
    assert said == f"Cannot serve https: {missing}: No such file or directory.\n"


def test_a_key_that_is_not_there(tmp_path: Path, files: Files) -> None:
    missing = str(tmp_path / "missing.pem")
    said = failure("--ssl-certfile", str(files.chain), "--ssl-keyfile", missing)
    assert said == f"Cannot serve https: {missing}: No such file or directory.\n"


def test_files_that_do_not_go_together(files: Files, tmp_path: Path) -> None:
    said = failure("--ssl-certfile", str(files.chain), "--ssl-keyfile", str(files.other_key))
    assert said.endswith(f"{files.other_key} is the key of another certificate.\n")
    said = failure("--ssl-certfile", str(files.chain))
    assert said.endswith("expected a certificate and its private key, both as PEM.\n")
    empty = tmp_path / "empty.pem"
    empty.touch()
    said = failure("--ssl-certfile", str(empty))
    assert said.endswith("expected a certificate and its private key, both as PEM.\n")
    said = failure("--ssl-certfile", str(tmp_path))
    assert said == f"Cannot serve https: {tmp_path}: Is a directory.\n"


@pytest.mark.parametrize("password", [None, "another"])
def test_a_password_that_does_not_fit(files: Files, password: str | None) -> None:
    """It is not asked for on the terminal, and not told."""
    flags = ("--ssl-certfile", str(files.chain), "--ssl-keyfile", str(files.locked_key))
    variables = {} if password is None else {"FDS_SSL_KEYFILE_PASSWORD": password}
    said = failure(*flags, **variables)
    assert said.endswith(f"{files.locked_key} does not open with --ssl-keyfile-password.\n")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    with running(directory, (*LIGHT, "--ssl-certfile", str(files.together))) as service:
        yield service


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, service: Service, files: Files) -> Service:
    """Return a service on this machine whose authority only ``SSL_CERT_FILE`` names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(files.authority))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return service


def test_clients_trust_an_authority_that_the_environment_names(named: Service) -> None:
    with Client(named.url) as client:
        assert client.add_batch("CLIENT", [1.0, 2.0]).sequence == 2
        assert next(iter(client.subscribe("stats.CLIENT.1"))).last == 2.0

    async def main() -> None:
        async with AsyncClient(named.url) as client:
            async with client.ingest("CLIENT") as ingest:
                await ingest.send([3.0])
            assert (await anext(aiter(client.subscribe("stats.CLIENT.1")))).last == 3.0

    asyncio.run(main())


def test_commands_trust_an_authority_that_the_environment_names(
    named: Service, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text("price\n1.5\n2.5\n")
    for words in (["load", str(prices), "--symbol", "FDS"], ["stats", "FDS"]):
        run = subprocess.run(
            [sys.executable, "-m", "financial_data_service", *words, "--url", named.url],
            check=False,  # What it exits with is looked at here.
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )
        assert run.returncode == 0, run.stderr


def test_the_monitor_trusts_an_authority_that_the_environment_names(named: Service) -> None:
    deadline = time.monotonic() + 20
    with Feed(named.url) as feed:
        while not (snapshot := feed.board.snapshot()).is_online:
            assert time.monotonic() < deadline, snapshot
            time.sleep(0.01)


def test_http_and_websockets_trust_the_same() -> None:
    mine = ssl.create_default_context()
    for verify in (True, False, mine):
        connection = Connection("https://prices.example.com", verify=verify)
        trust = connection.http_options()["verify"]
        assert isinstance(trust, ssl.SSLContext)
        assert trust is connection.websocket_options()["ssl"]
        assert (trust is mine) == (verify is mine)
        assert (trust.verify_mode == ssl.CERT_NONE) == (verify is False)


def test_http_to_an_https_service_shows_soon(service: Service) -> None:
    url = service.url.replace("https", "http")
    started = time.monotonic()
    with (
        Client(url) as client,
        pytest.raises(ServiceUnavailableError, match=rf"Perhaps it is {service.url}\.$"),
    ):
        client.symbols()
    assert time.monotonic() - started < 10  # Patience is 30 seconds.
    run = subprocess.run(
        [sys.executable, "-m", "financial_data_service", "stats", "--url", url],
        check=False,  # What it exits with is looked at here.
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert run.returncode == 1
    assert run.stderr.endswith(f" Perhaps it is {service.url}.\n"), run.stderr


def test_certificates_are_not_read_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> ssl.SSLContext:
        raise AssertionError("certificates are read")

    monkeypatch.setattr(ssl, "create_default_context", read)
    for url in ("http://127.0.0.1:8000", "http://prices.example.com"):
        Client(url).close()
        assert "ssl" not in Connection(url).websocket_options()
