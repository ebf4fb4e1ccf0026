"""The documentation does what it says: every code block runs, and generated pages are fresh.

Each hand-written page with programs has a service of its own. Its blocks run from top to bottom as
a reader would type them, each Python block in a process of its own, and the outputs that the page
shows are compared with the real ones (``support/documents.py``).
"""

from __future__ import annotations

import builtins
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import financial_data_service
from financial_data_service import Client, client
from financial_data_service.client.ingest import AsyncIngest
from financial_data_service.client.subscription import AsyncSubscription
from support.documents import PROGRAMS, blocks_of, run_page
from support.paths import ROOT
from support.service_process import LIGHT, running

MEASURED = "docs/explanation/performance.md"
"""Its programs are the benchmarks, which tests/project/test_benchmarks.py runs in small."""

PAGES = [
    page
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if (page := str(path.relative_to(ROOT))) != MEASURED
    and any(block.language in PROGRAMS for block in blocks_of(page))
]

NOT_RUN = {
    "README.md": 1,
    "docs/how-to/operate.md": 3,
    "docs/how-to/proxy.md": 2,
    "docs/how-to/streams.md": 1,
    "docs/tutorial.md": 2,
}
"""Blocks of a page that no test runs; each says why. New ones are to be few."""

README_LINES_MAX = 150

PACKAGE = ROOT / "src" / "financial_data_service"

WRITTEN = [
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY")),
    *(ROOT / "docs").rglob("*.md"),
]


@pytest.mark.one_python
@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("page", PAGES)
def test_the_documents_run_as_they_are_typed(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)


def test_few_blocks_are_not_run() -> None:
    counts = {page: sum(block.reason is not None for block in blocks_of(page)) for page in PAGES}
    assert {page: count for page, count in counts.items() if count} == NOT_RUN


def test_modules_and_files_that_pages_name_exist() -> None:
    bases = [ROOT, PACKAGE, PACKAGE / "server"]
    folders = {path.name for base in bases for path in base.iterdir() if path.is_dir()}
    missing = [
        f"{page.name}: {name}"
        for page in WRITTEN
        for name in re.findall(r"`([\w.-]+(?:/[\w.-]+)+)/?`", page.read_text("utf-8"))
        if name.partition("/")[0] in folders
        and not any((base / f"{name}{end}").exists() for base in bases for end in ("", ".py"))
    ]
    assert missing == []


def test_links_lead_to_files() -> None:
    """``make docs`` checks the links and anchors within the site; this one the repository's."""
    missing = [
        f"{page.name}: {target}"
        for page in [*WRITTEN, ROOT / "CHANGELOG.md"]
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


def test_public_names_that_pages_name_exist() -> None:
    """Classes in code, and methods of clients in code: a page does not outlive a name."""
    classes = {*financial_data_service.__all__, *client.__all__, *dir(builtins)}
    methods = {name for kind in (Client, AsyncSubscription, AsyncIngest) for name in dir(kind)}
    missing = []
    for page in WRITTEN:
        text = page.read_text("utf-8")
        missing += [name for name in re.findall(r"`([A-Z]\w+Error)`", text) if name not in classes]
        missing += [
            name
            for name in re.findall(r"`(?:await )?(?:client|updates|ingest)\.(\w+)\(", text)
            if name not in methods
        ]
    assert missing == []


def test_pages_show_no_markup_of_the_terminal() -> None:
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        markup = re.findall(r"\[/?(?:bold|dim|green|red|yellow)\]", page.read_text("utf-8"))
        assert markup == [], page.name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES_MAX


@pytest.mark.one_python  # what pydantic and FastAPI write differs by version
def test_generated_pages_are_fresh() -> None:
    """``python scripts/write_reference.py`` writes them; ``make docs`` does, too."""
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "write_reference.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@pytest.mark.one_python
@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_the_configuration_of_the_proxy_works(tmp_path: Path) -> None:
    """Symbols with a slash arrive whole, and WebSockets are upgraded, behind a path prefix."""
    http, server = (b.text for b in blocks_of("docs/how-to/proxy.md") if b.language == "nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(tmp_path, (*LIGHT, "--root-path", "/prices")) as service:
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(
            f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {tmp_path}/body;\n"
            f"proxy_temp_path {tmp_path}/proxy; {http} server {{ listen 127.0.0.1:{port};\n"
            f"{server.replace('http://127.0.0.1:8000', service.url)} }} }}\n"
        )
        command = [NGINX or "", "-p", str(tmp_path), "-e", "stderr", "-c", str(configuration)]
        with subprocess.Popen(command) as nginx:
            try:
                with Client(f"http://127.0.0.1:{port}/prices") as client:
                    client.wait_until_ready()
                    client.add_batch("BTC/USDT", [1.0, 2.0])
                    assert client.stats("BTC/USDT", 1).avg == 1.5
                    updates = client.subscribe("stats.BTC/USDT.1")
                    assert next(iter(updates)).sequence == 2
                    updates.close()
            finally:
                nginx.terminate()
