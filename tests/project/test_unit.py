"""The unit for systemd, checked by systemd's own tools. No systemd runs it here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from financial_data_service.server.processes.supervisor import END_SECONDS_MAX
from financial_data_service.settings import Settings
from support.paths import ROOT

ANALYZE = shutil.which("systemd-analyze")
UNIT = (ROOT / "deploy" / "fds.service").read_text("utf-8")
EXPOSURE_MAX = 20  # tenths, of systemd's scale from 0 to 10; versions of systemd rate differently

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")


def analyze(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The command of the unit must exist.
    unit = tmp_path / "fds.service"
    unit.write_text(UNIT.replace("/opt/fds/.venv/bin/fds", "/bin/true"))
    return subprocess.run(
        [ANALYZE or "", *arguments, str(unit)], check=False, capture_output=True, text=True
    )


@needs_systemd
def test_it_is_valid(tmp_path: Path) -> None:
    result = analyze(tmp_path, "verify", "--man=no")
    ours = [line for line in result.stderr.splitlines() if "fds.service" in line]
    assert (result.returncode, ours) == (0, [])


@needs_systemd
def test_it_has_few_rights(tmp_path: Path) -> None:
    flags = ("--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager")
    result = analyze(tmp_path, "security", *flags)
    assert result.returncode == 0, result.stdout + result.stderr


def test_it_waits_long_enough_for_the_end() -> None:
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert seconds is not None
    assert int(seconds[1]) > END_SECONDS_MAX


def test_its_variables_are_settings() -> None:
    names = re.findall(r"^Environment=FDS_(\w+)=", UNIT, re.MULTILINE)
    assert names
    assert {name.lower() for name in names} <= Settings.model_fields.keys()
