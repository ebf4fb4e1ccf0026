"""The one JSON encoder of all replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["encode"]

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
