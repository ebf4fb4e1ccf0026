"""Dockerfile, compose.yaml and what they mount: read here, not run, for want of a container engine.

``scripts/try_image.py`` carries the Dockerfile out in a directory; its parser is tested here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from financial_data_service.settings import Settings
from support.paths import ROOT
from support.service_process import LIGHT, environment, running

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
# hadolint comes with the packages of the tests, for some processors.
_PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
HADOLINT = shutil.which("hadolint", path=_PATH)
PROMTOOL = shutil.which("promtool")

sys.path.append(str(ROOT / "scripts"))
import try_image  # noqa: E402


def instructions(name: str) -> list[str]:
    return [rest for each, rest in try_image.instructions(DOCKERFILE) if each == name]


def variables() -> dict[str, str]:
    stage = try_image.Stage(Path("/"), {})
    for name, rest in try_image.instructions(DOCKERFILE):
        if name in ("ARG", "ENV"):
            try_image.instruct(stage, {}, name, rest)
    return stage.variables


class TestDockerfile:
    @pytest.mark.skipif(HADOLINT is None, reason="needs hadolint")
    def test_the_linter_is_content(self) -> None:
        result = subprocess.run(
            [HADOLINT or "", ROOT / "Dockerfile"], check=False, capture_output=True, text=True
        )
        assert (result.returncode, result.stdout) == (0, "")

    def test_what_is_copied_exists_and_is_not_ignored(self) -> None:
        lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        assert lines[1] == "*"
        allowed = {line[1:] for line in lines if line.startswith("!")}
        copied = {
            name
            for rest in instructions("COPY")
            if not rest.startswith("--from=")
            for name in rest.split()[:-1]
        }
        assert copied == allowed
        assert [name for name in copied if not (ROOT / name).exists()] == []

    def test_the_base_is_one_exact_version(self) -> None:
        image = next(rest for rest in instructions("ARG") if rest.startswith("PYTHON_IMAGE="))
        assert re.fullmatch(r"PYTHON_IMAGE=python:3\.13\.\d+-slim-[a-z]+", image)
        assert set(re.findall(r"\$\{\w+\}", " ".join(instructions("FROM")))) == {"${PYTHON_IMAGE}"}

    def test_packages_come_from_the_lock_file_and_build_tools_go(self) -> None:
        text = " ".join(instructions("RUN"))
        assert "--require-hashes --only-binary :all: -r requirements/run.txt" in " ".join(
            text.split()
        )
        locked = (ROOT / "requirements" / "run.txt").read_text("utf-8")
        [removing] = [rest for rest in instructions("RUN") if "uninstall --yes" in rest]
        removed = removing.partition("uninstall --yes")[2].split()
        # What hatchling needs and nothing else does.
        for name in ("hatchling", "editables", *removed):
            assert name in removed
            entry = locked.partition(f"\n{name}==")[2].partition("==")[0]
            users = re.findall(r"^    #   (?!-c )(\S+)(.*)$", entry, re.MULTILINE)
            assert users, name
            for user, more in users:
                assert user == "hatchling" or more.endswith("pyproject.toml:build)"), (name, user)

    def test_it_does_not_run_as_root(self) -> None:
        assert instructions("USER") == ["10001"]
        assert "--uid 10001" in " ".join(instructions("RUN"))

    def test_variables_are_settings(self) -> None:
        names = {name.removeprefix("FDS_").lower() for name in variables() if name[:4] == "FDS_"}
        assert names == {"host", "data_dir"}
        assert names <= Settings.model_fields.keys()
        assert variables()["FDS_DATA_DIR"] in instructions("VOLUME")

    def test_the_kernels_depend_on_no_machine(self) -> None:
        """Numba's key for a compiled kernel holds these two, and nothing of the machine."""
        code = (
            "from numba.core.registry import cpu_target\n"
            "print(cpu_target.target_context.codegen().magic_tuple()[1:])"
        )
        chosen = {key: value for key, value in variables().items() if key.startswith("NUMBA_CPU")}
        result = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | chosen,
        )
        assert result.stdout.strip() == "('x86-64-v3', '')"


class TestHealthcheck:
    SCRIPT = ROOT / "deploy" / "healthcheck.py"

    def check(self, port: str, **more: str) -> int:
        command = [sys.executable, "-I", "-S", str(self.SCRIPT)]
        env = environment(FDS_PORT=port, http_proxy="http://127.0.0.1:9", **more)
        return subprocess.run(command, check=False, capture_output=True, env=env).returncode

    def test_ready_and_not(self, tmp_path: Path) -> None:
        with running(tmp_path, LIGHT, FDS_API_KEY="0123456789abcdef") as service:
            port = service.url.rpartition(":")[2]
            assert self.check(port) == 0
            assert self.check(port, FDS_SSL_CERTFILE="chain.pem") == 1
        assert self.check(port) == 1

    def test_the_image_runs_it(self) -> None:
        [rest] = instructions("HEALTHCHECK")
        *_, path = json.loads(rest.partition(" CMD ")[2])
        assert f"deploy/{self.SCRIPT.name} {path}" in instructions("COPY")


class TestCompose:
    SERVICES: dict[str, Any] = COMPOSE["services"]

    def test_every_name_leads_somewhere(self) -> None:
        for service in self.SERVICES.values():
            for config in service.get("configs", ()):
                assert config["source"] in COMPOSE["configs"]
            for volume in service.get("volumes", ()):
                assert volume.partition(":")[0] in COMPOSE["volumes"]
        for config in COMPOSE["configs"].values():
            assert config.keys() in ({"file"}, {"content"})
            assert "file" not in config or (ROOT / config["file"]).is_file()

    def test_ports_are_on_the_loopback_address(self) -> None:
        ports = [port for service in self.SERVICES.values() for port in service["ports"]]
        assert len(ports) == len(self.SERVICES)
        assert [port for port in ports if not fnmatch(port, "127.0.0.1:*:*")] == []

    def test_images_are_pinned(self) -> None:
        for service in self.SERVICES.values():
            assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])

    def test_nothing_has_more_rights_than_it_needs(self) -> None:
        for service in self.SERVICES.values():
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]

    def test_the_service(self) -> None:
        service = self.SERVICES["fds"]
        assert service["volumes"] == [f"prices:{variables()['FDS_DATA_DIR']}"]
        names = [name.removeprefix("FDS_").lower() for name in service["environment"]]
        assert set(names) <= Settings.model_fields.keys()

    def test_prometheus_asks_the_service(self) -> None:
        ours = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text("utf-8"))
        theirs = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])
        ours["scrape_configs"][0]["static_configs"][0]["targets"] = ["fds:8000"]
        assert theirs == ours

    def test_grafana_finds_prometheus_and_the_dashboard(self) -> None:
        configs = COMPOSE["configs"]
        [source] = yaml.safe_load(configs["datasource"]["content"])["datasources"]
        assert (source["url"], source["type"]) == ("http://prometheus:9090", "prometheus")
        [provider] = yaml.safe_load(configs["dashboards"]["content"])["providers"]
        targets = {each["source"]: each["target"] for each in self.SERVICES["grafana"]["configs"]}
        assert Path(targets["dashboard"]).parent == Path(provider["options"]["path"])
        home = "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
        assert self.SERVICES["grafana"]["environment"][home] == targets["dashboard"]

    @pytest.mark.skipif(PROMTOOL is None, reason="needs promtool")
    def test_promtool_is_content(self, tmp_path: Path) -> None:
        for config in self.SERVICES["prometheus"]["configs"]:
            content = COMPOSE["configs"][config["source"]]
            text = content.get("content") or (ROOT / content["file"]).read_text("utf-8")
            (tmp_path / Path(config["target"]).name).write_text(text)
        result = subprocess.run(
            [PROMTOOL or "", "check", "config", tmp_path / "prometheus.yml"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
