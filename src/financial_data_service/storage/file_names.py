"""Symbols as names of files: any symbol is fit, ``../x`` and emoji too.

A name is the percent-encoded symbol and ``.ring``; a leading dot is encoded as well, so that no
file is hidden. Where that is longer than file systems take, it is cut and told apart by a hash. The
file's header holds the whole symbol, so nothing is ever decoded from a name.
"""

from __future__ import annotations

from urllib.parse import quote

import xxhash

__all__ = ["SUFFIX", "file_name_of"]

SUFFIX = ".ring"

_ENCODED_MAX = 200  # of the 255 bytes that Linux's file systems take, with room for what is added


def file_name_of(symbol: str) -> str:
    """Return the name of a symbol's file; different symbols have different ones.

    Examples
    --------
    >>> file_name_of("BTC/USDT")
    'BTC%2FUSDT.ring'
    """
    encoded = quote(symbol, safe="", errors="surrogatepass")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) > _ENCODED_MAX:
        digest = xxhash.xxh3_128_hexdigest(symbol.encode("utf-8", "surrogatepass"))
        # quote() never writes a bare "%-", so no shorter symbol can have this name.
        encoded = f"{encoded[:100]}%-{digest}"
    return encoded + SUFFIX
