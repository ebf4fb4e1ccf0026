"""Updates of a stream, as a client receives them."""

from __future__ import annotations

from financial_data_service.client import Update

__all__ = ["update"]


def update(symbol: str, k: int, sequence: int, price: float = 2.0) -> Update:
    """Return an update whose window holds the same price over and over, but for its variance."""
    return Update(
        symbol=symbol,
        k=k,
        window=10**k,
        min=price,
        max=price,
        last=price,
        avg=price,
        var=2.25,
        values=min(sequence, 10**k),
        sequence=sequence,
        stream=f"stats.{symbol}.{k}",
        is_snapshot=False,
    )
