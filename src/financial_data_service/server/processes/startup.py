"""Checks and limits at the start, for a single process and for the parent of several.

Invariant: nothing here loads the engine or uvloop, so that the parent stays small.
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
    "certificate_fault",
    "descriptors_for",
    "gc_paused",
    "has_fit_certificate",
    "raise_descriptor_limit",
    "resume_gc",
]

DRAIN_SECONDS = 10
"""How long requests in flight may take to finish after the stop signal.

It is longer than any request takes. It is shorter than the 30 s after which process managers kill a
process.
"""

DESCRIPTORS_PER_SYMBOL = 1 if sys.version_info >= (3, 13) else 2
"""Number of file descriptors per symbol.

One is for the file. Before Python 3.13, mmap keeps a second one.
"""

DESCRIPTORS_RESERVED = 64  # the log, the listener, the event loop, pipes, files while they are made

logger = logging.getLogger("financial_data_service.processes")


def has_fit_certificate(settings: Settings) -> bool:
    """Tell whether the certificate can be used, if there is one; stderr has the reason if not."""
    fault = certificate_fault(settings)
    if fault is not None:
        print(fault, file=sys.stderr)
    return fault is None


def certificate_fault(settings: Settings) -> str | None:
    """Return why the certificate cannot be used; None if it can, or if there is none.

    uvicorn reads the files again later. Without this check it would fail with a traceback, or
    prompt for the key's password on the terminal.
    """
    if settings.ssl_certfile is None:
        return None
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile or settings.ssl_certfile
    secret = settings.ssl_keyfile_password
    password = "" if secret is None else secret.get_secret_value()
    try:
        for path in (certificate, key):
            path.open("rb").close()  # OpenSSL does not say which it cannot read.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, lambda: password)
    except (OSError, ValueError) as error:
        return _tls_reason(error, certificate, key)
    return None


def raise_descriptor_limit(settings: Settings) -> None:
    """Raise the limit of open files to the hard limit, for this process and those that it forks.

    The usual soft limit of 1024 exists for programs that use ``select``. The log has a warning if
    the hard limit is too low for the settings.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems have an unlimited hard limit but reject an unlimited soft limit.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    needed = descriptors_for(settings)
    if soft != resource.RLIM_INFINITY and soft < needed:
        logger.warning(
            "A process may open %d files, but %d symbols and the connections of "
            "--in-flight-max and --stream-connections-max may take %d: raise the limit "
            "(ulimit -Hn, LimitNOFILE=).",
            *(soft, settings.max_symbols, needed),
        )


def descriptors_for(settings: Settings) -> int:
    """Return how many file descriptors one process may need."""
    has_files = settings.data_dir is not None or settings.workers > 1
    return (
        settings.max_symbols * DESCRIPTORS_PER_SYMBOL * has_files
        + settings.in_flight_max
        + settings.stream_connections_max
        + DESCRIPTORS_RESERVED
    )


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection until :func:`resume_gc`, or to the end of the block.

    Nearly all objects created at the start belong to modules and are never freed. Garbage
    collection among them would take a tenth of the start time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resume_gc() -> None:
    """Collect garbage from now on, except among the objects that exist now."""
    gc.freeze()
    gc.enable()


def _tls_reason(error: Exception, certificate: Path, key: Path) -> str:
    """Return why the certificate cannot be used."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"Cannot serve https: {error.filename}: {error.strerror}."
    what = f"Cannot serve https with {certificate}"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"{what}: {key} is the key of another certificate."
    if b"ENCRYPTED" in key.read_bytes():
        return f"{what}: {key} does not open with --ssl-keyfile-password."
    return f"{what} and {key}: expected a certificate and its private key, both as PEM."
