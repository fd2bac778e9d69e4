"""`emaps-task`: runs one layer of the pipeline as a task of a Databricks job, without Dagster.

It runs the code of the assets and their checks. Its output is shown on the task's page.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from emaps_dagster.cli.task_remedies import REMEDIES, add_options, apply
from emaps_dagster.contracts.errors import ChecksFailedError, EmapsError, FetchError, SettingsError
from emaps_dagster.contracts.feature_query import hours_between
from emaps_dagster.contracts.partition_keys import last_complete_hour, refuse_hours_not_over
from emaps_dagster.contracts.settings import Settings, read_settings
from emaps_dagster.contracts.signals import power_feeds
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import (
    ENERGY_DATA,
    POWER_DATA,
    REJECTED_RECORDS,
    REJECTED_RESPONSES,
    bronze_tables,
    ml_features,
)
from emaps_dagster.contracts.windows import HOUR, Window, gold_window, parse_utc, silver_window, utc_now
from emaps_dagster.contracts.zones import CARBON
from emaps_dagster.electricity_maps.client import ElectricityMapsClient
from emaps_dagster.electricity_maps.fetch import fetch
from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import MergeReport
from emaps_dagster.pipeline.check_catalog import Check, checks_of
from emaps_dagster.pipeline.checks import CheckContext, evaluate_hours, evaluate_table
from emaps_dagster.pipeline.gold import merge_gold
from emaps_dagster.pipeline.ingest import (
    explain,
    ingest,
    noting,
    quarantine_sentence,
    split_tolerated,
    tolerated_sentence,
)
from emaps_dagster.pipeline.silver import merge_silver
from emaps_dagster.transforms.quality.outcome import Outcome

LAYERS = ("bronze", "silver", "gold")
# Options that override settings: a wheel task takes parameters, not environment variables.
_SETTINGS = ("zones", "api_url", "power_signal", "catalog")
_SHOWN = 5


@dataclass(frozen=True)
class Task:
    """Inputs of one task: tables, settings, hours and clock."""

    lakehouse: Lakehouse
    settings: Settings
    window: Window
    clock: Callable[[], datetime]

    @property
    def zones(self) -> tuple[str, ...]:
        return self.settings.zones


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one task; Databricks treats any SystemExit as a failure, so success returns.

    Raises:
        SystemExit: the task failed; its code is the error message.
    """
    options = parser().parse_args(arguments)
    try:
        settings = _settings(options)
        if options.layer in REMEDIES:
            apply(_lakehouse(settings), settings.zones, options, _clock(settings)())
            return
        window = hours_of_task(options.start, options.end, options.at, settings.fixed_now)
        run(options.layer, Task(_lakehouse(settings), settings, window, _clock(settings)))
    except EmapsError as error:
        # Raised below, without a chain of causes that would hide the message.
        failure = f"emaps-task {options.layer}: {error}"
    else:
        return
    raise SystemExit(failure)


def parser() -> argparse.ArgumentParser:
    """The command line of `emaps-task`."""
    options = argparse.ArgumentParser("emaps-task", description=__doc__, allow_abbrev=False)
    options.add_argument("layer", choices=(*LAYERS, *REMEDIES), help="a layer's tables, or a remedy that a check names")
    options.add_argument(
        "--start", default="", help="first hour, UTC: a day, or 2024-05-01T06:00Z; empty: the last hour"
    )
    options.add_argument("--end", default="", help="end of the last hour, likewise")
    options.add_argument("--at", default="", help="when the job started; its last complete hour is taken by all tasks")
    options.add_argument("--zones", default="", help="zone keys, separated by commas")
    options.add_argument("--api-url", default="", help="the API with its version")
    options.add_argument("--power-signal", default="", help="power-breakdown (the default) or electricity-mix")
    options.add_argument("--catalog", default="", help="of the tables; empty: the metastore's")
    options.add_argument("--secret-scope", default="", help="where the token of the API is kept")
    options.add_argument("--secret-key", default="", help="its key there")
    add_options(options)
    return options


def hours_of_task(start: str, end: str, at: str, now: datetime | None = None) -> Window:
    """The hours [start, end), or the last hour that was complete at the moment `at`.

    Raises:
        SettingsError: only one of start and end is given, or `at` is no time.
        FeaturesError: the bounds are no full hours, or the end is not after the start.
    """
    if start and end:
        return hours_between(start, end)
    if start or end:
        raise SettingsError("--start and --end go together; without both the last complete hour is taken.")
    try:
        # Databricks passes the start of a job in UTC, with or without an offset.
        moment = parse_utc(at) if at else now or utc_now()
    except ValueError:
        raise SettingsError(f"--at is {at!r}: a time such as 2024-05-04T10:07:00Z is allowed.") from None
    hour = last_complete_hour(moment)
    return Window(hour, hour + HOUR)


def run(layer: str, task: Task) -> None:
    """Update the layer's tables for the task's hours, then evaluate their checks.

    Raises:
        PartitionError: some of the hours are not over.
        FetchError: requests of bronze failed; the usable responses are stored.
        ChecksFailedError: a blocking check failed.
    """
    refuse_hours_not_over(task.window, task.clock())
    print(f"{layer}, hours {task.window}, zones {', '.join(task.zones)}")
    tables = {"bronze": _bronze, "silver": _silver, "gold": _gold}[layer](task)
    failed = [name for table in tables for name in _failed_checks(task, table)]
    if failed:
        raise ChecksFailedError(
            f"{len(failed)} check{'s' * (len(failed) > 1)} failed that what lies downstream relies on: "
            f"{', '.join(failed)}. The findings are printed above; docs/operations.md says what to do."
        )


def _bronze(task: Task) -> tuple[Table, ...]:
    failed = []
    task.lakehouse.create(REJECTED_RESPONSES)
    task.lakehouse.create(REJECTED_RECORDS)
    road = task.settings.power_signal
    tables = bronze_tables(road)
    # Silver reads power_data on both roads.
    task.lakehouse.create(POWER_DATA)
    for feeds, table in zip((power_feeds(road), (CARBON,)), tables, strict=True):
        task.lakehouse.create(table)
        with _client(task) as client:
            outcomes = fetch(client, feeds, task.zones, task.window, task.clock())
            quarantined: list[str] = []
            stored, failures, fetched = ingest(task.lakehouse, table, noting(outcomes, quarantined))
        print(f"{table.qualified_name}: {fetched} responses fetched, {len(stored)} stored, {len(failures)} failed")
        tolerated, failures = split_tolerated(failures)
        for failure in tolerated:
            print(tolerated_sentence(failure))
        if quarantined:
            print(quarantine_sentence(table, quarantined))
        if failures:
            failed.append(explain(table, task.window, fetched, failures))
    if failed:
        raise FetchError("\n".join(failed))
    return tables


def _silver(task: Task) -> tuple[Table, ...]:
    _print_report(ENERGY_DATA, merge_silver(task.lakehouse, silver_window(task.window)))
    return (ENERGY_DATA,)


def _gold(task: Task) -> tuple[Table, ...]:
    table = ml_features(task.zones)
    _print_report(table, merge_gold(task.lakehouse, task.zones, gold_window(task.window)))
    return (table,)


def _client(task: Task) -> ElectricityMapsClient:
    settings = task.settings
    return ElectricityMapsClient(
        settings.api_url, settings.api_token, clock=task.clock, calls_per_minute=settings.calls_per_minute
    )


def _print_report(table: Table, report: MergeReport) -> None:
    total = report.total
    counts = f"{total.inserted} rows inserted, {total.updated} updated, {total.unchanged} unchanged"
    print(f"{table.qualified_name}: {counts}, {report.retries} commit conflicts")


def _failed_checks(task: Task, table: Table) -> list[str]:
    """Evaluate the checks and print the outcomes; returns the names of the failed blocking ones."""
    context = CheckContext(task.lakehouse, task.zones, task.window, task.clock())
    checks = checks_of(table)
    outcomes: dict[Check, Outcome] = evaluate_hours(
        context, table, [check for check in checks if not check.of_the_table]
    )
    outcomes |= {check: evaluate_table(context, table, check) for check in checks if check.of_the_table}
    failed = []
    for check in checks:
        outcome = outcomes[check]
        status = "passed" if outcome.passed else "FAILED" if check.blocking else "warns"
        print(f"check {table.qualified_name} {check.name}: {status}")
        for finding in outcome.findings[:_SHOWN]:
            hour = f" {finding.hour:%Y-%m-%dT%H:%MZ}" if finding.hour else ""
            print(f"  {finding.zone or 'table'}{hour}: {finding.what}")
        if len(outcome.findings) > _SHOWN:
            print(f"  and {len(outcome.findings) - _SHOWN} more")
        if not outcome.passed:
            print(f"  {check.remedy}")
        if not outcome.passed and check.blocking:
            failed.append(f"{table.qualified_name} {check.name}")
    return failed


def _settings(options: argparse.Namespace) -> Settings:
    os.environ["EMAPS_DEPLOYMENT"] = "databricks"
    for name in _SETTINGS:
        if getattr(options, name):
            os.environ[f"EMAPS_{name.upper()}"] = getattr(options, name)
    if options.layer == "bronze" and options.secret_scope:
        os.environ["EMAPS_API_TOKEN"] = _secret(options.secret_scope, options.secret_key)
    return read_settings()


def _secret(scope: str, key: str) -> str:
    from emaps_dagster.lakehouse.databricks_task import task_utilities

    try:
        return str(task_utilities().secrets.get(scope=scope, key=key))
    except Exception as error:  # noqa: BLE001  # any error of the JVM
        first = next(iter(str(error).splitlines()), type(error).__name__)
    raise SettingsError(
        f"the secret {key!r} of scope {scope!r} cannot be read: {first[:300]}. Make it by `databricks secrets "
        f"put-secret {scope} {key}`, and let the one the job runs as read the scope (docs/databricks.md, Secrets)."
    )


def _lakehouse(settings: Settings) -> Lakehouse:
    from emaps_dagster.lakehouse.databricks_task import task_session
    from emaps_dagster.lakehouse.delta_connect import catalog_lakehouse

    return catalog_lakehouse(task_session(), settings.catalog)


def _clock(settings: Settings) -> Callable[[], datetime]:
    fixed = settings.fixed_now
    return utc_now if fixed is None else lambda: fixed


if __name__ == "__main__":
    main(sys.argv[1:])
