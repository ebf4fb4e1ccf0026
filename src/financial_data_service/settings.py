"""Settings of the service: defaults, overridden by ``FDS_*`` variables, overridden by flags.

A new setting is a field of :class:`Settings`; its flag, its variable, ``fds serve --help`` and the
reference of settings follow from the field.

Invariant: a :class:`Settings` object is valid as a whole. No other module checks a setting again.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from financial_data_service.wire import API_KEY

__all__ = ["Durability", "LogFormat", "LogLevel", "Settings", "unknown_variables"]

Durability = Literal["process", "power"]
LogFormat = Literal["human", "json"]
LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]

# Variables with the same prefix that are not settings of the service: clients and commands use
# them.
_OTHER_VARIABLES = ("FDS_URL", "FDS_DEBUG")

# An origin as browsers send it: scheme, host, port unless it is the scheme's default; no path, no
# capitals.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^\sA-Z/?#@,]+")


class Settings(BaseSettings):
    """All settings; each has a flag (``--max-symbols``) and a variable (``FDS_MAX_SYMBOLS``).

    Raises
    ------
    pydantic.ValidationError
        When a value has the wrong type or is out of range; the error names the field. When two
        settings contradict each other; the message names both, in backquotes.
    """

    # Errors do not quote the input: for a check over several settings that would be all of them,
    # the secret ones included.
    model_config = SettingsConfigDict(
        env_prefix="FDS_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    max_symbols: int = Field(default=10, ge=1, description="Maximum number of symbols.")
    largest_window: int = Field(
        default=10**8,
        ge=10,
        le=10**8,
        description="Longest window in prices; windows of 10, 100, … up to it are kept.",
    )
    batch_max: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Maximum number of prices in one batch."
    )
    body_max_bytes: int = Field(
        default=2 * 1024 * 1024,
        ge=1024,
        description="Largest request body, in bytes. A price takes up to 25.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Directory for the prices, one file per symbol. Without it the prices are lost "
        "when the service ends.",
    )
    durability: Durability = Field(
        default="process",
        description="What stored prices survive. process: the end of the process, even by kill -9. "
        "power: a power failure too, at the cost of a sync to disk per batch.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of processes. Each serves all symbols. More processes than cores "
        "do not help.",
    )
    log_level: LogLevel = Field(default="info", description="How much the server logs.")
    log_format: LogFormat = Field(
        default="human", description="Format of the log: for people, or JSON."
    )
    access_log: bool = Field(default=False, description="Log a line per request.")
    fast_lane: bool = Field(
        default=True,
        description="Answer plain requests without the web framework, some 20 times faster.",
    )
    request_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest time for a request to arrive completely, in seconds.",
    )
    root_path: str = Field(
        default="",
        pattern="^(/[^?#]*[^/?#])?$",
        description="Path prefix under which a proxy publishes the service.",
    )
    forwarded_allow_ips: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("127.0.0.1", "::1"),
        description="Addresses or networks of trusted proxies, separated by commas. Only their "
        "X-Forwarded-For and X-Forwarded-Proto are believed. * trusts every client.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="Key that every request must carry, 16 characters or more. Pass it in the "
        "variable: flags are visible to every user of the machine.",
    )
    in_flight_max: int = Field(
        default=1000,
        ge=1,
        description="Most requests in progress at once in one process. Further requests get 429.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins whose pages may read replies in a browser, separated by commas, such "
        "as https://desk.example.com. * allows every origin.",
    )
    ssl_certfile: Path | None = Field(
        default=None,
        description="Certificate chain (PEM) for https, the server's certificate first.",
    )
    ssl_keyfile: Path | None = Field(
        default=None,
        description="Private key (PEM) of the certificate, unless it is in the same file.",
    )
    ssl_keyfile_password: SecretStr | None = Field(
        default=None, description="Password of the private key, if it has one."
    )
    stream_connections_max: int = Field(
        default=1000,
        ge=1,
        description="Most WebSockets and event streams open at once in one process.",
    )
    stream_subscriptions_max: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Most streams that one WebSocket may subscribe to.",
    )
    stream_message_bytes_max: int = Field(
        default=65536,
        ge=1024,
        le=16 * 1024 * 1024,
        description="Largest message from a client on a WebSocket, in bytes.",
    )

    @field_validator("data_dir", "ssl_certfile", "ssl_keyfile", mode="before")
    @classmethod
    def _refuse_no_name(cls, value: object, info: ValidationInfo) -> object:
        # Path("") would be the current directory. An empty value is an unset variable.
        if value == "":
            kind = "directory" if info.field_name == "data_dir" else "file"
            raise PydanticCustomError("empty_path", f"must name a {kind} or not be given")
        return value

    @field_validator("data_dir", "ssl_certfile", "ssl_keyfile")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        # Environment files and service managers do not expand the tilde.
        return None if value is None else value.expanduser()

    @field_validator("api_key")
    @classmethod
    def _check_api_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not API_KEY.fullmatch(value.get_secret_value()):
            raise PydanticCustomError(
                "api_key", "must be 16 to 256 printable ASCII characters without spaces"
            )
        return value

    @field_validator("cors_origins", "forwarded_allow_ips", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(filter(None, (part.strip() for part in value.split(","))))

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise PydanticCustomError(
                    "origin",
                    "must be * or origins as browsers send them (https://host or "
                    "https://host:port, lower-case, nothing behind), separated by commas",
                )
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            try:
                if proxy != "*":
                    ip_network(proxy)
            except ValueError:
                raise PydanticCustomError(
                    "proxy",
                    "must be * or addresses and networks (192.0.2.7, 10.0.0.0/8, ::1), separated "
                    "by commas",
                ) from None
        return value

    @model_validator(mode="after")
    def _check_certificate(self) -> Self:
        if self.ssl_certfile is None and self.ssl_keyfile is not None:
            raise PydanticCustomError(
                "key_without_certificate",
                "`ssl_keyfile` needs `ssl_certfile`: there is no TLS without a certificate",
            )
        if self.ssl_certfile is None and self.ssl_keyfile_password is not None:
            raise PydanticCustomError(
                "password_without_certificate",
                "`ssl_keyfile_password` needs `ssl_certfile`: there is no TLS without a "
                "certificate",
            )
        return self

    @model_validator(mode="after")
    def _check_durability(self) -> Self:
        if self.durability == "power" and self.data_dir is None:
            raise PydanticCustomError(
                "durability_without_data_dir",
                "`durability` power needs `data_dir`: prices in memory survive no power failure",
            )
        return self


def unknown_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """Return the ``FDS_*`` variables that nothing reads, each with the name that may be meant.

    Parameters
    ----------
    environment : mapping of str to str
        Names and values. The values are not read.

    Returns
    -------
    dict of str to str or None
        In the order of the names. None if no known name is similar.
    """
    prefix = str(Settings.model_config["env_prefix"])
    settings = [f"{prefix}{field}".upper() for field in Settings.model_fields]
    known = {*settings, *_OTHER_VARIABLES}
    unknown = [
        name
        for name in sorted(environment)
        # The names of settings are case-insensitive.
        if name.upper().startswith(prefix) and name.upper() not in known
    ]
    return {
        name: next(iter(difflib.get_close_matches(name.upper(), settings, 1, 0.7)), None)
        for name in unknown
    }
