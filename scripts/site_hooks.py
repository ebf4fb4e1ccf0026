"""Hooks of MkDocs: pages and files of the repository outside ``docs/`` become part of the site.

Links in the repository are relative to the repository, so that they work there too. A link to a
page or file that the site has leads to it; a link to source code becomes plain text, because the
site holds no code.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

ADDED = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
    "README.md": "index.md",
} | {
    f"deploy/{path.name}": f"deploy/{path.name}"
    for path in (ROOT / "deploy").iterdir()
    if path.is_file()
}
"""Path in the repository → path in the site."""

_ROLE = re.compile(r":\w+:<code>~?(?:[\w.]+\.)?(\w+)</code>")  # :class:`~package.module.Name`

_FOREIGN = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*(?:src|href)=["']?https?://[^>]*>""")

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files from outside ``docs/``."""
    for source, path in ADDED.items():
        if files.get_file_from_path(path) is None:
            content = (ROOT / source).read_bytes()
            files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page at their place in the site."""
    site_path = page.file.src_uri
    sources = {path: source for source, path in ADDED.items() if path != "index.md"}
    own = sources.get(site_path, f"docs/{site_path}")

    def replaced(link: re.Match[str]) -> str:
        target = link["target"]
        if "://" in target or target.startswith(("mailto:", "/")):
            return link[0]
        source = posixpath.normpath(posixpath.join(posixpath.dirname(own), target))
        if source.startswith("docs/"):
            path = source.removeprefix("docs/")
        elif source in ADDED:
            path = ADDED[source]
        else:
            return link["text"]
        there = posixpath.relpath(path, posixpath.dirname(site_path) or ".")
        return f"[{link['text']}]({there}{link['anchor'] or ''})"

    return _LINK.sub(replaced, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the roles of docstrings, which are Sphinx's, as the name alone."""
    return _ROLE.sub(r"<code>\1</code>", html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load anything from another host.

    Raises
    ------
    PluginError
        When a script, style, image or frame of the page is elsewhere.
    """
    if foreign := _FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {foreign[0]}")
    return output
