"""Request and reply bodies as Pydantic models.

Request models are validated from the bytes, strictly: a price is a JSON number, not a string or a
boolean. The engine alone checks three limits: the value of a price (finite, of limited magnitude),
the size of a batch, and the name of a symbol. Reply models only document;
:mod:`~financial_data_service.server.api.replies` encodes the replies.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

__all__ = [
    "AddBatchReply",
    "AddBatchRequest",
    "AllStatsReply",
    "ConflictReply",
    "DegradedReply",
    "DeleteReply",
    "ErrorReply",
    "HealthReply",
    "InvalidRequestReply",
    "StatsReply",
    "SymbolStatsReply",
    "SymbolsReply",
    "ValuesBatch",
    "ValuesReply",
    "VerifyReply",
]

_Sequence = Annotated[int, Field(description="Prices ever appended to the symbol.")]
_Name = Annotated[str, Field(examples=["AAPL"])]


class AddBatchRequest(BaseModel):
    """A batch of trading prices of one symbol."""

    # An unknown key may be a misspelt `from_sequence`, without which a retry stores prices twice.
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"example": {"symbol": "AAPL", "values": [189.5, 189.7, 189.6]}},
    )

    symbol: str = Field(
        description="1 to 128 characters, any Unicode but control characters.",
        json_schema_extra={"minLength": 1, "maxLength": 128},
    )
    # Stop at the first invalid value. An array of strings can have 700,000 invalid values, and
    # listing them would delay all other requests for seconds.
    values: Annotated[list[float], FailFast()] = Field(
        description="Prices, oldest first: finite numbers of magnitude 1e150 at most.",
    )
    from_sequence: int | None = Field(
        None,
        ge=0,
        description="Number of prices appended to the symbol before this batch. It makes a retry "
        "safe: prices that are stored already are compared and not added again.",
    )


class ValuesBatch(BaseModel):
    """A batch of trading prices for the symbol in the path."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"example": {"values": [189.5, 189.7, 189.6], "from_sequence": 0}},
    )

    values: Annotated[list[float], FailFast()] = Field(
        description="Prices, oldest first: finite numbers of magnitude 1e150 at most.",
    )
    from_sequence: int | None = Field(
        None, ge=0, description="As the parameter of the query, which must not contradict it."
    )


class AddBatchReply(BaseModel):
    """The result of adding a batch."""

    status: Literal["success"] = "success"
    message: Annotated[str, Field(examples=["Added batch for symbol: AAPL"])]
    symbol: _Name
    added: Annotated[int, Field(description="Prices added by this request.", examples=[3])]
    sequence: Annotated[_Sequence, Field(examples=[3])]


class WindowReply(BaseModel):
    """Statistics of one window of one symbol, all windows ending at its newest price."""

    k: Annotated[int | None, Field(description="Exponent of the window; null with `last`.")]
    window: Annotated[int, Field(description="Prices asked for: 10^k, or `last`.")]
    min: float
    max: float
    last: float
    avg: Annotated[float, Field(description="Mean, within 1 unit of the last place.")]
    var: Annotated[float, Field(description="Population variance, within 1e-14 relative.")]
    values: Annotated[int, Field(description="Prices in the window; fewer while it fills.")]


class StatsReply(WindowReply):
    """Statistics of one window of one symbol."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "symbol": "AAPL",
                "k": 1,
                "window": 10,
                "min": 189.5,
                "max": 189.7,
                "last": 189.6,
                "avg": 189.6,
                "var": 0.006666666666665909,
                "values": 3,
                "sequence": 3,
            }
        }
    )

    symbol: _Name
    sequence: _Sequence


class SymbolStatsReply(BaseModel):
    """Statistics of the windows of one symbol, all at one sequence."""

    symbol: _Name
    sequence: _Sequence
    stats: list[WindowReply]


class AllStatsReply(BaseModel):
    """Statistics of the windows of every symbol."""

    symbols: list[SymbolStatsReply]


class ValuesReply(BaseModel):
    """The last prices of one symbol."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "symbol": "AAPL",
                "sequence": 3,
                "first": 0,
                "values": [189.5, 189.7, 189.6],
            }
        }
    )

    symbol: _Name
    sequence: _Sequence
    first: Annotated[
        int,
        Field(description="How many prices came before the first of these: its `from_sequence`."),
    ]
    values: Annotated[list[float], Field(description="Prices, oldest first, to the bit.")]


class Numbers(BaseModel):
    """The five numbers of a window; null for NaN and infinity, which only damage can cause."""

    min: float | None
    max: float | None
    last: float | None
    avg: float | None
    var: float | None


class VerifyReply(BaseModel):
    """A served window beside the recomputed one, both at one sequence."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "symbol": "AAPL",
                "k": 1,
                "window": 10,
                "values": 3,
                "sequence": 3,
                "equal": True,
                "served": {
                    "min": 189.5,
                    "max": 189.7,
                    "last": 189.6,
                    "avg": 189.6,
                    "var": 0.006666666666665909,
                },
                "recomputed": {
                    "min": 189.5,
                    "max": 189.7,
                    "last": 189.6,
                    "avg": 189.6,
                    "var": 0.006666666666665909,
                },
            }
        }
    )

    symbol: _Name
    k: Annotated[int, Field(description="Exponent of the window.")]
    window: Annotated[int, Field(description="Prices asked for: 10^k.")]
    values: Annotated[int, Field(description="Prices in the window; fewer while it fills.")]
    sequence: _Sequence
    equal: Annotated[
        bool,
        Field(
            description="Whether min, max and last are the same, avg within 1 unit of the last "
            "place of the exact mean, and var within 1e-14."
        ),
    ]
    served: Annotated[Numbers, Field(description="What `GET /stats/{symbol}/{k}` answers.")]
    recomputed: Annotated[Numbers, Field(description="What the prices say, read one by one.")]


class SymbolReply(BaseModel):
    """A symbol and how much is held of it."""

    symbol: _Name
    sequence: _Sequence
    values: Annotated[int, Field(description="Prices in the largest window.")]


class SymbolsReply(BaseModel):
    """The symbols of the service, and its limits."""

    symbols: list[SymbolReply]
    max_symbols: Annotated[int, Field(examples=[10])]
    largest_window: Annotated[int, Field(examples=[100_000_000])]
    batch_max: Annotated[int, Field(examples=[10_000])]


class DeleteReply(BaseModel):
    """A symbol was deleted."""

    status: Literal["success"] = "success"
    message: Annotated[str, Field(examples=["Deleted symbol: AAPL"])]


class HealthReply(BaseModel):
    """The service is alive."""

    status: Literal["ok"] = "ok"


class RefusedFile(BaseModel):
    """A file of the data directory that cannot be served."""

    file: Annotated[str, Field(examples=["AAPL.ring"])]
    reason: str


class DegradedReply(BaseModel):
    """The service is ready, but cannot serve some files of its data directory."""

    status: Literal["degraded"] = "degraded"
    refused: list[RefusedFile]


class ErrorReply(BaseModel):
    """Why a request was refused, in one sentence."""

    detail: str


class ConflictReply(ErrorReply):
    """Why a batch does not match the stored prices, and where the next one would start."""

    sequence: _Sequence


class ErrorItem(BaseModel):
    """One thing that is wrong with a request, and where."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any = None


class InvalidRequestReply(BaseModel):
    """What is wrong with a request: a sentence, or a list of places."""

    detail: str | list[ErrorItem]
