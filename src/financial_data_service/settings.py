"""Settings of the service: defaults, ``FDS_*`` environment variables, and flags on top of both.

Invariant: a :class:`Settings` object is valid as a whole or does not exist; nothing downstream
checks a setting again.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["LogLevel", "Settings"]

LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]


class Settings(BaseSettings):
    """What can be set, each by flag (``--max-symbols``) or environment (``FDS_MAX_SYMBOLS``).

    Raises
    ------
    pydantic.ValidationError
        When a value is of the wrong type or out of its range; the error names the field.
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
