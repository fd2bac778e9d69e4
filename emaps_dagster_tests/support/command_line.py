"""`dagster` as a person types it: a process of its own, settings in its environment, a DAGSTER_HOME of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg

from harness.jvm import SHORT_LIVED

ROOT = Path(__file__).resolve().parents[2]
# Nothing leaves the machine, and whatever any library logs while a run lasts is stored.
_INSTANCE = """
telemetry:
  enabled: false
python_logs:
  python_log_level: {log_level}
  managed_python_loggers: [root, emaps_dagster, requests, urllib3, tenacity]
"""


def run_hourly_job(
    home: Path, partition: str, *, log_level: str = "INFO", **settings: object
) -> subprocess.CompletedProcess[bytes]:
    """The job that the schedule starts, for one hour; `settings` are those of `.env.example` without `EMAPS_`."""
    tags = json.dumps({"dagster/partition": partition})
    command = ("job", "execute", "-m", "emaps_dagster.definitions", "-j", "hourly", "--tags", tags)
    return dagster(home, *command, log_level=log_level, **settings)


def dagster(
    home: Path, *arguments: str, log_level: str = "INFO", **settings: object
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of dagster to its end, in an empty folder beside its home.

    Args:
        log_level: at DEBUG each word that py4j says to a JVM is an event of the run: a minute for an hourly run.
    """
    folder = home.parent / "working_folder"
    for path in (home, folder):
        path.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(_INSTANCE.format(log_level=log_level))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EMAPS_", "SPARK_"))}
    environment |= {f"EMAPS_{name.upper()}": str(value) for name, value in settings.items()}
    environment |= {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment |= {"JAVA_TOOL_OPTIONS": SHORT_LIVED}
    command = [sys.executable, "-m", "dagster", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=240, check=False)


def check_evaluations(home: Path) -> list[Any]:
    """What the checks said in all runs that this home stores."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        records = [r for run in instance.get_runs() for r in instance.get_records_for_run(run.run_id).records]
    events = [record.event_log_entry.dagster_event for record in records]
    return [e.event_specific_data for e in events if e and e.event_type_value == "ASSET_CHECK_EVALUATION"]
