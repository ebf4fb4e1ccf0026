"""The log: every line of the JSON log is JSON, has all fields, and is whole.

The handler is tested alone, over a pipe to which several processes write at once. The service is
tested by what it writes to its log.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.server.telemetry import logs
from financial_data_service.server.telemetry.logs import AccessLog
from financial_data_service.settings import Settings
from support.raw_http import batch, get
from support.service_process import LIGHT, end, started

KEY = 'a-key-with-"quotes"-and-\\'
SETTINGS: dict[str, Any] = {"api_key": KEY}


@contextmanager
def written(request_id: str | None = None, **settings: Any) -> Iterator[list[bytes]]:
    """What ``logger`` and the access log write in the block, in pieces as they are written."""
    reader, writer = os.pipe()
    config = logs.configuration(
        Settings(**{**SETTINGS, **settings}), worker=3, request_id=lambda: request_id
    )
    handlers = []
    for name in ("default", "access"):
        options = dict(config["handlers"][name])
        form = dict(config["formatters"][options.pop("formatter")])
        make = form.pop("()")
        if "use_colors" in form or "fmt" in form:
            form["use_colors"] = False
        handler = options.pop("()")(os.fdopen(os.dup(writer), "w"), options["secrets"])
        handler.setFormatter(make(**form))
        handlers.append(handler)
    loggers = [logging.getLogger(name) for name in (logs.SERVICE_LOGGER, logs.ACCESS_LOGGER)]
    for logger, handler in zip(loggers, handlers, strict=True):
        logger.addHandler(handler)
        logger.setLevel("INFO")
        logger.propagate = False
    pieces: list[bytes] = []
    try:
        yield pieces
    finally:
        for logger, handler in zip(loggers, handlers, strict=True):
            logger.removeHandler(handler)
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
            handler.stream.close()
        os.close(writer)
        while piece := os.read(reader, 1 << 20):
            pieces.append(piece)
        os.close(reader)


def note(target: str, request_id: str | None = None) -> None:
    AccessLog().note("192.0.2.1:1", "GET", target, "1.1", 200, 1_500_000, request_id)


def test_a_line_as_json() -> None:
    with written(log_format="json") as pieces:
        logging.getLogger("financial_data_service.storage").warning("Something %s", "happened")
        note("/stats/S/1", "id-1")
    first, second = (json.loads(line) for line in b"".join(pieces).splitlines())
    moment = datetime.fromisoformat(first.pop("time"))
    assert moment.utcoffset() is not None
    assert first == {
        "level": "WARNING",
        "message": "Something happened",
        "logger": "financial_data_service.storage",
        "pid": os.getpid(),
        "worker": 3,
    }
    del second["time"]
    assert second == {
        "level": "INFO",
        "message": '192.0.2.1:1 - "GET /stats/S/1 HTTP/1.1" 200',
        "client": "192.0.2.1:1",
        "method": "GET",
        "path": "/stats/S/1",
        "status": 200,
        "seconds": 0.0015,
        "logger": logs.ACCESS_LOGGER,
        "pid": os.getpid(),
        "worker": 3,
        "request_id": "id-1",
    }


@pytest.mark.parametrize("level", ["warning", "info", "trace"])
def test_own_loggers_have_the_level_and_the_handler_of_uvicorns(level: str) -> None:
    config = logs.configuration(Settings(**{**SETTINGS, "log_level": level}))
    expected = {"warning": logging.WARNING, "info": logging.INFO, "trace": 5}[level]
    assert config["loggers"][logs.SERVICE_LOGGER] == {
        "handlers": config["loggers"]["uvicorn"]["handlers"],
        "level": expected,
        "propagate": False,
    }


def test_what_is_logged_while_a_request_is_answered_has_its_id() -> None:
    with written("id-2", log_format="json") as pieces:
        try:
            raise RuntimeError("for a test")
        except RuntimeError:
            logging.getLogger("financial_data_service.storage").exception("Failed")
    (line,) = b"".join(pieces).splitlines()
    entry = json.loads(line)
    assert entry["request_id"] == "id-2"
    assert entry["exc_info"].startswith("Traceback")
    assert entry["exc_info"].endswith("RuntimeError: for a test")


def test_a_line_for_people_is_uvicorns() -> None:
    with written() as pieces:
        logging.getLogger("financial_data_service.storage").info("Started")
        note("/stats/S/1")
        note("/symbols", "id-3")
    assert b"".join(pieces).decode().splitlines() == [
        "INFO:     Started",
        'INFO:     192.0.2.1:1 - "GET /stats/S/1 HTTP/1.1" 200 OK',
        'INFO:     192.0.2.1:1 - "GET /symbols HTTP/1.1" 200 OK [id-3]',
    ]


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_nothing_of_a_client_ends_a_line(log_format: str) -> None:
    evil = '\r\n{"level": "INFO", "message": "forged"}\n\x1b[31m\u2028\x85"'
    with written(log_format=log_format) as pieces:
        note(evil)
        logging.getLogger("financial_data_service.storage").info("%s", evil)
    text = b"".join(pieces).decode()
    assert text.count("\n") == 2
    assert "\r" not in text
    if log_format == "json":
        messages = [json.loads(line)["message"] for line in text.split("\n")[:2]]
        assert all("forged" in message and message != "forged" for message in messages)


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_the_key_is_in_no_line(log_format: str) -> None:
    quoted = "a-key-with-%22quotes%22-and-%5C"
    with written(log_format=log_format) as pieces:
        note(f"/x?api_key={quoted}&y=1")
        note(f"/{quoted}")
        logger = logging.getLogger("financial_data_service.storage")
        logger.info("WebSocket /stream?api_key=guessed [accepted]")
        logger.info("key %s", KEY)
        try:
            raise RuntimeError(KEY)
        except RuntimeError:
            logger.exception("Failed with %s", [KEY])
    text = b"".join(pieces).decode()
    for form in (KEY, quoted, json.dumps(KEY)[1:-1], "guessed", "quotes"):
        assert form not in text, text
    assert "/x?api_key=***&y=1" in text
    assert "/stream?api_key=*** [accepted]" in text


def test_a_long_target_is_cut_short() -> None:
    with written(log_format="json") as pieces:
        note("/" + "x" * 60_000)
    (line,) = b"".join(pieces).splitlines()
    assert len(line) < 4096 + 512  # It stands in the line twice, as path and in the message.
    assert json.loads(line)["path"].startswith("/xxx")


@given(st.text())
def test_every_line_is_json_whatever_is_logged(text: str) -> None:
    formatter = logs._JsonFormatter(None, lambda: None)
    record = logging.LogRecord("name", logging.INFO, "file", 1, "%s", (text,), None)
    line = formatter.format(record)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line)["message"] == text


# Threads that other tests of this process have left do nothing in a child, which only writes.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("length", [100, 50_000])
def test_lines_of_several_processes_are_whole(length: int) -> None:
    """Lines that are longer than what a pipe takes at once are, too."""
    reader, writer = os.pipe()
    processes, lines_each = 4, 20
    logs.configuration(Settings(workers=processes))
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                handler = logs._LineHandler(os.fdopen(writer, "w"))
                letter = "abcd"[number]
                for _ in range(lines_each):
                    record = logging.LogRecord("n", 20, "f", 1, letter * length, (), None)
                    handler.emit(record)
            finally:
                os._exit(0)
        children.append(child)
    os.close(writer)
    text = b""
    while piece := os.read(reader, 1 << 16):
        text += piece
    os.close(reader)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    lines = text.decode().splitlines()
    assert len(lines) == processes * lines_each
    assert all(line == line[0] * length for line in lines)


# --- The service


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_line_of_the_service_is_json(tmp_path: Path, workers: str) -> None:
    flags = (*LIGHT, "--log-format", "json", "--access-log", "--workers", workers)
    with started(tmp_path, flags) as service:
        for _ in range(6):
            assert service.add(batch("S", [1.0])).status == 201
            assert service.ask(get("/stats/S/1")).status == 200
            reply = service.ask(get("/stats/S/1", "X-Request-ID: mine"))
            assert reply.headers["x-request-id"] == "mine"
            reply = service.ask(get("/symbols"))
            service.ask(get("/nowhere"))
            service.ask(b"nonsense\r\n\r\n")
        end(service)
        assert service.process.stdout is not None
        assert service.process.stdout.read() == f"Try it: {service.url}/docs\n"
    entries = [json.loads(line) for line in service.log.read_text().splitlines()]
    for entry in entries:
        assert datetime.fromisoformat(entry["time"]).utcoffset() is not None
        assert {"level", "message", "pid"} <= entry.keys()
        assert ("worker" in entry) == (workers == "2" and entry["pid"] != service.process.pid)
    accesses = [entry for entry in entries if entry["logger"] == logs.ACCESS_LOGGER]
    assert len(accesses) == 5 * 6
    for entry in accesses:
        assert 0 < entry["seconds"] < 20
        assert re.fullmatch(r"127\.0\.0\.1:\d+", entry["client"])
        assert entry["method"] in ("GET", "POST")
    slow = [entry for entry in accesses if entry["path"] == "/symbols"]
    assert all(re.fullmatch("[0-9a-f]{32}", entry["request_id"]) for entry in slow)
    assert len(slow) == [entry.get("request_id") for entry in accesses].count("mine") == 6


def test_a_terminal_that_is_gone_does_not_end_the_service(tmp_path: Path) -> None:
    """Nobody reads what it says: each line is lost, and no request."""
    with started(tmp_path, (*LIGHT, "--access-log")) as service:
        assert service.process.stdout is not None
        assert service.process.stdout.readline().startswith("Try it: ")
        service.process.stdout.close()
        for _ in range(3):
            assert service.add(batch("S", [1.0])).status == 201
            assert service.get("/symbols")["symbols"]
        end(service)
        assert "Logging error" not in service.log.read_text()
