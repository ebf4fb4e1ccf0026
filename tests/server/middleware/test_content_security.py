"""The content security policy: HTML pages carry it, and may load from this service alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from financial_data_service.server.app import create_app
from financial_data_service.settings import Settings
from support.in_process import InProcess


@pytest.fixture(scope="module")
def client() -> Iterator[InProcess]:
    with InProcess(create_app(Settings(largest_window=1000))) as client:
        yield client


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_pages_may_load_from_this_service_alone(client: InProcess, page: str) -> None:
    policy = client.get(page).headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "http" not in policy


def test_the_page_with_prices_has_the_policy_and_no_other_site_may_frame_it(
    client: InProcess,
) -> None:
    front = client.get("/")
    assert front.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'none'" in front.headers["content-security-policy"]


@pytest.mark.parametrize("target", ["/symbols", "/openapi.json", "/metrics", "/nowhere"])
def test_replies_that_are_no_pages_have_none(client: InProcess, target: str) -> None:
    assert "content-security-policy" not in client.get(target).headers
