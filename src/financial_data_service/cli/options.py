"""Options which several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["DEFAULT_URL", "Url"]

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[
    str, typer.Option("--url", envvar="FDS_URL", metavar="URL", help="Where the service is.")
]
