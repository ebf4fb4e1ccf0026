"""Names of symbols: any text is one, or is refused for its length or a character.

The cases of ``engine/test_symbol_manager.py`` go through ``check_symbol`` too.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from financial_data_service.errors import InvalidSymbolError
from financial_data_service.symbols import check_symbol


@given(st.text(st.characters(), max_size=140))
def test_any_text_is_a_name_or_is_refused(symbol: str) -> None:
    control = any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in symbol)
    if control or not 1 <= len(symbol) <= 128:
        with pytest.raises(InvalidSymbolError):
            check_symbol(symbol)
    else:
        check_symbol(symbol)
        symbol.encode()
