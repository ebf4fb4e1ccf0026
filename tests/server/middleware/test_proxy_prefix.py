"""The prefix of a proxy, kept or removed: the same replies on both lanes, pages and WebSockets."""

from __future__ import annotations

import pytest

from financial_data_service.server.app import create_app
from financial_data_service.server.middleware.proxy_prefix import ROUTE_NAMES, ProxyPrefix
from financial_data_service.settings import Settings
from support.middleware import wire_of
from support.raw_http import batch, get, post


@pytest.mark.parametrize(
    ("root_path", "path", "removed"),
    [
        ("", "/stats/A/1", "/stats/A/1"),
        ("/fds", "/fds/stats/A/1", "/stats/A/1"),
        ("/fds", "/stats/A/1", "/stats/A/1"),
        ("/fds", "/fds", "/"),
        ("/fds", "/fds/", "/"),
        ("/fds", "/", "/"),
        ("/fds", "/fdsx/stats/A/1", "/fdsx/stats/A/1"),
        ("/fds", "/FDS/stats/A/1", "/FDS/stats/A/1"),
        ("/fds", "/fds/fds/stats/A/1", "/fds/stats/A/1"),
        ("/fds", "/%66ds/stats/A%2FB/1", "/stats/A%2FB/1"),
        ("/fds", "fds/stats", "fds/stats"),
        ("/a b/c", "/a%20b/c/stats/A/1", "/stats/A/1"),
        ("/a b/c", "/a%20b/stats/A/1", "/a%20b/stats/A/1"),
        ("/a b/c", "/a%20b%2Fc/stats/A/1", "/a%20b%2Fc/stats/A/1"),
        ("/stats", "/stats/A/1", "/stats/A/1"),
        ("/stats/x", "/stats/x/stats/A/1", "/stats/x/stats/A/1"),
    ],
)
def test_a_prefix_is_removed_once_where_it_is(root_path: str, path: str, removed: str) -> None:
    assert ProxyPrefix(root_path).remove(path.encode()) == removed.encode()


def test_the_names_of_routes_are_all_known() -> None:
    documented = {path.split("/")[1] for path in create_app(Settings()).openapi()["paths"]}
    # The others are not in the document: pages, files, WebSockets, metrics.
    others = {"asyncapi.yaml", "docs", "docs-assets", "favicon.ico", "openapi.json", "redoc"}
    others |= {"ingest", "static", "stream"}
    assert documented | others == ROUTE_NAMES


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("prefix", ["/fds", ""])
def test_both_forms_are_answered_alike(prefix: str, fast_lane: bool) -> None:
    with wire_of(fast_lane=fast_lane, root_path="/fds") as wire:
        connection = wire.connect()

        def ask(target: str) -> tuple[int, bytes]:
            return reply_of(connection.ask(get(prefix + target)))

        assert (
            reply_of(
                connection.ask(
                    post(batch("A/B", [1.0, 2.0])).replace(
                        b"/add_batch/", f"{prefix}/add_batch/".encode()
                    )
                )
            )[0]
            == 201
        )
        for _ in range(2):  # The second is known by its bytes.
            status, body = ask("/stats/A%2FB/1")
            assert (status, b'"avg":1.5' in body) == (200, True)
            assert ask("/stats/?symbol=A/B&k=1") == (status, body)
        assert ask("/symbols")[0] == 200
        assert ask("/")[0] == 200
        assert b'<base href="/fds/">' in ask("/")[1]
        assert ask("/static/page.js")[0] == 200
        assert ask("/nowhere")[0] == 404


def reply_of(raw: bytes) -> tuple[int, bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), body
