"""The parameters that several routes take from an address: the symbol, ``k`` and ``last``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query
from pydantic import BeforeValidator
from pydantic_core import PydanticKnownError

from financial_data_service.server.api.symbol_path import symbol_in_path

__all__ = ["Integer", "PathK", "PathSymbol", "QueryK", "QueryLast"]

_K = "Exponent of the window: the last 10^k prices."


def _without_point(text: object) -> object:
    if isinstance(text, str) and "." in text:
        raise PydanticKnownError("int_parsing")
    return text


Integer = Annotated[int, BeforeValidator(_without_point)]
"""An integer in an address. Pydantic alone would take ``1.0`` for 1."""

PathSymbol = Annotated[str, Depends(symbol_in_path)]
PathK = Annotated[Integer, Path(description=_K, examples=[3])]
QueryK = Annotated[Integer | None, Query(description=_K, examples=[3])]
QueryLast = Annotated[
    Integer | None,
    Query(description="Length of the window, any number of prices.", examples=[2500]),
]
