"""Settings of the service: defaults, ``FDS_*`` environment variables, and flags on top of both.

Invariant: a :class:`Settings` object is valid as a whole or does not exist; nothing downstream
checks a setting again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Durability", "LogLevel", "Settings"]

Durability = Literal["process", "power"]
LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]


class Settings(BaseSettings):
    """What can be set, each by flag (``--max-symbols``) or environment (``FDS_MAX_SYMBOLS``).

    Raises
    ------
    pydantic.ValidationError
        When a value is of the wrong type or out of its range; the error names the field. When
        two do not go together; the message names both, in backquotes.
    """

    model_config = SettingsConfigDict(env_prefix="FDS_", extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )
    max_symbols: int = Field(default=10, ge=1, description="Number of symbols kept at most.")
    largest_window: int = Field(
        default=10**8,
        ge=10,
        le=10**8,
        description="Longest window in prices; windows of 10, 100, … up to it are kept.",
    )
    batch_max: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Prices in one batch at most."
    )
    body_max_bytes: int = Field(
        default=2 * 1024 * 1024,
        ge=1024,
        description="Size of a request body at most, in bytes; a price takes up to 25.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Directory to keep prices in, one file per symbol; without it they are gone "
        "when the service ends.",
    )
    durability: Durability = Field(
        default="process",
        description="What stored prices survive: an end of the process, even kill -9, or a power "
        "failure too, which costs a sync to disk per batch.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that serve side by side, each all symbols; more than there are "
        "cores gain nothing.",
    )
    log_level: LogLevel = Field(default="info", description="How much the server logs.")
    access_log: bool = Field(default=False, description="Log a line per request.")
    fast_lane: bool = Field(
        default=True, description="Answer plain requests before the framework is asked."
    )
    request_seconds: float = Field(
        default=30.0, gt=0, description="Time a request may take to arrive, in seconds."
    )
    root_path: str = Field(
        default="",
        pattern="^(/[^?#]*[^/?#])?$",
        description="Path prefix under which a proxy publishes the service.",
    )

    @field_validator("data_dir", mode="before")
    @classmethod
    def _refuse_no_name(cls, value: object) -> object:
        # To Path it would be the current directory; to whoever wrote $UNSET it would be no prices.
        if value == "":
            raise PydanticCustomError("empty_path", "must name a directory or not be given")
        return value

    @field_validator("data_dir")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        # Environment files and service managers leave the tilde to the program.
        return None if value is None else value.expanduser()

    @model_validator(mode="after")
    def _check_durability(self) -> Self:
        if self.durability == "power" and self.data_dir is None:
            raise PydanticCustomError(
                "durability_without_data_dir",
                "`durability` power needs `data_dir`: prices in memory survive no power failure",
            )
        return self
