"""The page at ``/``: a live view of all symbols, and the files it is made of.

``static/`` contains plain HTML, style sheets and scripts. They are read once at the start. There is
no build step, and no file comes from another host. The page contains no data. Its script asks the
service like any client, with the API key if there is one. So the page itself is open to all.

The files refer to each other by relative addresses, which work behind any proxy. If the server is
told the prefix, the page contains it too.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import NamedTuple

import xxhash
from fastapi import APIRouter, HTTPException, Request, Response

__all__ = ["router_for"]

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


def router_for() -> APIRouter:
    """Return the routes of the page and of its files."""
    found = _files()
    page = found.pop("index.html")
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def root_page(request: Request) -> Response:
        """Return the page."""
        prefix = request.scope.get("root_path", "").rstrip("/")
        if not prefix:
            return _response(request, page)
        base = f'<meta charset="utf-8">\n<base href="{escape(prefix)}/">'.encode()
        content = page.content.replace(b'<meta charset="utf-8">', base, 1)
        return _response(request, _file(content, "html"))

    @router.get("/static/{name}", include_in_schema=False)
    async def static_file(request: Request, name: str) -> Response:
        """Return one of the files of the page."""
        if name not in found:
            raise HTTPException(404)
        return _response(request, found[name])

    return router


def _files() -> dict[str, _File]:
    """Read the files of the page; only their names are served."""
    return {
        entry.name: _file(entry.read_bytes(), entry.name.rpartition(".")[2])
        for entry in files(__package__).joinpath("static").iterdir()
    }


def _file(content: bytes, ending: str) -> _File:
    return _File(content, _MEDIA_TYPES[ending], f'"{xxhash.xxh3_64_hexdigest(content)}"')


def _response(request: Request, file: _File) -> Response:
    # no-cache makes the browser revalidate each file. So after an upgrade all files have the same
    # version.
    headers = {"cache-control": "no-cache", "etag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
