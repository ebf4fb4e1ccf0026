"""What a single process and a family of them share: the socket, what is said of it, how it ends.

Invariant: nothing here loads the engine or uvloop, so that the parent of several is small.
"""

from __future__ import annotations

import gc
import logging
import resource
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from financial_data_service.settings import Settings

__all__ = [
    "DRAIN_SECONDS",
    "gc_paused",
    "has_fit_certificate",
    "raise_descriptor_limit",
    "resume_gc",
]

DRAIN_SECONDS = 10
"""How long requests under way may take to finish once the service is told to stop: longer than
any request takes, shorter than the 30 s after which supervisors use force."""

DESCRIPTORS_PER_SYMBOL = 1 if sys.version_info >= (3, 13) else 2
"""File descriptors a symbol's file takes: its own, and before Python 3.13 one that mmap keeps."""

DESCRIPTORS_RESERVED = 64  # the log, the listener, the event loop, pipes, files while they are made

logger = logging.getLogger("uvicorn.error")


def has_fit_certificate(settings: Settings) -> bool:
    """Tell whether there is TLS to be had, if it is asked for; if not, stderr says why.

    The files are read here and again by uvicorn, which would fail with a traceback, or ask the
    terminal for the password of a key.
    """
    if settings.ssl_certfile is None:
        return True
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile or settings.ssl_certfile
    secret = settings.ssl_keyfile_password
    password = "" if secret is None else secret.get_secret_value()
    try:
        for path in (certificate, key):
            path.open("rb").close()  # OpenSSL does not say which it cannot read.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: password)
    except (OSError, ValueError) as error:
        print(_tls_reason(error, certificate, key), file=sys.stderr)
        return False
    return True


def raise_descriptor_limit(settings: Settings) -> None:
    """Let this process, and what it forks, open as many files as it ever may.

    The usual soft limit of 1024 is there for programs that use ``select``. Where even the hard one
    is too low for what the settings allow, the log says so.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems call the hard limit infinite and take no such soft one.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    needed = _descriptors_for(settings)
    if soft != resource.RLIM_INFINITY and soft < needed:
        logger.warning(
            "A process may open %d files, but %d symbols and the connections of "
            "--in-flight-max and --stream-connections-max may take %d: raise the limit "
            "(ulimit -Hn, LimitNOFILE=).",
            *(soft, settings.max_symbols, needed),
        )


def _descriptors_for(settings: Settings) -> int:
    """Return how many file descriptors one process may come to need."""
    has_files = settings.data_dir is not None or settings.workers > 1
    return (
        settings.max_symbols * DESCRIPTORS_PER_SYMBOL * has_files
        + settings.in_flight_max
        + settings.stream_connections_max
        + DESCRIPTORS_RESERVED
    )


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect no garbage until the service has come up, or the block ends.

    Nearly all that is made by then is modules, which stay: to look through them again and again
    would take a tenth of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resume_gc() -> None:
    """Collect garbage from now on; what is there stays, and is not looked at again."""
    gc.freeze()
    gc.enable()


def _tls_reason(error: Exception, certificate: Path, key: Path) -> str:
    """Return why there is no TLS, and what to do about it."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"Cannot serve https: {error.filename}: {error.strerror}."
    what = f"Cannot serve https with {certificate}"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"{what}: {key} is the key of another certificate."
    if b"ENCRYPTED" in key.read_bytes():
        return f"{what}: {key} does not open with --ssl-keyfile-password."
    return f"{what} and {key}: expected a certificate and its private key, both as PEM."
