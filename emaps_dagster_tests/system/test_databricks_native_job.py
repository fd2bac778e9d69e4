"""The job without Dagster: its tasks one by one, and its bundle; test_databricks_bundle.py runs it on a workspace."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from emaps_dagster.cli.task import LAYERS, Task, hours_of_task, main, parser, run
from emaps_dagster.cli.task_remedies import REMEDIES
from emaps_dagster.contracts.errors import ChecksFailedError, EmapsError, FetchError
from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.defs.schedules import MINUTE
from emaps_dagster.lakehouse.delta_rs import FolderLakehouse
from emaps_dagster.simulator.server import Fault, Simulator
from emaps_dagster_tests.support import guide
from emaps_dagster_tests.support.builders import utc

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = {name: tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"] for name in (".", "task")}
BUNDLE: dict[str, Any] = yaml.safe_load((ROOT / "databricks.yml").read_text())
TARGETS: dict[str, Any] = BUNDLE["targets"]
JOB: dict[str, Any] = TARGETS["prod"]["resources"]["jobs"]["emaps_hourly"]
SERVERLESS: dict[str, Any] = TARGETS["serverless"]["resources"]["jobs"]["emaps_hourly"]
BOTH = pytest.mark.parametrize("job", [JOB, SERVERLESS], ids=["cluster", "serverless"])
GOLD = ml_features(("GR",))
TOKEN = "token-of-electricity-maps"
NOW = datetime(2024, 5, 4, 10, 7, tzinfo=timezone.utc)
TICK = Window(utc(2024, 5, 4, 9), utc(2024, 5, 4, 10))


def _task(lakehouse: FolderLakehouse, sim: Simulator, window: Window = TICK) -> Task:
    settings = Settings(api_url=sim.url, api_token=TOKEN, fixed_now=NOW, _env_file=None)  # type: ignore[arg-type]
    return Task(lakehouse, settings, window, lambda: NOW)


# --- a task ---------------------------------------------------------------------------------------


def test_the_three_layers_follow_one_another_and_say_what_they_did(
    lakehouse: FolderLakehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    with Simulator(token=TOKEN, now=NOW) as sim:
        for layer in LAYERS:
            run(layer, _task(lakehouse, sim))
    told = capsys.readouterr().out
    assert "bronze, hours [2024-05-04T09:00Z, 2024-05-04T10:00Z), zones GR\n" in told
    assert "bronze.carbon_data: 1 responses fetched, 1 stored, 0 failed\n" in told
    assert "silver.energy_data: 23 rows inserted, 0 updated, 0 unchanged, 0 commit conflicts\n" in told
    assert "check gold.ml_features gold_equals_silver: passed\n" in told
    assert lakehouse.scan(GOLD).count() == 23
    # Four checks of either bronze table, fourteen of silver, nine of gold.
    assert told.count("check ") == 31
    assert "FAILED" not in told


def test_bronze_tries_both_feeds_and_then_fails_with_what_is_missing(lakehouse: FolderLakehouse) -> None:
    with Simulator(token=TOKEN, now=NOW) as sim:
        sim.inject(Fault("html", feed="power-breakdown"))
        with pytest.raises(FetchError, match=r"^bronze\.power_data .* 1 of 1 requests failed \(1 RejectedBodyError\)"):
            run("bronze", _task(lakehouse, sim))
    assert (lakehouse.scan(POWER_DATA).count(), lakehouse.scan(CARBON_DATA).count()) == (0, 1)


def test_a_blocking_check_fails_the_task_and_names_itself(
    lakehouse: FolderLakehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    with Simulator(token=TOKEN, now=NOW) as sim:
        for layer in ("bronze", "silver"):
            run(layer, _task(lakehouse, sim))
        lakehouse.append(ENERGY_DATA, lakehouse.scan(ENERGY_DATA))
        with pytest.raises(ChecksFailedError, match=r"^1 check failed .*: silver\.energy_data primary_key_is_unique\."):
            run("silver", _task(lakehouse, sim))
    told = capsys.readouterr().out
    assert re.search(r"primary_key_is_unique: FAILED\n  GR 2024-05-0\dT\d\d:00Z: 2 rows with this key\n", told)
    assert "  and 18 more\n  Zone and datetime name one row." in told


@pytest.mark.parametrize(
    ("start", "end", "at", "window"),
    [
        ("", "", "2024-05-04T10:07:00Z", TICK),
        ("", "", "2024-05-04T10:07:00.123456+00:00", TICK),
        # Databricks tells the start of a job in UTC.
        ("", "", "2024-05-04T10:07:00", TICK),
        ("", "", "2024-05-04T13:07:00+03:00", TICK),
        ("", "", "", TICK),
        ("2024-05-01", "2024-05-02T06:00Z", "2024-05-04T10:07:00Z", Window(utc(2024, 5, 1), utc(2024, 5, 2, 6))),
    ],
)
def test_a_task_takes_the_range_or_the_last_hour_that_was_complete(
    start: str, end: str, at: str, window: Window
) -> None:
    assert hours_of_task(start, end, at, NOW) == window
    assert window.end - window.start >= HOUR


@pytest.mark.parametrize(
    ("start", "end", "at", "told"),
    [
        ("2024-05-01", "", "", "--start and --end go together; without both the last complete hour is taken."),
        ("", "", "{{job.start_time}}", "--at is '{{job.start_time}}': a time such as 2024-05-04T10:07:00Z is allowed."),
        ("2024-05-02", "2024-05-01", "", "start 2024-05-02T00:00Z is not before end 2024-05-01T00:00Z; the hours are"),
    ],
)
def test_hours_that_make_no_sense_are_one_sentence(start: str, end: str, at: str, told: str) -> None:
    with pytest.raises(EmapsError) as caught:
        hours_of_task(start, end, at)
    assert str(caught.value).startswith(told)


def test_a_failed_task_ends_with_its_reason_and_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMAPS_DEPLOYMENT", "EMAPS_ZONES"):
        monkeypatch.setenv(name, "")
    with pytest.raises(SystemExit) as caught:
        main(["silver", "--zones", "gr"])
    assert str(caught.value).startswith("emaps-task silver: EMAPS_ZONES is 'gr': 'gr' is no zone key;")
    assert caught.value.__context__ is None


def test_the_commands_of_the_page_are_commands() -> None:
    written = guide.commands("emaps-task")
    assert [parser().parse_args(words[1:]).layer for words in written] == [*LAYERS, *REMEDIES]


# --- the bundle -----------------------------------------------------------------------------------


@BOTH
def test_the_bundle_runs_the_layers_one_after_another_at_the_minute_of_the_schedule(job: dict[str, Any]) -> None:
    assert job["schedule"]["quartz_cron_expression"] == f"0 {MINUTE} * * * ?"
    assert job["schedule"]["timezone_id"] == "UTC"
    assert [task["task_key"] for task in job["tasks"]] == list(LAYERS)
    upstream = [[one["task_key"] for one in task.get("depends_on", [])] for task in job["tasks"]]
    assert upstream == [[], ["bronze"], ["silver"]]


def test_every_task_names_the_entry_point_of_the_wheel_its_cluster_and_the_wheel_that_the_bundle_builds() -> None:
    (scripts,) = re.findall(r"\[project\.scripts\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), flags=re.DOTALL)
    clusters = {cluster["job_cluster_key"] for cluster in JOB["job_clusters"]}
    for task in JOB["tasks"]:
        assert f'{task["python_wheel_task"]["entry_point"]} = "emaps_dagster.cli.task:main"' in scripts
        assert task["python_wheel_task"]["package_name"] == "emaps_dagster"
        assert task["job_cluster_key"] in clusters
        assert task["libraries"] == [{"whl": "./dist/*.whl"}]
    assert BUNDLE["artifacts"]["wheel"]["build"] == "uv build --wheel"


def test_a_task_on_serverless_compute_has_the_environment_and_no_cluster() -> None:
    (environment,) = SERVERLESS["environments"]
    assert environment["spec"] == {"environment_version": "4", "dependencies": ["./task/dist/*.whl"]}
    assert TARGETS["serverless"]["artifacts"]["task"] == {
        "type": "whl",
        "path": "./task",
        "build": "uv build --wheel",
    }
    assert "job_clusters" not in SERVERLESS
    for task, of_cluster in zip(SERVERLESS["tasks"], JOB["tasks"], strict=True):
        assert task["environment_key"] == environment["environment_key"]
        assert task["disable_auto_optimization"] is True
        assert not {"job_cluster_key", "libraries"} & task.keys()
        wheel = {**of_cluster["python_wheel_task"], "package_name": PROJECTS["task"]["name"]}
        assert task["python_wheel_task"] == wheel
    # Each variable without a default has a value in the target that does not need it.
    needed = {name for name, variable in BUNDLE["variables"].items() if "default" not in variable}
    assert TARGETS["serverless"]["variables"].keys() == needed


def test_the_wheel_of_serverless_tasks_has_the_versions_of_the_whole_and_neither_spark_nor_dagster() -> None:
    whole, task = PROJECTS["."], PROJECTS["task"]
    assert task["version"] == whole["version"]
    assert set(task["dependencies"]) <= set(whole["dependencies"])
    assert [one for one in task["dependencies"] if re.match("pyspark|delta-spark|dagster|pysail|databricks", one)] == []
    assert task["scripts"] == {"emaps-task": whole["scripts"]["emaps-task"]}


@BOTH
def test_every_parameter_of_a_task_is_an_option_and_every_variable_is_declared(job: dict[str, Any]) -> None:
    for task in job["tasks"]:
        options = parser().parse_args(task["python_wheel_task"]["parameters"])
        assert options.layer == task["task_key"]
        assert bool(options.secret_scope) == (options.layer == "bronze"), "only bronze needs the token"
    text = (ROOT / "databricks.yml").read_text()
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == set(BUNDLE["variables"])
    assert set(re.findall(r"\{\{job\.parameters\.(\w+)\}\}", text)) == {one["name"] for one in job["parameters"]}


def test_the_bundle_has_the_runtime_of_the_settings_and_no_secret() -> None:
    (cluster,) = JOB["job_clusters"]
    assert cluster["new_cluster"]["spark_version"] == Settings(_env_file=None).databricks.runtime
    assert set(TARGETS) == {"dev", "prod", "serverless"}
    assert TARGETS["dev"]["resources"] == TARGETS["prod"]["resources"]
    given = {
        words[words.index("--var") + 1].split("=")[0] for words in guide.commands("databricks") if "--var" in words
    }
    assert given <= set(BUNDLE["variables"])


def test_a_deployment_uploads_the_wheel_alone_where_only_who_deploys_can_write() -> None:
    # The CLI's rule: without `paths` it uploads the whole checkout, with none of them no file, and warns of neither.
    # What a target says of `sync` is added to it.
    assert BUNDLE["sync"] == {"paths": []}
    assert all("sync" not in target for target in BUNDLE["targets"].values())
    # The tasks need no other file: libraries are uploaded as artifacts.
    assert not set(re.findall(r"\./[^\s\"']+", json.dumps(BUNDLE))) - {"./dist/*.whl", "./task", "./task/dist/*.whl"}
    roots = [target.get("workspace", {}).get("root_path") for target in BUNDLE["targets"].values()]
    own = "/Workspace/Users/${workspace.current_user.userName}/.bundle/${bundle.name}/${bundle.target}"
    # The CLI's default, of `dev`, is the same folder.
    assert roots == [None, own, own]
    assert not {"file_path", "artifact_path", "state_path"} & set(BUNDLE["targets"]["prod"]["workspace"])
