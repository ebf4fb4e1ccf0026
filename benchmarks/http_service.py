"""Benchmark of the service over HTTP: requests per second and latency, beside nginx's.

::

    python benchmarks/http_service.py [--smoke] [--seconds S] [--only PATTERN]
                                      [--markdown FILE | --update FILE]

The servers are pinned to one core and wrk to another. nginx with a fixed reply to the very same
requests, a bare ASGI reply, the service with its fast lane and without it take turns. Every price
that was posted is looked for afterwards: a missing or a wrong one ends the run.

This module is not called ``http``: next to the other benchmarks it would stand in the way of
Python's own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from harness import command
from harness.table import Table, number
from serving.campaign import CONNECTIONS, Campaign, Results, Tools
from serving.cores import Cores
from serving.ledger import WrongResultError
from serving.options import HttpOptions, parse
from serving.process import SetupError
from serving.server import NGINX
from serving.tables import parsing_table, rates_table, shares_table, targets_table
from serving.work import rows

_OWNER = "benchmarks/http_service.py"
_INTERRUPTED = 130  # as shells report an end by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the campaign and hand out its tables, targets first."""
    options = parse("Benchmark of the service over HTTP.", arguments)
    signal.signal(signal.SIGTERM, _end)  # so that the servers are ended then, too
    try:
        _measure(options)
    except KeyboardInterrupt:
        print("Interrupted; the servers are stopped.", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except (SetupError, WrongResultError) as error:
        sys.exit(str(error))


def _measure(options: HttpOptions) -> None:
    wanted = rows(options.only)
    if not wanted:
        names = "; ".join(row.name for row in rows())
        raise SetupError(f"No row matches {options.only!r}. The rows are: {names}.")
    tools = _tools()
    cores = Cores.of_this_machine()
    header = "  \n".join((command.header(options.shared), _tools_line(tools, cores)))
    with (
        tempfile.TemporaryDirectory(prefix="fds-http-") as directory,
        Campaign.prepared(wanted, options.size, cores, tools, Path(directory)) as campaign,
    ):
        results = campaign.run(wanted)
    targets = targets_table(results)
    targets.notes += _remarks(options, campaign, tools, cores)
    command.emit(_OWNER, options.shared, header, [targets, *_tables(results)])


def _tables(results: Results) -> list[Table]:
    tables = [shares_table(results)] if NGINX in results.servers else []
    tables += [rates_table(results, connections) for connections in CONNECTIONS]
    if results.parsing_us:
        tables.append(parsing_table(results))
    return tables


def _tools() -> Tools:
    # Debian keeps nginx where only root looks for commands.
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    tools = Tools(shutil.which("wrk"), shutil.which("nginx", path=path))
    missing = [name for name, found in tools._asdict().items() if not found]
    if missing:
        print(
            f"Not installed: {' and '.join(missing)}. The numbers to compare need both: "
            "apt-get install wrk nginx-light",
            file=sys.stderr,
        )
    return tools


def _tools_line(tools: Tools, cores: Cores) -> str:
    """Return what took part, as Markdown."""
    load = _version_of(tools.wrk, "-v") if tools.wrk else "the client in Python"
    nginx = _version_of(tools.nginx, "-v") if tools.nginx else "no nginx"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "httptools"))
    return (
        f"Load: {load} on core {cores.load}; servers on core {cores.server}: {nginx}, {libraries}."
    )


def _version_of(executable: str, flag: str) -> str:
    said = subprocess.run([executable, flag], capture_output=True, text=True, check=False)
    first = (said.stdout + said.stderr).splitlines()[0]
    return first.removeprefix("nginx version: ").partition(" [")[0].replace("debian/", "")


def _remarks(options: HttpOptions, campaign: Campaign, tools: Tools, cores: Cores) -> list[str]:
    size = options.size
    prices = sum(ledger.prices for ledger in campaign.ledgers.values())
    ours, slow = (ledger.verdict for ledger in campaign.ledgers.values())
    answers, avg_error, var_error = ours.worse(slow)
    remarks = [
        f"Repetitions: {size.repetitions}, of {size.seconds:g} s. {prices:,} prices were posted "
        "to the service and counted by it, all of them and each once; no reply was other than "
        "2xx; after each run the windows within the last batch were those of a batch that was "
        f"sent, {answers} answers in all: min, max and last to the bit, avg off by "
        f"{number(avg_error)} ulp at most, var by {number(var_error)} relative."
    ]
    if not tools.wrk:
        remarks.append(
            "**Without wrk**: the load came from a client in Python, which is slower than the "
            "servers. These numbers show that it runs, not how fast."
        )
    if not tools.nginx:
        remarks.append("**Without nginx**: there is nothing to take a share of.")
    if cores.shared:
        remarks.append("**One core**: servers and load share it; only ratios mean something.")
    if options.shared.scale != "full":
        remarks.append("The targets are meant for a run of full size; this was a smaller one.")
    return remarks


def _end(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
