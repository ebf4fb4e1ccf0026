"""The service under test: one process for each lane, emptied before each test.

A lane is a way through the server. Both lanes have the same guarantees, so every test of this
directory runs once for each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.service_process import Service, running

LANES = {"slow": {"FDS_FAST_LANE": "0"}, "fast": {"FDS_FAST_LANE": "1"}}
"""Lane → the environment that the server is started with."""


@pytest.fixture(scope="session", params=LANES)
def lane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A server with one lane; at the end it must exit with 0 and without a traceback in its log."""
    with running(tmp_path_factory.mktemp(request.param), **LANES[request.param]) as service:
        yield service


@pytest.fixture
def service(lane: Service) -> Service:
    """The same, without any symbol."""
    lane.empty()
    return lane


@pytest.fixture(scope="session")
def both_lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    """A server of each lane, to be asked the same."""
    with (
        running(tmp_path_factory.mktemp("slow"), **LANES["slow"]) as slow,
        running(tmp_path_factory.mktemp("fast"), **LANES["fast"]) as fast,
    ):
        yield {"slow": slow, "fast": fast}
