"""The OpenAPI description of the bulk routes.

It has their request bodies and replies, with an example of each format.

Bytes are shown in hexadecimal: an example is text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from financial_data_service.server.api import schemas
from financial_data_service.server.api.openapi import Replies, batch_replies, example, stats_replies
from financial_data_service.settings import Settings
from financial_data_service.wire import ARROW_TYPE, FLOAT64_TYPE, JSON_TYPE

__all__ = ["bulk_batch_body", "bulk_batch_replies", "values_replies"]

_PRICES = [189.5, 189.7, 189.6]
_BINARY = {"type": "string", "format": "binary"}
_ARROW_PRODUCERS = "pyarrow.ipc.new_stream, polars.DataFrame.write_ipc_stream"


def bulk_batch_body(settings: Settings) -> dict[str, Any]:
    """Return the documentation of what `POST /add_batch/{symbol}` takes."""
    numbers = {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 1,
        "maxItems": settings.batch_max,
    }
    wrapped = schemas.ValuesBatch.model_json_schema()
    wrapped["properties"]["values"] |= {"minItems": 1, "maxItems": settings.batch_max}
    return {
        "required": True,
        "content": {
            FLOAT64_TYPE: {"schema": _BINARY, "examples": _float64_examples()},
            ARROW_TYPE: {"schema": _BINARY, "examples": _arrow_examples()},
            JSON_TYPE: {
                "schema": {"oneOf": [numbers, wrapped]},
                "examples": {
                    "array": {"summary": "Prices alone", "value": _PRICES},
                    "object": {
                        "summary": "With the number of prices before them",
                        "value": {"values": _PRICES, "from_sequence": 0},
                    },
                },
            },
        },
    }


def bulk_batch_replies(settings: Settings) -> Replies:
    """Return the documentation of what `POST /add_batch/{symbol}` may answer but 201."""
    not_taken = (
        f"Expected `Content-Type: {FLOAT64_TYPE}`, `{ARROW_TYPE}` or `{JSON_TYPE}`, got `text/csv`"
    )
    message = "Expected a finite price of magnitude 1e+150 at most, got nan - at `values[3]`"
    invalid = {
        "detail": [
            {
                "type": "invalid_batch",
                "loc": ["body", "values", 3],
                "msg": message,
                "input": None,
            }
        ]
    }
    return batch_replies(settings) | {
        415: example(
            schemas.ErrorReply,
            "The body is none of the three types, or compressed",
            {"detail": not_taken},
        ),
        422: example(
            schemas.InvalidRequestReply, "The batch is invalid; nothing was added", invalid
        ),
    }


def values_replies(settings: Settings) -> Replies:
    """Return the documentation of what `GET /values/{symbol}` answers."""
    count = {"schema": {"type": "integer"}}
    found = {
        "description": "The prices, in the format that was asked for",
        "headers": {
            "X-Sequence": {"description": "Prices ever appended to the symbol."} | count,
            "X-First": {"description": "How many prices came before the first of these."} | count,
        },
        "content": {
            JSON_TYPE: {},
            "text/csv": {
                "schema": {"type": "string"},
                "example": "sequence,price\n0,189.5\n1,189.7\n2,189.6\n",
            },
            FLOAT64_TYPE: {"schema": _BINARY, "examples": _float64_examples()},
            ARROW_TYPE: {"schema": _BINARY, "examples": _arrow_examples()},
        },
    }
    not_there = (
        f"Expected `Accept` of one of {JSON_TYPE}, text/csv, {FLOAT64_TYPE}, {ARROW_TYPE}, "
        "got `text/html`"
    )
    overwritten = (
        "Prices 100,000 to 109,999 of symbol AAPL were overwritten by newer ones while they were "
        "read"
    )
    largest = settings.largest_window
    too_many = f"Window size (last={largest + 1}) must be between 1 and {largest}"
    return stats_replies(settings) | {
        200: found,
        406: example(
            schemas.ErrorReply, "None of the formats is acceptable", {"detail": not_there}
        ),
        422: example(
            schemas.InvalidRequestReply, "So many prices are never kept", {"detail": too_many}
        ),
        503: example(
            schemas.ErrorReply,
            "The symbol's file cannot be used, or its prices are overwritten faster than read",
            {"detail": overwritten},
        ),
    }


def _float64_examples() -> dict[str, Any]:
    shown = np.array(_PRICES, dtype="<f8").tobytes().hex(" ", 8)
    return {
        "prices": {
            "summary": f"The prices {_PRICES}, their 24 bytes in hexadecimal",
            "description": "`numpy.array(prices).tobytes()`, and back by `numpy.frombuffer`.",
            "value": shown,
        }
    }


def _arrow_examples() -> dict[str, Any]:
    return {
        "prices": {
            "summary": "How a stream begins, in hexadecimal",
            "description": f"Written by {_ARROW_PRODUCERS}; read by their counterparts.",
            "value": "ffffffff 78000000 …",
        }
    }
