"""``fds inspect``: show the contents of a data directory, read-only."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from financial_data_service.cli.console import counted, output, print_error, print_text, printable
from financial_data_service.cli.options import DataDirectory, data_directory, required

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.table import Table

    from financial_data_service.storage.symbol_file import SymbolFile

__all__ = ["inspect"]

_SETTINGS = {
    "durability": "durability {}",
    "largest_window": "windows of up to {:,}",
    "batch_max": "batches of up to {:,}",
    "fanout": "fanout {}",
    "max_symbols": "up to {:,} symbols",
}


_UNFOLDED_COLUMNS = 10_000
_SHORT = len("refused, see below")


class FileReport(NamedTuple):
    """The report on one file.

    Attributes
    ----------
    file : str
        Name of the file.
    symbol : str or None
        The symbol of its prices; None if the header cannot be read.
    sequence, values : int or None
        Number of prices ever appended, and number of prices in the largest window.
    disk_bytes, size_bytes : int
        Space on disk, and size as ``ls -l`` shows it.
    state : str
        ``in_use``, ``clean``, ``unclean``, ``deleted`` or ``refused``.
    kept : int or None
        Number of prices that a service will keep; only for a file that was not closed cleanly.
    reason : str or None
        Why the file is rejected, or how it was left.
    changed : datetime
        Time of the last change, as the file system records it.
    geometry : dict
        ``largest_window``, ``batch_max`` and ``fanout`` of the file; empty if it cannot be read.
    """

    file: str
    symbol: str | None
    sequence: int | None
    values: int | None
    disk_bytes: int
    size_bytes: int
    state: str
    kept: int | None
    reason: str | None
    changed: datetime
    geometry: dict[str, int]


def inspect(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIRECTORY", parser=data_directory, help="Same as --data-dir."),
    ] = None,
    data_dir: DataDirectory = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the same as JSON, sizes in bytes.")
    ] = False,
) -> None:
    """Show a data directory: symbols, prices, sizes, and how each file was left.

    The command only reads. It may run while a service uses the directory. If a service would refuse
    a file, for instance one of another user, the exit code is 1 and stderr has the reason.
    """
    from financial_data_service.storage.directory_lock import is_in_use, read_settings
    from financial_data_service.storage.trust import ring_files

    data_dir = required(directory or data_dir)
    paths = ring_files(data_dir)
    owner = _owner_of(data_dir)
    is_used, settings = is_in_use(data_dir), read_settings(data_dir)
    found = (_report(path, settings if is_used else {}, owner) for path in paths)
    reports = [report for report in found if report is not None]
    if as_json:
        _print_json(data_dir, is_used, settings, reports)
    else:
        _print_table(data_dir, is_used, settings, reports)
    refused = [report for report in reports if report.state == "refused"]
    for report in refused:
        print_error(f"{report.file}: {report.reason}.")
    if refused:
        raise typer.Exit(1)


def _owner_of(directory: Path) -> int:
    """Return the user id that a service on this directory must run as: its owner."""
    return directory.stat().st_uid


def _report(path: Path, settings: dict[str, Any], owner: int) -> FileReport | None:
    """Return the report on a file, or None if it has just been deleted."""
    from financial_data_service.errors import SymbolFileError
    from financial_data_service.storage.symbol_file import SymbolFile

    try:
        status = path.stat()
        report = FileReport(
            file=path.name,
            symbol=None,
            sequence=None,
            values=None,
            disk_bytes=status.st_blocks * 512,
            size_bytes=status.st_size,
            state="refused",
            kept=None,
            reason=None,
            changed=datetime.fromtimestamp(status.st_mtime, UTC),
            geometry={},
        )
        file = SymbolFile.open_read_only(path)
    except FileNotFoundError:
        return None
    except SymbolFileError as error:
        return report._replace(reason=error.reason)
    try:
        report = _judged(report, file, settings)
        if status.st_uid == owner:
            return report
        reason = (
            f"expected a file of user {owner}, who owns the directory, got one of user "
            f"{status.st_uid}"
        )
        return report._replace(state="refused", reason=reason)
    except SymbolFileError as error:
        return report._replace(symbol=file.symbol, reason=error.reason)
    finally:
        file.close()


def _judged(report: FileReport, file: SymbolFile, settings: dict[str, Any]) -> FileReport:
    """Add the contents of the header to the report, and how a service would treat the file."""
    from financial_data_service.storage.recovery import FileState
    from financial_data_service.storage.trust import recovery_plan_of

    geometry = file.geometry
    plan = recovery_plan_of(file)
    sequence = file.sequence
    state = "in_use" if plan is None else _STATES[plan.state.name]
    report = report._replace(
        symbol=file.symbol,
        sequence=sequence,
        values=min(sequence, geometry.largest_window),
        state="deleted" if sequence < 0 else state,
        geometry={
            "largest_window": geometry.largest_window,
            "batch_max": geometry.batch_max,
            "fanout": geometry.fanout,
        },
    )
    if plan is None or sequence < 0:
        return report
    if plan.state is not FileState.CLEAN:
        report = report._replace(kept=plan.sequence, reason=plan.state.value)
    other = {
        name: value for name, value in report.geometry.items() if settings.get(name, value) != value
    }
    if not other:
        return report
    made, used = (
        ", ".join(f"{name} {values[name]}" for name in other) for values in (other, settings)
    )
    reason = f"it was made with {made}, the directory is in use with {used}"
    return report._replace(state="refused", reason=reason)


_STATES = {
    "CLEAN": "clean",
    "KILLED": "unclean",
    "POWER_LOST": "unclean",
    "DELETED": "deleted",
}


def _print_json(
    data_dir: Path, is_used: bool, settings: dict[str, Any], reports: list[FileReport]
) -> None:
    symbols = [{**report._asdict(), "changed": report.changed.isoformat()} for report in reports]
    content = {
        "directory": str(data_dir),
        "in_use": is_used,
        "settings": settings,
        "symbols": symbols,
    }
    print_text(json.dumps(content, indent=2))


def _print_table(
    data_dir: Path, is_used: bool, settings: dict[str, Any], reports: list[FileReport]
) -> None:
    from rich.text import Text

    console = output()
    title = Text(printable(str(data_dir)), "bold")
    console.print(title.append(f"  {_use(is_used, settings)}", "not bold dim"), soft_wrap=True)
    if not reports:
        console.print("No symbols.")
        return
    table = _table(reports)
    unfolded = console.options.update(max_width=_UNFOLDED_COLUMNS)
    is_narrow = console.measure(table, options=unfolded).maximum > console.width
    console.print(_table(reports, is_narrow=True) if is_narrow else table)
    if is_narrow:
        console.print(Text("file left out; a wider terminal or --json has it.", "dim"))


def _table(reports: list[FileReport], *, is_narrow: bool = False) -> Table:
    """Return the table; a narrow one has no file names, which follow from the symbols."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0 if is_narrow else 1, 0, 0),
        header_style="bold",
    )
    rows = [_cells(report) for report in reports]
    headings = [heading for heading in rows[0] if heading != "file" or not is_narrow]
    # Short states are not wrapped. Names and longer states are.
    is_short = all(len(row["state"]) <= _SHORT for row in rows)
    for heading in headings:
        if heading in ("symbol", "file", "state"):
            table.add_column(heading, overflow="fold", no_wrap=heading == "state" and is_short)
        else:
            justify: JustifyMethod = "left" if heading == "last change" else "right"
            table.add_column(heading, justify=justify, no_wrap=True)
    for report, row in zip(reports, rows, strict=True):
        style = "bold red" if report.state == "refused" else ""
        table.add_row(*(row[heading] for heading in headings), style=style)
    return table


def _use(is_used: bool, settings: dict[str, Any]) -> str:
    said = ", ".join(
        text.format(settings[name]) for name, text in _SETTINGS.items() if name in settings
    )
    if is_used:
        return f"in use by process {settings.get('pid', 'unknown')}: {said}"
    return f"not in use; last with {said}" if said else "not in use"


def _cells(report: FileReport) -> dict[str, str]:
    state = {
        "in_use": "in use",
        "clean": "closed cleanly",
        "unclean": f"ended uncleanly, {counted(report.kept or 0, 'price')} will be kept",
        "deleted": "deleted",
        "refused": "refused, see below",
    }[report.state]
    return {
        "symbol": "–" if report.symbol is None else printable(report.symbol),
        "file": printable(report.file),
        "sequence": _count(report.sequence),
        "values": _count(report.values),
        "on disk": size(report.disk_bytes),
        "apparent": size(report.size_bytes),
        "state": state,
        "last change": f"{report.changed.astimezone():%Y-%m-%d %H:%M:%S}",
    }


def _count(count: int | None) -> str:
    return "–" if count is None or count < 0 else f"{count:,}"


def size(size_bytes: int) -> str:
    """Return a size in three digits: ``837 MB``, ``1.05 MB``, ``0 kB``."""
    value = size_bytes / 1000
    for unit in ("kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
