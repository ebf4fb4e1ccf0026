"""What the code does not know of its errors: why each occurs, and what to do."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["AT_THE_START", "CURES", "REPLIES", "Row"]


class Row(NamedTuple):
    """Messages of one kind, with ``…`` for what varies in them."""

    status: str
    messages: tuple[str, ...]
    cause: str
    cure: str


REPLIES = [
    Row(
        "400",
        ("Maximum number of symbols (…) reached…",),
        "The batch would create a symbol beyond `--max-symbols`. Files that cannot be served count "
        "too.",
        "Delete a symbol, or start the service with a larger `--max-symbols`.",
    ),
    Row(
        "400",
        ("Expected the whole body, got a part of it",),
        "The client ended its request before the end of the body.",
        "Send the whole body; check `Content-Length`.",
    ),
    Row(
        "400",
        ("Expected a valid HTTP request",),
        "The bytes are not HTTP/1.1. The connection is closed.",
        "Check that the client speaks `http` to an `http` service, and `https` to an `https` one.",
    ),
    Row(
        "401",
        ("Expected the API key as `X-API-Key: …` or `Authorization: Bearer …`, got …",),
        "The service has an API key (`FDS_API_KEY`), and the request has none or another one.",
        "Send the key in one of the two headers; for streams in a browser, as `?api_key=…`.",
    ),
    Row(
        "403",
        ("Expected a page of this service or of one of the origins that are allowed",),
        "A web page of another origin opened a WebSocket.",
        "Name the page's origin in `--cors-origins`, or let the proxy pass `Host` on unchanged.",
    ),
    Row(
        "404",
        ("Symbol … not found",),
        "No batch was ever added to the symbol, or the symbol was deleted.",
        "Check the spelling with `GET /symbols`; percent-encode the symbol in a path.",
    ),
    Row(
        "406",
        ("Expected `Accept` of one of …, got `…`",),
        "`GET /values` has no format that the request accepts.",
        "Accept one of the named types, or use `?format=`.",
    ),
    Row(
        "408",
        ("Expected the whole request within … seconds",),
        "The request did not arrive completely in time. The connection is closed.",
        "Send again; on a slow line send smaller batches, or raise `--request-seconds`.",
    ),
    Row(
        "409",
        ("Expected … as stored for symbol … at sequence …, got … - at `values[…]`",),
        "The symbol has other prices at the place that `from_sequence` names.",
        "Somebody else added prices, or the batch is another one. Continue from the reply's "
        "`sequence`. For `fds load`: `--append` puts the file behind the symbol's prices.",
    ),
    Row(
        "409",
        (
            "Expected from_sequence of at most … for symbol …, got …: the prices between are "
            "missing",
        ),
        "`from_sequence` leaves a gap: an earlier batch is missing.",
        "Send the missing prices first, from the reply's `sequence` on.",
    ),
    Row(
        "409",
        (
            "Expected from_sequence of at least … for symbol …, got …: older prices are no longer "
            "held and cannot be compared",
        ),
        "The prices at `from_sequence` have left the ring.",
        "They were stored long ago. Continue from the reply's `sequence`.",
    ),
    Row(
        "413",
        ("Expected a body of … bytes at most; send fewer values in a batch",),
        "The body is larger than `--body-max-bytes`.",
        "Send smaller batches, or float64 instead of JSON.",
    ),
    Row(
        "415",
        ("Expected `Content-Type: application/json`, got …",),
        "The body is not declared as JSON, whatever it contains. Otherwise a web page elsewhere "
        "could post prices through a browser.",
        "Send `Content-Type: application/json`.",
    ),
    Row(
        "415",
        ("Expected `Content-Type: …`, `…` or `…`, got …",),
        "`POST /add_batch/{symbol}` takes float64, Arrow streams and JSON.",
        "Declare one of the three types.",
    ),
    Row(
        "415",
        (
            "Expected a body without Content-Encoding",
            "Expected an Arrow stream without compression, got one with compressed buffers",
        ),
        "The body, or a buffer in it, is compressed.",
        "Send it uncompressed.",
    ),
    Row(
        "422",
        (
            "Expected a finite price of magnitude … at most, got … - at `values[…]`",
            "Expected `float`, got null - at `values[…]`",
        ),
        "A price is NaN, infinite, null, or larger than 1e150; `index` or `loc` says which.",
        "Remove it. Nothing of the batch was stored.",
    ),
    Row(
        "422",
        (
            "Expected 1 or more prices, got 0 - at `values`",
            "Expected 1 to … prices, got … - at `values`",
        ),
        "The batch is empty, or longer than `--batch-max`.",
        "Split it, or raise `--batch-max` for new data directories.",
    ),
    Row(
        "422",
        ("Expected a body of float64, … bytes each, got … bytes - at `body`",),
        "The body is not a whole number of float64.",
        "Send 8 bytes a price, little-endian.",
    ),
    Row(
        "422",
        (
            "Expected one column, or one of several named …, got … - at `body`",
            "Expected a column of float64, other floats or integers, got … - at column `…`",
        ),
        "The Arrow stream is valid, but the service cannot tell which column holds the prices, or "
        "the column does not hold numbers.",
        "Name the column `price`, or send only that column; cast it to float64.",
    ),
    Row(
        "422",
        ("Expected an Arrow IPC stream, got an Arrow file (Feather) - at `body`",),
        "The body has Arrow's file format.",
        "Write a stream: `pyarrow.ipc.new_stream`, `polars.DataFrame.write_ipc_stream`.",
    ),
    Row(
        "422",
        (
            "Expected a symbol of 1 to … characters, got … - at `symbol`",
            "Expected a symbol without control characters, got U+… - at `symbol[…]`",
        ),
        "No symbol can have this name.",
        "Choose another name.",
    ),
    Row(
        "422",
        (
            "Window size exponent (k=…) must be between 1 and …",
            "Window size (last=…) must be between 1 and …",
        ),
        "The window is longer than `--largest-window`, or shorter than one price.",
        "Ask for a window in the range.",
    ),
    Row(
        "422",
        ("Expected either k or last, got both (k=…, last=…)",),
        "`k` and `last` both name a window.",
        "Send one of them.",
    ),
    Row(
        "422",
        ("Expected …, got `…`", "Expected `…` once, got it … times"),
        "The query has a key that the route does not know, or a key twice. A misspelt "
        "`from_sequence` would lose its protection unnoticed.",
        "Correct the key. `from_sequence` of `POST /add_batch/` belongs into the body.",
    ),
    Row(
        "426",
        ("Expected a WebSocket handshake; …",),
        "A plain `GET` asked for a WebSocket's route.",
        "Open a WebSocket, or use the route that the message names.",
    ),
    Row(
        "429",
        ("Expected … requests under way at most; ask again later",),
        "`--in-flight-max` requests are in progress in the process.",
        "Wait for `Retry-After` and send again; raise `--in-flight-max`.",
    ),
    Row(
        "431",
        ("Expected a request head of … bytes at most",),
        "The request line and headers are larger than 64 KiB. The connection is closed.",
        "Send smaller headers.",
    ),
    Row(
        "503",
        ("expected … bytes, got …: it was …",),
        "The symbol's file cannot be used. The message is its path and the reason, for instance "
        "this one. Other symbols are served.",
        "`/readyz` lists such files. See "
        "[a file that cannot be used](../how-to/back-up.md#a-file-that-cannot-be-used).",
    ),
    Row(
        "503",
        (
            "another process holds its lock and does not give it back; nothing was written",
            "cannot be opened now (…); a higher `ulimit -n` helps",
        ),
        "The symbol's file is sound, but cannot be used at the moment.",
        "Send again. If it persists, find the process that holds the file, or raise `ulimit -n`.",
    ),
    Row(
        "503",
        ("the disk fails (…): nothing of the batch was stored",),
        "The disk reported an error while the batch was written.",
        "Check the disk. Stored prices can be read.",
    ),
    Row(
        "503",
        ("Expected … streams at most in this process; try again later",),
        "`--stream-connections-max` WebSockets and event streams are open.",
        "Wait for `Retry-After`; raise the setting.",
    ),
    Row(
        "507",
        ("No memory for a symbol of … bytes: …", "No room in … for more prices of symbol … (…)"),
        "There is not enough memory, or the disk is full. What is stored can be read.",
        "Make room; the service takes batches again by itself.",
    ),
]

AT_THE_START = [
    Row(
        "",
        ("Cannot serve on …: the port is in use.",),
        "Another server listens on the port.",
        "Stop it, or choose another port: `fds serve --port 9000`.",
    ),
    Row(
        "",
        ("Cannot serve on …: the host name is not known (…).",),
        "`--host` is no address of this machine.",
        "Use `127.0.0.1`, or `0.0.0.0` for every interface.",
    ),
    Row(
        "",
        ("Cannot serve on …: ports below 1024 need privileges.",),
        "The system lets only privileged processes use the port.",
        "Choose a port from 1024 up; let a proxy listen on 80 or 443.",
    ),
    Row(
        "",
        ("Cannot serve https with …", "Cannot serve https: …: …."),
        "The certificate or its key is missing, cannot be read, or they do not match.",
        "Check `--ssl-certfile`, `--ssl-keyfile` and the password.",
    ),
    Row(
        "",
        ("expected …, got …: it was made with other settings, and can be served with those",),
        "`--largest-window` and `--batch-max` are built into a data directory.",
        "Start with the values that the message names.",
    ),
    Row(
        "",
        ("No setting has the name of these variables: …",),
        "A variable begins with `FDS_` and is not a setting. It is ignored.",
        "Correct its name; the warning suggests one.",
    ),
    Row(
        "",
        ("Another program adds prices to it.",),
        "`fds load` met prices that another program added meanwhile.",
        "Stop the other program, or load into another symbol.",
    ),
]

CURES = {
    "DataDirectoryError": "Check the path, its owner and who uses it: `fds inspect DIR`.",
    "InsufficientStorageError": "Make room on the disk or in memory, and send the batch again.",
    "InvalidBatchError": "Correct the price at `index`. Nothing of the batch was stored.",
    "InvalidSymbolError": "Use 1 to 128 characters without control characters.",
    "OverwrittenError": "Ask for fewer prices, or read faster; ask again.",
    "SequenceConflictError": "Continue from `sequence`, or find out who else adds prices.",
    "ServiceError": "See `status` and `detail`, and the table of replies above.",
    "ServiceUnavailableError": "Check that the service runs; `wait_until_ready()` waits for it.",
    "SymbolFileError": "Try again if `is_passing`; otherwise replace or remove the file `path`.",
    "SymbolLimitError": "Delete a symbol, or raise `--max-symbols`.",
    "SymbolNotFoundError": "Check the spelling; `symbols()` lists all.",
    "UnauthorizedError": "Pass the service's key as `api_key`.",
    "UnconfirmedError": "Look at the symbol's `sequence` to see whether the change was made. Avoid "
    "it with `from_sequence`.",
    "WindowSizeError": "Ask for a window within the service's `largest_window`.",
}
