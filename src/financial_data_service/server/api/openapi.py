"""The replies of the routes for the OpenAPI document: status, shape and an example of each.

The examples contain the limits of the current settings.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from financial_data_service.server.api import schemas
from financial_data_service.settings import Settings
from financial_data_service.windows import k_max_of

__all__ = [
    "Replies",
    "batch_replies",
    "delete_replies",
    "events_replies",
    "example",
    "ready_replies",
    "stats_replies",
    "symbols_replies",
    "verify_replies",
]

Replies: TypeAlias = dict[int | str, dict[str, Any]]

_DAMAGED = "the header's checksum does not match: its fixed part is damaged"

_STORED = {
    "status": "success",
    "message": "Batch already stored for symbol: AAPL",
    "symbol": "AAPL",
    "added": 0,
    "sequence": 3,
}
_CONFLICT = {
    "detail": "Expected from_sequence of at most 3 for symbol AAPL, got 5: the prices between "
    "are missing",
    "sequence": 3,
}
_INVALID = {
    "detail": [
        {
            "type": "float_type",
            "loc": ["body", "values", 3],
            "msg": "Input should be a valid number",
            "input": "189.5",
        }
    ]
}


def batch_replies(settings: Settings) -> Replies:
    """Return the documentation of what `POST /add_batch/` may answer but 201."""
    limit_reached = f"Maximum number of symbols ({settings.max_symbols}) reached"
    too_large = (
        f"Expected a body of {settings.body_max_bytes} bytes at most; send fewer values in a batch"
    )
    return {
        200: example(
            schemas.AddBatchReply, "The batch is stored already; nothing was added", _STORED
        ),
        400: example(
            schemas.ErrorReply, "The limit of symbols is reached", {"detail": limit_reached}
        ),
        409: example(
            schemas.ConflictReply,
            "The batch differs from what is stored, or leaves a gap",
            _CONFLICT,
        ),
        413: example(schemas.ErrorReply, "The body is too large", {"detail": too_large}),
        415: example(
            schemas.ErrorReply,
            "The body is not declared to be JSON",
            {"detail": "Expected `Content-Type: application/json`, got `text/plain`"},
        ),
        422: example(
            schemas.InvalidRequestReply, "The batch is invalid; nothing was added", _INVALID
        ),
        503: _refused_file(),
        507: example(
            schemas.ErrorReply,
            "There is no memory for another symbol",
            {"detail": "No memory for a symbol of 837017600 bytes: Cannot allocate memory"},
        ),
    }


def stats_replies(settings: Settings) -> Replies:
    """Return the documentation of what the routes of statistics may answer but 200."""
    k_max = k_max_of(settings.largest_window)
    return {
        404: example(
            schemas.ErrorReply, "There is no such symbol", {"detail": "Symbol AAPL not found"}
        ),
        422: example(
            schemas.InvalidRequestReply,
            "There is no such window",
            {"detail": f"Window size exponent (k={k_max + 1}) must be between 1 and {k_max}"},
        ),
        503: _refused_file(),
    }


def events_replies(settings: Settings, full: str) -> Replies:
    """Return the documentation of what `GET /stats/{symbol}/{k}/events` may answer.

    Parameters
    ----------
    settings : Settings
        Of the service.
    full : str
        The error message for too many streams.
    """
    event = (
        'event: stats\ndata: {"symbol":"AAPL","k":1,"window":10,"min":189.5,"max":189.7,'
        '"last":189.6,"avg":189.6,"var":0.006666666666665909,"values":3,"sequence":3}\nid: 3\n\n'
    )
    return stats_replies(settings) | {
        200: {
            "description": "Events, as long as symbol, server and client are there",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": event}},
        },
        503: example(
            schemas.ErrorReply,
            "The symbol's file cannot be used, or there are too many streams",
            {"detail": full},
        ),
    }


def verify_replies(settings: Settings) -> Replies:
    """Return the documentation of what `GET /verify/{symbol}/{k}` may answer but 200."""
    overwritten = (
        "Prices 100,000 to 109,999 of symbol AAPL were overwritten by newer ones while they were "
        "read"
    )
    return stats_replies(settings) | {
        503: example(
            schemas.ErrorReply,
            "The symbol's file cannot be used, or its prices are overwritten faster than read",
            {"detail": overwritten},
        )
    }


def ready_replies() -> Replies:
    """Return the documentation of what `GET /readyz` answers, in both shapes."""
    degraded = {
        "status": "degraded",
        "refused": [{"file": "AAPL.ring", "reason": _DAMAGED}],
    }
    return {
        200: {
            "description": "Requests are served. Files that cannot be served are listed",
            "content": {
                "application/json": {
                    "examples": {
                        "ok": {"summary": "All is well", "value": {"status": "ok"}},
                        "degraded": {"summary": "A file is refused", "value": degraded},
                    }
                }
            },
        }
    }


def symbols_replies() -> Replies:
    """Return the documentation of what `GET /symbols` may answer but 200."""
    unknown = {
        "detail": [
            {
                "type": "query_key_unknown",
                "loc": ["query", "symbol"],
                "msg": "Expected no query, got `symbol`",
                "input": None,
            }
        ]
    }
    return {422: example(schemas.InvalidRequestReply, "There is a query", unknown)}


def delete_replies() -> Replies:
    """Return the documentation of what `DELETE /symbols/{symbol}` may answer but 200."""
    return {
        404: example(
            schemas.ErrorReply, "There is no such symbol", {"detail": "Symbol AAPL not found"}
        ),
        422: example(
            schemas.InvalidRequestReply,
            "No symbol can have that name",
            {
                "detail": [
                    {
                        "type": "invalid_symbol",
                        "loc": ["path", "symbol"],
                        "msg": "Expected a symbol of 1 to 128 characters, got 200 - at `symbol`",
                        "input": None,
                    }
                ]
            },
        ),
        503: _refused_file(),
    }


def _refused_file() -> dict[str, Any]:
    return example(
        schemas.ErrorReply,
        "The symbol's file cannot be used; other symbols can",
        {"detail": f"/var/lib/fds/AAPL.ring: {_DAMAGED}"},
    )


def example(model: type, description: str, example: object) -> dict[str, Any]:
    """Return the documentation of an error reply."""
    return {
        "model": model,
        "description": description,
        "content": {"application/json": {"example": example}},
    }
