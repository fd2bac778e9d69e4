"""deploy/ by its shape: what compose and systemd read, without a secret in it. It is run in test_deploy_runs.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from emaps_dagster.cli.orphaned_runs import end_orphans
from emaps_dagster.contracts.settings import variables_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = ("code", "daemon", "webserver")
PROGRAMS = ("dagster", "dagster-daemon", "dagster-webserver", "python")


def variables(file: Path) -> dict[str, str]:
    """The variables of an example file, those that are commented out as well."""
    found = re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", file.read_text(), re.MULTILINE)
    return dict(found)


def wanted_by_dagster() -> set[str]:
    """What dagster.yaml and workspace.yaml take from the environment."""
    texts = [(DEPLOY / name).read_text() for name in ("dagster.yaml", "workspace.yaml")]
    return set(re.findall(r"\{env: (\w+)\}", "".join(texts)))


def test_every_service_is_watched_limited_and_comes_back() -> None:
    assert set(COMPOSE["services"]) == {"postgres", *OURS}
    for name, service in COMPOSE["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"]["max-size"], name
    for name in OURS:
        service = COMPOSE["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert all(need["condition"] == "service_healthy" for need in service["depends_on"].values())
    assert set(COMPOSE["volumes"]) == {"postgres", "dagster", "warehouse"}


def test_the_user_interface_is_open_to_this_machine_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:3000:3000"]


def test_every_variable_that_dagster_wants_is_given_and_no_secret_is_among_them() -> None:
    password = "DAGSTER_POSTGRES_PASSWORD"
    for name in OURS:
        service = COMPOSE["services"][name]
        assert {*service["environment"], password} == wanted_by_dagster(), name
        assert password.lower() in service["secrets"]
    # The token goes where runs are, and nowhere else.
    assert [name for name in OURS if "emaps_api_token" in COMPOSE["services"][name]["secrets"]] == ["code"]
    assert {*variables(DEPLOY / "systemd" / "dagster.env.example"), "DAGSTER_HOME"} == {
        *wanted_by_dagster(),
        "DAGSTER_HOME",
    }


def test_examples_name_settings_that_exist_and_hold_no_secret() -> None:
    settings = variables(DEPLOY / "emaps.env.example")
    assert set(settings) <= {name for name, _ in variables_of()}
    assert (
        settings["EMAPS_API_TOKEN"]
        == variables(DEPLOY / "systemd" / "dagster.env.example")["DAGSTER_POSTGRES_PASSWORD"]
        == ""
    )


def test_the_image_takes_only_what_it_names() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == {line[1:] for line in ignored if line.startswith("!")}
    for source in sources:
        assert (DEPLOY.parent / source).exists(), source
    assert not {".", ".env", "warehouse"} & sources


def test_what_is_made_from_the_examples_is_not_committed() -> None:
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert {"/deploy/emaps.env", "/deploy/secrets/"} <= set(ignored)


def test_dagster_understands_its_configuration_and_every_table_has_a_pool_of_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["concurrency"]["pools"] == {"default_limit": 1, "granularity": "op"}
    assert config["concurrency"]["runs"]["max_concurrent_runs"] == 3
    assert config["run_monitoring"]["enabled"] is True
    assert (config["run_retries"]["max_retries"], config["run_retries"]["retry_on_asset_or_op_failure"]) == (3, False)
    assert config["telemetry"]["enabled"] is False
    assert set(config["retention"]) == {"schedule", "sensor"}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine where /opt/emaps is: systemd looks whether programs exist."""
    opt = tmp_path / "opt" / "emaps"
    (opt / ".venv" / "bin").mkdir(parents=True)
    for name in PROGRAMS:
        program = opt / ".venv" / "bin" / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    units = tmp_path / "units"
    shutil.copytree(DEPLOY / "systemd", units)
    for unit in units.glob("*.service"):
        unit.write_text(unit.read_text().replace("/opt/emaps", str(opt)))
    return units


def analyze(*arguments: str, units: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={"SYSTEMD_UNIT_PATH": f"{units}:", "PATH": "/usr/bin:/bin", "SYSTEMD_LOG_LEVEL": "warning"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_finds_nothing_wrong_with_the_units_and_calls_them_closed(installed: Path) -> None:
    files = [str(installed / unit.name) for unit in UNITS]
    verified = analyze("verify", "--man=no", *files, units=installed)
    complaints = [line for line in verified.stderr.splitlines() if "emaps" in line]
    assert (complaints, len(files)) == ([], 3)
    for file in files:
        judged = analyze("security", "--offline=true", "--threshold=30", "--no-pager", file, units=installed)
        assert judged.returncode == 0, judged.stdout[-600:] + judged.stderr


def test_units_run_what_compose_runs_after_the_same_check() -> None:
    for unit in UNITS:
        service = COMPOSE["services"][unit.stem.removeprefix("emaps-")]
        role, *command = service["command"]
        text = unit.read_text()
        started = re.search(r"^ExecStart=/opt/emaps/.venv/bin/(.*)$", text, re.MULTILINE)
        assert started
        here = {"0.0.0.0": "127.0.0.1", "/opt/emaps/workspace.yaml": "/opt/emaps/src/deploy/workspace.yaml"}
        assert started[1].split() == [here.get(word, word) for word in command]
        checks = re.findall(r"^ExecStartPre=\S+/python -m (.*)$", text, re.MULTILINE)
        script = (DEPLOY / "entrypoint.sh").read_text()
        for check in checks:
            assert f"python -m {check}" in script
        assert ("emaps.env" in text) == (role == "code")


def test_the_entrypoint_gives_secrets_of_files_to_the_process_and_refuses_unknown_roles(tmp_path: Path) -> None:
    (tmp_path / "emaps_api_token").write_text("from-a-file\n")
    environment = {"SECRETS": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = ["sh", str(DEPLOY / "entrypoint.sh"), "healthy", "sh", "-c", 'echo "$EMAPS_API_TOKEN"']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "from-a-file\n"
    command[2] = "root"
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr) == (
        2,
        "entrypoint.sh: the first word is code, dagster or healthy, not root\n",
    )


def test_runs_that_died_with_their_code_server_are_ended_and_no_others() -> None:
    alive = {".dagster/grpc_info": '{"host": "127.0.0.1", "port": 4000}'}
    status = dg.DagsterRunStatus
    with dg.DagsterInstance.ephemeral() as instance:
        cases = {
            (status.STARTED, True): status.FAILURE,
            (status.STARTING, True): status.FAILURE,
            (status.CANCELING, True): status.CANCELED,
            (status.NOT_STARTED, True): status.NOT_STARTED,
            (status.SUCCESS, True): status.SUCCESS,
            # Of `dagster job execute`: it has a process of its own.
            (status.STARTED, False): status.STARTED,
        }
        runs = {}
        for before, by_server in cases:
            run = dg.DagsterRun(job_name="hourly", status=before, tags=alive if by_server else {})
            runs[before, by_server] = instance.add_run(run).run_id
        assert len(end_orphans(instance)) == 3
        ends = {case: instance.get_run_by_id(run_id) for case, run_id in runs.items()}
        assert {case: run and run.status for case, run in ends.items()} == cases
        assert end_orphans(instance) == []
