"""Options that commands share: the notice that a command waits for the service."""

from __future__ import annotations

import pytest

from financial_data_service.cli.options import WaitNotice
from financial_data_service.client.steps import Pause


@pytest.mark.parametrize(
    ("pauses", "said"),
    [
        ([(0.0, 0.1), (0.2, 0.2)], 0),
        ([(0.0, 0.1), (0.2, 0.2), (0.5, 0.6)], 1),
        ([(0.0, 5.0)], 1),
        ([(0.0, 0.5), (1.0, 1.0), (3.0, 2.0), (20.0, 5.0), (40.0, 5.0)], 1),
        ([(0.0, 5.0), (100.0, 0.1)], 1),
        ([(0.0, 5.0), (100.0, 0.1), (100.2, 1.0)], 2),
    ],
    ids=[
        "a restart is over before anybody could read it",
        "a longer one is said once it is longer than a second",
        "a first pause may be long",
        "one outage is said once",
        "another outage is short",
        "another outage is long",
    ],
)
def test_an_outage_is_said_once(
    pauses: list[tuple[float, float]],
    said: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    notice = WaitNotice(30.0)
    for time, seconds in pauses:
        monkeypatch.setattr("time.monotonic", lambda time=time: 1000.0 + time)
        notice.note(Pause(seconds, "Cannot reach http://a (refused)"))
    line = "fds: Cannot reach http://a (refused); trying again for up to 30 s.\n"
    assert capsys.readouterr().err == line * said
