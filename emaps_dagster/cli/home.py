"""Creates Dagster's home on one machine: compact history, one writer for each table, our log lines on the console.

`emaps`, `make demo` and `make dev` use it; a deployment has deploy/dagster.yaml.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = ".dagster"
_YAML = """\
# Made by emaps_dagster (home.py), for one machine: deployments use PostgreSQL. Change it as you like; it is kept.
telemetry:
  enabled: false
# No window that requests an e-mail address.
nux:
  enabled: false
python_logs:
  # Messages of this package. At DEBUG the console has a line for each status of each hour, too.
  python_log_level: INFO
concurrency:
  pools:
    # Every table has a pool: its writers queue up instead of racing.
    default_limit: 1
    granularity: op
# A run whose process died is tried again, and goes on where it stopped; a run that failed by itself is not.
run_retries:
  enabled: true
  max_retries: 3
  retry_on_asset_or_op_failure: false
run_monitoring:
  enabled: true
# Days that evaluations of schedules and sensors are kept; without this they stay for ever.
retention:
  schedule:
    purge_after_days: {{skipped: 7, success: 90, failure: 90, started: 90}}
  sensor:
    purge_after_days: {{skipped: 7, success: 30, failure: 90, started: 30}}
event_log_storage:
  # Thousands of statuses a backfill: a tenth of the time and a quarter of the space of Dagster's own, the same files.
  module: emaps_dagster.defs.instance.storage.sqlite
  class: OpenSqliteEventLog
  config:
    base_dir: {base_dir}
"""


def prepare(home: Path) -> Path:
    """Create the folder with its `dagster.yaml`; returns its absolute path, which Dagster needs.

    An existing file is kept, unless it was generated before the folder was moved: then it is generated again.
    """
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    file = home / "dagster.yaml"
    if not file.exists() or _was_moved(file.read_text("utf-8"), home):
        file.write_text(_text(home), "utf-8")
    return home


def _text(home: Path) -> str:
    return _YAML.format(base_dir=json.dumps(str(home / "history" / "runs"), ensure_ascii=False))


def _was_moved(text: str, home: Path) -> bool:
    named = re.search(r'base_dir: "(.*)/history/runs"$', text, re.MULTILINE)
    return named is not None and named[1] != str(home) and text == _text(Path(named[1]))
