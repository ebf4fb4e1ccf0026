"""File names of symbols. Every symbol has a valid file name, including ``../x`` and emoji.

The name is the percent-encoded symbol and ``.ring``. A leading dot is encoded too, so that no file
is hidden. A name that is too long for file systems is cut and made unique by a hash. The header of
the file contains the whole symbol, so names are never decoded.
"""

from __future__ import annotations

from urllib.parse import quote

import xxhash

__all__ = ["SUFFIX", "file_name_of"]

SUFFIX = ".ring"

_ENCODED_MAX = 200  # of the 255 bytes that file systems of Linux allow; the rest is for suffixes


def file_name_of(symbol: str) -> str:
    """Return the name of a symbol's file. Different symbols have different names.

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
