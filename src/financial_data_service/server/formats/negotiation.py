"""The ``Accept`` header: the preferred one of the available media types.

RFC 9110, 12.5.1: a list of media ranges, each with a weight from 0 (not acceptable) to 1. If
several ranges match a type, the most specific one is used. Parameters other than the weight are
ignored, because the offered types have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["best_type"]

# Possessive quantifiers (``*+``) do not backtrack, so every header is read in linear time.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?$)', re.DOTALL)
_RANGE = re.compile(rf"\s*+({_TOKEN})/({_TOKEN})\s*+(?:;|$)")
_WEIGHT = re.compile(r";\s*+q\s*+=\s*+([^;\s]*+)\s*+(?=;|$)", re.IGNORECASE)
_QVALUE = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


class _MediaRange(NamedTuple):
    kind: str
    subtype: str
    weight: float

    def specificity(self, media_type: str) -> int:
        """Return how specifically the range matches a type.

        2 for an exact match, 1 for ``type/*``, 0 for ``*/*``, -1 for no match.
        """
        kind, _, subtype = media_type.partition("/")
        if (self.kind, self.subtype) == (kind, subtype):
            return 2
        if self.subtype != "*":
            return -1
        return {kind: 1, "*": 0}.get(self.kind, -1)


def best_type(accept: str | None, offered: Sequence[str]) -> str | None:
    """Return the type that a client prefers.

    Parameters
    ----------
    accept : str or None
        The header; several are joined by commas. Without one, or with an empty one, every type is
        acceptable. Malformed parts are ignored.
    offered : sequence of str
        Media types in lower case. Of equally preferred types the first is returned.

    Returns
    -------
    str or None
        None if none of them is acceptable.
    """
    if accept is None or not accept.strip():
        return offered[0]
    # Quoted text belongs to ignored parameters, and may contain commas.
    items = _QUOTED.sub("", accept).split(",")
    ranges = [each for each in map(_parsed, items) if each]
    weights = [_weight(ranges, media_type) for media_type in offered]
    best = max(weights)
    return offered[weights.index(best)] if best > 0 else None


def _weight(ranges: list[_MediaRange], media_type: str) -> float:
    matching = [(each.specificity(media_type), each.weight) for each in ranges]
    specificity, weight = max(matching, default=(-1, 0.0))
    return weight if specificity >= 0 else 0.0


def _parsed(item: str) -> _MediaRange | None:
    match = _RANGE.match(item)
    if match is None:
        return None
    kind, subtype = match[1].lower(), match[2].lower()
    if kind == "*" and subtype != "*":
        return None
    weight = _WEIGHT.search(item)
    if weight is None:
        return _MediaRange(kind, subtype, 1.0)
    return _MediaRange(kind, subtype, float(weight[1])) if _QVALUE.fullmatch(weight[1]) else None
