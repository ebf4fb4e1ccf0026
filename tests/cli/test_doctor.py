"""``fds doctor``: what it prints, its exit code, and that it shows no secret."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from financial_data_service.settings import Settings
from financial_data_service.version import __version__
from support.commands import fds
from support.raw_http import batch
from support.service_process import LIGHT, end, running, started

KEY = "0123456789abcdef-secret"
NOWHERE = "http://127.0.0.1:9"  # the port of discard, where nothing listens


def checks(result: Any) -> dict[str, dict[str, str]]:
    return {each["name"]: each for each in json.loads(result.stdout)["checks"]}


def settings_of(result: Any) -> dict[str, tuple[str, str]]:
    listed = json.loads(result.stdout)["settings"]
    return {each["name"]: (each["value"], each["origin"]) for each in listed}


def doctor(*arguments: str | Path, **variables: str) -> Any:
    return fds("doctor", "--port", "0", "--url", NOWHERE, *arguments, env=variables)


def test_every_line_says_ok_or_what_to_do() -> None:
    result = doctor()
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.partition("\n\n")[0].splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        mark = line.split()[0]
        assert mark in ("ok", "note", "→"), line
        assert (mark == "note") == following.lstrip().startswith("→"), line
    assert f"financial-data-service {__version__}" in result.stdout


def test_settings_and_where_each_is_from() -> None:
    result = doctor("--json", "--max-symbols", "7", FDS_MAX_SYMBOLS="6", fds_batch_max="5")
    found = settings_of(result)
    assert found["--max-symbols"] == ("7", "flag")
    assert found["--batch-max"] == ("5", "FDS_BATCH_MAX")
    assert found["--workers"] == ("1", "default")
    assert found["--forwarded-allow-ips"] == ("127.0.0.1,::1", "default")
    assert found["--fast-lane"] == ("on", "default")
    assert len(found) == len(Settings.model_fields)
    assert json.loads(result.stdout)["would_start"] is True
    text = doctor("--max-symbols", "7", fds_batch_max="5").stdout
    assert re.search(r"--max-symbols +7  \(flag\)", text)
    assert re.search(r"--batch-max +5  \(FDS_BATCH_MAX\)", text)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_no_secret_is_printed(more: list[str]) -> None:
    variables = {
        "FDS_API_KEY": KEY,
        "FDS_SSL_KEYFILE_PASSWORD": KEY,
        "FDS_SSL_CERTFILE": "/none.pem",
        "FDS_API_KEYS": KEY,
    }
    with_password = ["--url", f"http://user:{KEY}@127.0.0.1:9"]
    for arguments, given in (
        (more, variables),
        ([*more, *with_password], variables),
        ([*more, "--url", f"ftp://user:{KEY}@host"], variables),
        ([*more, "--api-key", KEY], {}),
        (more, {"FDS_API_KEY": f"{KEY} é"}),
    ):
        result = doctor(*arguments, **given)
        assert KEY not in result.output, arguments
    assert "not shown" in doctor(*more, **variables).stdout


def test_an_invalid_setting_hides_no_other_fault(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for name in ("--workers", "--port"):
            result = fds("doctor", "--url", NOWHERE, "--json", "--port", port, name, "abc")
            assert result.exit_code == 1
            assert name in checks(result)["settings"]["advice"]
        result = fds("doctor", "--url", NOWHERE, "--json", "--port", port)
    assert result.exit_code == 1
    assert "in use" in checks(result)["address"]["advice"]
    assert json.loads(result.stdout)["would_start"] is False
    text = fds("doctor", "--url", NOWHERE, "--workers", "abc").stdout
    assert re.search("^FAULT +settings +invalid$", text, re.MULTILINE)


def test_a_service_that_answers(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.add(batch("S", [1.0]))
        port = service.url.rpartition(":")[2]
        result = fds("doctor", "--json", "--port", port, env={"FDS_URL": service.url})
        assert result.exit_code == 0
        assert checks(result)["service"]["value"] == f"{service.url} answers, 1 symbol"
        assert checks(result)["address"]["value"].endswith("used by the service that answers")


def test_a_service_with_another_key(tmp_path: Path) -> None:
    with started(tmp_path, LIGHT, FDS_API_KEY=KEY) as service:
        result = doctor("--json", "--url", service.url)
        assert "401" in checks(result)["service"]["value"]
        assert result.exit_code == 0
        result = doctor("--json", "--url", service.url, FDS_API_KEY=KEY)
        assert checks(result)["service"]["state"] == "ok"
        end(service)


def test_files_that_a_service_cannot_serve(directory: Path, tmp_path: Path) -> None:
    (directory / "AAPL.ring").write_bytes(b"damaged")
    with running(
        tmp_path,
        (
            "--port",
            "0",
            "--largest-window",
            "1000",
            "--batch-max",
            "100",
            "--data-dir",
            str(directory),
        ),
    ) as service:
        finding = checks(doctor("--json", "--url", service.url))["service"]
    assert finding["state"] == "note"
    assert "AAPL.ring" in finding["advice"]
