"""What the name of a symbol may be. Loads nothing: quick commands import it.

Case matters: ``aapl`` and ``AAPL`` are two symbols.
"""

from __future__ import annotations

import re

from financial_data_service.errors import InvalidSymbolError

__all__ = ["SYMBOL_LENGTH_MAX", "check_symbol"]

SYMBOL_LENGTH_MAX = 128

# C0 and C1 controls and DEL would break logs and terminals; surrogates have no UTF-8 form.
_INVALID_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_symbol(symbol: str) -> None:
    """Check the name of a symbol: 1 to 128 characters, none of them a control character.

    Raises
    ------
    InvalidSymbolError
        When it is not. The message says which character is invalid, or the length.
    """
    if not isinstance(symbol, str):
        raise InvalidSymbolError(f"Expected `str`, got `{type(symbol).__name__}` - at `symbol`")
    if not 1 <= len(symbol) <= SYMBOL_LENGTH_MAX:
        raise InvalidSymbolError(
            f"Expected a symbol of 1 to {SYMBOL_LENGTH_MAX} characters, got {len(symbol)} "
            "- at `symbol`"
        )
    invalid = _INVALID_CHARACTER.search(symbol)
    if invalid:
        raise InvalidSymbolError(
            f"Expected a symbol without control characters, got U+{ord(invalid[0]):04X} "
            f"- at `symbol[{invalid.start()}]`"
        )
