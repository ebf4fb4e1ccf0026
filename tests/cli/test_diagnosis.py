"""What ``fds doctor`` finds and advises, each check on its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from financial_data_service.cli import diagnosis, machine
from financial_data_service.cli.diagnosis import FAULT, NOTE, OK, Finding
from financial_data_service.cli.machine import Memory, Mount, OpenFiles, Space
from financial_data_service.settings import Settings
from support.data_directories import in_use

SMALL = Settings(largest_window=1000, max_symbols=1)


def found(name: str, settings: Settings = SMALL) -> Finding:
    [finding] = [each for each in diagnosis.findings(settings) if each.name == name]
    return finding


def test_each_has_a_name_of_its_own_and_advice_unless_it_is_ok() -> None:
    findings = list(diagnosis.findings(SMALL))
    assert len({each.name for each in findings}) == len(findings)
    for each in findings:
        assert each.state in (OK, NOTE, FAULT)
        assert bool(each.advice) == (each.state != OK), each


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("packages").state == OK
    monkeypatch.setattr(diagnosis, "PACKAGES", ("numpy", "not-a-package"))
    finding = found("packages")
    assert finding.state == FAULT
    assert "not-a-package" in finding.advice


def test_variables_that_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDS_PROT", "secret")
    finding = found("variables")
    assert (finding.state, finding.value) == (NOTE, "FDS_PROT (did you mean FDS_PORT?)")


def test_more_workers_than_cores() -> None:
    assert found("cores").state == OK
    assert found("cores", Settings(workers=64)).state == NOTE


@pytest.mark.parametrize(
    ("limit", "state"), [(None, OK), (10**6, NOTE)], ids=["no control group", "a control group"]
)
def test_memory(limit: int | None, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: Memory(10**10, 10**9, limit))
    settings = Settings(largest_window=10**6, max_symbols=2)
    assert found("memory", settings).state == state
    assert found("memory", Settings(max_symbols=100)).state == NOTE


@pytest.mark.parametrize(
    ("kind", "free", "state"),
    [
        ("ext4", 10**12, OK),
        ("ext4", 10**3, NOTE),
        ("tmpfs", 10**12, NOTE),
        ("nfs4", 10**12, NOTE),
        ("fuse.sshfs", 10**12, NOTE),
    ],
)
def test_disk(
    kind: str, free: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "mount_of", lambda _path: Mount("/data", kind))
    monkeypatch.setattr(machine, "space_of", lambda _path: Space(10**12, free))
    finding = found("disk", Settings(data_dir=tmp_path / "new"))
    assert (finding.state, finding.value.partition(",")[0]) == (state, f"{kind} on /data")


class TestDataDirectory:
    def judge(self, path: Path, **settings: int) -> Finding:
        return found("data directory", Settings(data_dir=path, **settings))  # type: ignore[arg-type]

    def test_none(self) -> None:
        assert found("data directory").state == OK

    def test_one_to_be_made_is_not_made(self, tmp_path: Path) -> None:
        finding = self.judge(tmp_path / "a" / "b")
        assert (finding.state, finding.value.endswith("to be made at the start")) == (OK, True)
        assert list(tmp_path.iterdir()) == []

    def test_one_that_is_there(self, directory: Path) -> None:
        before = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
        assert self.judge(directory) == Finding("data directory", f"{directory}, not in use")
        assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == before

    def test_one_that_is_used_with_other_settings(self, directory: Path) -> None:
        with in_use(directory):
            finding = self.judge(directory, max_symbols=11)
        assert finding.state == FAULT
        assert "max_symbols 10 instead of 11" in finding.advice

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            assert self.judge(path).state == FAULT

    def test_one_of_another_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        finding = self.judge(tmp_path)
        assert finding.state == FAULT
        assert f"user {user}, this is user {user + 1}" in finding.advice

    def test_one_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert "cannot write" in self.judge(tmp_path / "new").advice


def test_shared_memory_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "financial_data_service.server.processes.temporary_directory"
    workers = Settings(workers=2, largest_window=1000)
    assert found("/dev/shm", workers).state == OK
    monkeypatch.setattr(f"{module}.place_for", lambda _settings: None)
    assert found("/dev/shm", workers).state == NOTE
    assert found("/dev/shm", SMALL).state == OK


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for limits, state in (((1024, 4096), OK), ((1024, 1024), NOTE), ((1024, None), OK)):
        monkeypatch.setattr(machine, "open_files", lambda limits=limits: OpenFiles(*limits))
        assert found("open files").state == state


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    finding = found("certificate", Settings(ssl_certfile=tmp_path / "none.pem"))
    assert finding.state == FAULT
    assert "No such file" in finding.advice


def test_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = Settings(port=port)
        assert diagnosis.address(settings, None).state == FAULT
        assert diagnosis.address(settings, "http://127.0.0.1:1").state == FAULT
        assert diagnosis.address(settings, f"http://127.0.0.1:{port}").state == OK
    assert diagnosis.address(Settings(port=0), None).state == OK


KERNELS = """
from financial_data_service.cli import diagnosis
from financial_data_service.settings import Settings
print(*next(each for each in diagnosis.findings(Settings()) if each.name == "kernels"), sep="|")
"""


def kernels(**variables: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", KERNELS],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | variables,
    )
    return run.stdout.split("|")


def test_kernels_are_looked_up_and_not_compiled(tmp_path: Path) -> None:
    _, value, state, _ = kernels(NUMBA_CACHE_DIR=str(tmp_path))
    assert (value.startswith(f"not yet in {tmp_path}"), state) == (True, NOTE)
    assert list(tmp_path.rglob("*.nbc")) == []
    assert kernels(NUMBA_DISABLE_JIT="1")[2] == NOTE


def test_kernels_for_another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CPU_NAME", "x86-64-v3")
    monkeypatch.setattr(machine, "processor_flags", lambda: {"sse4_2", "fma"})
    finding = found("kernels")
    assert (finding.state, "lacks avx2" in finding.value) == (FAULT, True)


def test_kernels_that_are_compiled() -> None:
    from financial_data_service.engine.running_stats import warm_up

    warm_up()
    assert found("kernels").value.startswith("compiled, in ")
