"""Logging.

Lines are readable text or JSON. Each line is written atomically, and contains no secrets.

For people the format is uvicorn's: access lines on stdout, all other lines on stderr, the id of the
request in brackets at the end. As JSON every line is an object on stderr. Access lines have fields
of their own::

    {"time": "2030-01-02T03:04:05.678Z", "level": "INFO", "message": "…", "pid": 41, "worker": 1,
     "request_id": "…", "client": "127.0.0.1:50000", "method": "GET", "path": "/stats/AAPL/3",
     "status": 200, "seconds": 0.000412}

Invariants
----------
* A line is written by one system call, and by one process at a time.
* Client input is escaped before it is logged, so that it can neither end a line nor look like a
  field.
* No line contains the API key, or a value that a query sent as a key.
"""

from __future__ import annotations

import copy
import fcntl
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import uvicorn.config
from pythonjsonlogger.json import JsonFormatter
from uvicorn.logging import TRACE_LOG_LEVEL, AccessFormatter, DefaultFormatter

from financial_data_service.settings import Settings

__all__ = ["ACCESS_LOGGER", "SERVICE_LOGGER", "AccessLog", "configuration"]

SERVICE_LOGGER = "financial_data_service"
"""Parent of the loggers of all packages: storage, connection, processes, …"""

ACCESS_LOGGER = "financial_data_service.access"
"""Name of this service's access logger.

uvicorn's own access logger is disabled, because its lines have no times and no request ids.
"""

TARGET_LENGTH_MAX = 2000  # logged characters of path and query

HIDDEN = "***"

_KEY_IN_QUERY = re.compile(r"(api_key=)[^&\s\"\\]*", re.IGNORECASE)

# All processes of a service lock the same file: the parent creates it before it forks.
_line_lock = -1


def configuration(
    settings: Settings,
    *,
    worker: int | None = None,
    request_id: Callable[[], str | None] = lambda: None,
) -> dict[str, Any]:
    """Return the configuration of the log, for uvicorn to apply.

    Parameters
    ----------
    settings : Settings
        Of the service.
    worker : int, optional
        Number of this process among the workers, from 1.
    request_id : callable
        Returns the id of the request that is being answered, if any.
    """
    global _line_lock  # One log, like one stderr.
    if settings.workers > 1 and _line_lock < 0:
        _line_lock, path = tempfile.mkstemp(prefix="fds-")
        os.unlink(path)
    is_json = settings.log_format == "json"
    config: dict[str, Any] = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    if is_json:
        form = {"()": _JsonFormatter, "worker": worker, "request_id": request_id}
        config["formatters"] = {"default": form, "access": form}
    else:
        config["formatters"]["default"]["()"] = _HumanFormatter
        config["formatters"]["access"]["()"] = _HumanAccessFormatter
    for handler in config["handlers"].values():
        handler["()"] = _LineHandler
        handler["secrets"] = _secrets(settings)
        del handler["class"]
    if is_json:
        config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    level = logging.getLevelName(settings.log_level.upper())
    if not isinstance(level, int):  # uvicorn has one level more.
        level = TRACE_LOG_LEVEL
    config["loggers"]["uvicorn.access"] = {"handlers": [], "level": "INFO", "propagate": False}
    config["loggers"][SERVICE_LOGGER] = {
        "handlers": ["default"],
        "level": level,
        "propagate": False,
    }
    config["loggers"][ACCESS_LOGGER] = {"handlers": ["access"], "level": level, "propagate": False}
    # Warnings of asyncio and of libraries, in the same format.
    config["root"] = {"handlers": ["default"], "level": "WARNING"}
    return config


class AccessLog:
    """Writes a line per request, for both lanes."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(ACCESS_LOGGER)

    def note(
        self,
        client: str,
        method: str,
        target: str,
        http_version: str,
        status: int,
        nanoseconds: int,
        request_id: str | None = None,
    ) -> None:
        """Log a request; `target` is percent-encoded path and query."""
        if len(target) > TARGET_LENGTH_MAX:
            target = target[:TARGET_LENGTH_MAX] + "…"
        target = _KEY_IN_QUERY.sub(rf"\1{HIDDEN}", target)
        fields = {
            "client": client,
            "method": method,
            "path": target,
            "status": status,
            "seconds": nanoseconds / 1e9,
            "request_id": request_id,
        }
        self._logger.info(
            '%s - "%s %s HTTP/%s" %d', client, method, target, http_version, status, extra=fields
        )


class _LineHandler(logging.StreamHandler[Any]):
    """Writes each line as a whole, without secrets.

    The kernel writes up to 4096 bytes to a pipe atomically. For longer lines (mostly tracebacks),
    the processes of a service use a lock.
    """

    def __init__(self, stream: Any, secrets: tuple[str, ...] = ()) -> None:
        super().__init__(stream)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line = _KEY_IN_QUERY.sub(rf"\1{HIDDEN}", super().format(record))
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        return line

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line atomically, so that lines of several workers do not mix."""
        try:
            data = memoryview((self.format(record) + "\n").encode("utf-8", "backslashreplace"))
            self.flush()
            descriptor = self.stream.fileno()
            if _line_lock < 0:
                _write(descriptor, data)
                return
            # stdout and stderr lock different bytes of the file, so releasing one lock does not
            # release the other.
            fcntl.lockf(_line_lock, fcntl.LOCK_EX, 1, descriptor)
            try:
                _write(descriptor, data)
            finally:
                fcntl.lockf(_line_lock, fcntl.LOCK_UN, 1, descriptor)
        except BrokenPipeError:
            return  # Nobody reads the log; reporting that at every request would not help.
        except Exception:  # noqa: BLE001  # as in logging: no request fails because of its log
            self.handleError(record)


class _JsonFormatter(JsonFormatter):
    """A line as a JSON object, without empty fields."""

    def __init__(self, worker: int | None, request_id: Callable[[], str | None]) -> None:
        super().__init__("%(message)s", json_ensure_ascii=True)
        self._worker = worker
        self._request_id = request_id

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Add time, level, logger, process, worker and the request's id."""
        moment = datetime.fromtimestamp(record.created, UTC)
        log_data["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log_data["level"] = record.levelname
        super().add_fields(log_data, record, message_dict)
        log_data.pop("color_message", None)
        log_data["logger"] = record.name
        log_data["pid"] = os.getpid()
        log_data["worker"] = self._worker
        log_data["request_id"] = log_data.pop("request_id", None) or self._request_id()
        for name in ("worker", "request_id"):
            if log_data[name] is None:
                del log_data[name]


class _HumanFormatter(DefaultFormatter):
    """uvicorn's format, on one line unless there is a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return _plain(super().formatMessage(record))


class _HumanAccessFormatter(AccessFormatter):
    """uvicorn's format, followed by the id of the request."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        line = _plain(super().formatMessage(record))
        request_id = getattr(record, "request_id", None)
        return line if request_id is None else f"{line} [{request_id}]"


def _plain(line: str) -> str:
    """Return a line with all control characters escaped, except for colour codes."""
    return re.sub(r"[\x00-\x1a\x1c-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], line)


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _secrets(settings: Settings) -> tuple[str, ...]:
    """Return the forms in which the API key could appear in a line."""
    if settings.api_key is None:
        return ()
    key = settings.api_key.get_secret_value()
    return tuple({key, quote(key), quote(key, safe=""), json.dumps(key)[1:-1]})
