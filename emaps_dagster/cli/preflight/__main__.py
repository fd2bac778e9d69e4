"""`python -m emaps_dagster.cli.preflight`: exit code 1 when Dagster could not start or no run could work.

Faults outside the deployment, such as an API that does not answer, are warnings: Dagster must start to show them and to
retry. `--strict` fails on warnings, too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping

from emaps_dagster.cli.preflight.findings import Finding, ok, problem
from emaps_dagster.cli.preflight.instance import dagster_home, storage
from emaps_dagster.cli.preflight.surroundings import api, engine, time_zones, warehouse
from emaps_dagster.contracts.errors import SettingsError
from emaps_dagster.contracts.settings import read_settings


def main() -> int:
    """Print the findings; returns 0 when Dagster can start, 1 when not."""
    parser = argparse.ArgumentParser(prog="python -m emaps_dagster.cli.preflight", description=__doc__)
    parser.add_argument("--dagster-only", action="store_true", help="of webserver and daemon: no tables, no API")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for PostgreSQL to come up")
    parser.add_argument("--strict", action="store_true", help="a warning is a failure, too")
    options = parser.parse_args()
    levels = []
    for finding in findings(os.environ, dagster_only=options.dagster_only, wait=options.wait):
        levels.append(finding.level)
        print(f"{finding.level:>7}  {finding.text}", flush=True)
    return int("problem" in levels or (options.strict and "warning" in levels))


def findings(environment: Mapping[str, str], *, dagster_only: bool, wait: float) -> Iterator[Finding]:
    """All findings, in the order in which they have to be repaired."""
    home = yield from dagster_home(environment.get("DAGSTER_HOME"))
    if home:
        yield from storage(home, environment, wait)
    if dagster_only:
        return
    settings = None
    try:
        settings = read_settings()
    except SettingsError as error:
        yield problem(f"{error} (.env.example lists the settings)")
    yield from time_zones(settings.zones if settings else ())
    if settings is None:
        return
    yield ok(f"The settings are complete: {settings.deployment}, zones {', '.join(settings.zones)}.")
    if settings.deployment != "databricks":
        yield from warehouse(settings.warehouse.resolve())
    yield from engine(settings)
    yield from api(settings)


if __name__ == "__main__":
    sys.exit(main())
