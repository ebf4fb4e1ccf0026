"""What ``fds doctor`` finds: facts of the machine and the settings, each judged. Prints nothing.

Each check is a function of the settings. It returns a :class:`Finding`, or None if there is nothing
to say. A new check goes into :func:`findings`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from financial_data_service.cli import machine
from financial_data_service.cli.inspect import size
from financial_data_service.settings import Settings, unknown_variables
from financial_data_service.version import __version__

__all__ = ["FAULT", "NOTE", "OK", "Finding", "address", "findings"]

OK, NOTE, FAULT = "ok", "note", "fault"
"""Fine; works, but something is to be known or done; the service would not start."""

PACKAGES = (
    *("numpy", "numba", "llvmlite", "fastapi", "starlette", "uvicorn", "uvloop", "httptools"),
    *("websockets", "pydantic", "pydantic-settings", "msgspec", "pysimdjson", "nanoarrow"),
    *("httpx", "typer", "xxhash"),
)

# On these a lock may hold on one machine only, or a mapped file may differ from the stored one.
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "afs", "lustre"}


class Finding(NamedTuple):
    """One fact, and what is to be done about it.

    Attributes
    ----------
    name : str
        What was looked at.
    value : str
        What was found.
    state : str
        ``ok``, ``note`` or ``fault``. With ``fault`` the service would not start.
    advice : str
        What to do; empty if `state` is ``ok``.
    """

    name: str
    value: str
    state: str = OK
    advice: str = ""


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield what there is to say, in the order in which it is to be read."""
    checks: tuple[Callable[[Settings], Finding | None], ...] = (
        *(_python, _packages, _system, _variables, _kernels, _cores, _memory, _huge_pages),
        *(_data_directory, _disk, _shared_memory, _open_files, _certificate),
    )
    for check in checks:
        finding = check(settings)
        if finding is not None:
            yield finding


def _python(_settings: Settings) -> Finding:
    name = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    return Finding("Python", name)


def _packages(_settings: Settings) -> Finding:
    found, missing = [f"financial-data-service {__version__}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if name != "pysimdjson":  # msgspec stands in.
                missing.append(name)
    advice = ""
    if missing:
        advice = f"Install {', '.join(missing)}: pip install --force-reinstall with the lock file."
    else:
        try:
            # It compares uvicorn and websockets with what the server overrides.
            import financial_data_service.server.connection.internals  # noqa: F401
        except ImportError as error:
            advice = str(error)
    return Finding("packages", ", ".join(found), FAULT if advice else OK, advice)


def _system(_settings: Settings) -> Finding:
    name = " ".join((platform.platform(), platform.machine(), "-".join(platform.libc_ver())))
    if sys.platform == "linux":
        return Finding("system", name)
    return Finding("system", name, NOTE, "The service is tested on Linux only.")


def _variables(_settings: Settings) -> Finding | None:
    unknown = unknown_variables()
    if not unknown:
        return None
    names = [
        name if similar is None else f"{name} (did you mean {similar}?)"
        for name, similar in unknown.items()
    ]
    advice = "They are no settings and have no effect. Remove or correct them."
    return Finding("variables", ", ".join(names), NOTE, advice)


# What processors of a level have, as far as kernels may use it.
LEVELS = {
    "x86-64-v2": {"sse4_2", "ssse3", "popcnt"},
    "x86-64-v3": {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"},
}


def _kernels(settings: Settings) -> Finding:
    level = os.environ.get("NUMBA_CPU_NAME", "")
    missing = LEVELS.get(level, set()) - machine.processor_flags()
    if missing:  # Loading them would end this process too.
        what = f"for {level}, but the processor lacks {', '.join(sorted(missing))}"
        advice = "Use another NUMBA_CPU_NAME; for an image, build it with another KERNEL_CPU."
        return Finding("kernels", what, FAULT, advice)
    return _loaded_kernels(settings)


class _NotCachedError(Exception):
    """A kernel would be compiled."""


def _loaded_kernels(_settings: Settings) -> Finding:
    try:
        from financial_data_service.engine import kernels
        from financial_data_service.engine.compile_notice import announce_compilation
        from financial_data_service.engine.running_stats import warm_up
    except (ImportError, RuntimeError) as error:  # Numba has no directory for its cache.
        advice = "Set NUMBA_CACHE_DIR to a directory that this user can write."
        if isinstance(error, ImportError):
            advice = "Install the package again."
        return Finding("kernels", f"cannot be loaded: {error}", FAULT, advice)
    stats = getattr(kernels.append, "stats", None)
    if stats is None:
        advice = "Unset NUMBA_DISABLE_JIT: without compilation every batch takes seconds."
        return Finding("kernels", "are not compiled at all", NOTE, advice)

    def stop(_sentence: str) -> None:
        raise _NotCachedError

    try:
        with announce_compilation(stop):
            warm_up()
    except _NotCachedError:
        advice = "Nothing to do: the next start compiles them, which takes some ten seconds."
        return Finding("kernels", f"not yet in {stats.cache_path}", NOTE, advice)
    return Finding("kernels", f"compiled, in {stats.cache_path}")


def _cores(settings: Settings) -> Finding:
    count = machine.cores()
    name = f"{machine.processor() or platform.machine()}, {count} usable"
    if settings.workers <= count:
        return Finding("cores", name)
    advice = f"{settings.workers} workers are more than the cores, which does not help."
    return Finding("cores", name, NOTE, advice)


def _full_bytes(settings: Settings) -> int:
    """Return how much all symbols take when all windows are full."""
    from financial_data_service.engine.layout import Geometry

    geometry = Geometry(settings.largest_window, batch_max=settings.batch_max)
    return settings.max_symbols * geometry.size_bytes


def _memory(settings: Settings) -> Finding | None:
    memory = machine.memory()
    if memory is None:
        return None
    total = memory.total if memory.limit is None else memory.limit
    what = f"{size(memory.total)}, {size(memory.available)} available"
    if memory.limit is not None:
        what += f", the control group allows {size(memory.limit)}"
    full = _full_bytes(settings)
    if full <= total:
        return Finding("memory", what)
    advice = f"{settings.max_symbols} symbols take {size(full)} when they are full. "
    if settings.data_dir is None:
        advice += "Lower --max-symbols or --largest-window if that many are to come."
    else:
        advice += "They work, but the oldest prices are read from disk."
    return Finding("memory", what, NOTE, advice)


def _huge_pages(_settings: Settings) -> Finding | None:
    mode = machine.huge_pages()
    if mode is None:
        return None
    more = ": a symbol in memory takes up to 2 MB more" if mode == "always" else ""
    return Finding("huge pages", f"{mode}{more}")


def _data_directory(settings: Settings) -> Finding:
    path = settings.data_dir
    if path is None:
        return Finding("data directory", "none: the prices end with the service")
    try:
        fault = _directory_fault(path, settings)
        state = "in use" if path.exists() and _is_in_use(path) else "not in use"
    except OSError as error:
        fault, state = f"It cannot be read: {error.strerror}. Check owner and rights.", "not usable"
    what = f"{path}, {state if path.exists() else 'to be made at the start'}"
    return Finding("data directory", what, FAULT if fault else OK, fault)


def _is_in_use(path: Path) -> bool:
    from financial_data_service.storage.directory_lock import is_in_use

    return is_in_use(path)


def _directory_fault(path: Path, settings: Settings) -> str:
    """Return why the service cannot use the directory, and what to do; empty if it can."""
    from financial_data_service.storage.directory_lock import read_settings

    base = machine.nearest(path)
    if not base.is_dir():
        return f"{base} is a file. Name a directory."
    owner, user = path.stat().st_uid if path.exists() else os.geteuid(), os.geteuid()
    if owner != user:
        return f"It belongs to user {owner}, this is user {user}. Run the service as its owner."
    if not os.access(base, os.R_OK | os.W_OK | os.X_OK):
        return f"User {user} cannot write to {base}. Give it the right, or name another directory."
    if base != path or not _is_in_use(path):
        return ""
    theirs = read_settings(path)
    names = ("largest_window", "batch_max", "max_symbols", "durability")
    other = [
        f"{name} {theirs[name]} instead of {getattr(settings, name)}"
        for name in names
        if name in theirs and theirs[name] != getattr(settings, name)
    ]
    if not other:
        return ""
    return f"A service uses it with {', '.join(other)}. Stop that, or give the same settings."


def _disk(settings: Settings) -> Finding | None:
    if settings.data_dir is None:
        return None
    base = machine.nearest(settings.data_dir)
    mount, space = machine.mount_of(base), machine.space_of(base)
    if mount is None or space is None:
        return Finding("disk", "unknown", NOTE, f"Check that {base} can be read.")
    what = f"{mount.kind} on {mount.point}, {size(space.free)} of {size(space.total)} free"
    full = _full_bytes(settings)
    if mount.kind in NETWORK or mount.kind.startswith("fuse"):
        advice = "Use a local disk: locks and syncs of a network's file system may not hold."
    elif mount.kind in ("tmpfs", "ramfs"):
        advice = "Use a disk: this is memory, which a restart of the machine empties."
    elif space.free + _used(settings.data_dir) < full:
        advice = f"{settings.max_symbols} symbols take {size(full)} when they are full."
    else:
        return Finding("disk", what)
    return Finding("disk", what, NOTE, advice)


def _used(directory: Path) -> int:
    """Return how much the files of a data directory take on disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.glob("*.ring"))


def _shared_memory(settings: Settings) -> Finding:
    from financial_data_service.server.processes.temporary_directory import (
        SHARED_MEMORY,
        place_for,
    )

    space = machine.space_of(SHARED_MEMORY)
    what = "none" if space is None else f"{size(space.total)}, {size(space.free)} free"
    if settings.data_dir or settings.workers == 1 or place_for(settings) is not None:
        return Finding(str(SHARED_MEMORY), what)
    advice = (
        f"Workers without a data directory share {size(_full_bytes(settings))} when all symbols "
        "are full. That has no room here, so the files go to the temporary directory. Make it "
        "larger (docker --shm-size), lower --max-symbols, or set --data-dir."
    )
    return Finding(str(SHARED_MEMORY), what, NOTE, advice)


def _open_files(settings: Settings) -> Finding:
    from financial_data_service.server.processes.startup import descriptors_for

    soft, hard = machine.open_files()
    what = " ".join(
        f"{name} {'unlimited' if limit is None else limit}{end}"
        for name, limit, end in (("soft", soft, ","), ("hard", hard, ""))
    )
    needed = descriptors_for(settings)
    if hard is None or needed <= hard:
        return Finding("open files", what)
    advice = f"A process may need {needed}. Raise the hard limit: ulimit -Hn, LimitNOFILE=."
    return Finding("open files", what, NOTE, advice)


def _certificate(settings: Settings) -> Finding | None:
    from financial_data_service.server.processes.startup import certificate_fault

    if settings.ssl_certfile is None:
        return None
    fault = certificate_fault(settings)
    return Finding("certificate", str(settings.ssl_certfile), FAULT if fault else OK, fault or "")


def address(settings: Settings, answering: str | None) -> Finding:
    """Judge the address that the service is to listen on.

    Parameters
    ----------
    settings : Settings
        Of the service.
    answering : str or None
        The URL of a service that answers. It may be the one that uses the address.
    """
    from financial_data_service.server.processes.listener import address_fault

    where = f"{settings.host}:{settings.port}"
    fault = address_fault(settings)
    if fault is None:
        return Finding("address", f"{where}, free")
    if answering is not None and urlsplit(answering).port == settings.port:
        return Finding("address", f"{where}, used by the service that answers")
    return Finding("address", where, FAULT, fault)
