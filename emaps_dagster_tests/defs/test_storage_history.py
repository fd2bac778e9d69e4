"""Our SQLite event log writes less than Dagster's: what pages, retries and any Dagster read of it is the same."""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

import re
import sqlite3
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.partition_key_range import PartitionKeyRange
from dagster._core.instance.runs.run_domain import RunDomain
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqliteEventLogStorage

from emaps_dagster.cli.home import prepare
from emaps_dagster.defs.instance.storage.sqlite import OpenSqliteEventLog
from emaps_dagster.defs.instance.storage.texts import text_of
from emaps_dagster_tests.defs.test_storage import as_dagster_comes

HOURS = dg.HourlyPartitionsDefinition("2024-05-04-00:00", timezone="UTC")
KEYS = HOURS.get_partition_keys_in_range(PartitionKeyRange("2024-05-04-00:00", "2024-05-04-05:00"))
THING = dg.AssetKey(["layer", "thing"])
FINE, ODD, WHOLE = (dg.AssetCheckKey(THING, name) for name in ("fine", "odd", "of_the_table"))
SPECS = [
    dg.AssetCheckSpec("fine", asset=THING, blocking=True, partitions_def=HOURS),
    dg.AssetCheckSpec("odd", asset=THING, partitions_def=HOURS),
    dg.AssetCheckSpec("of_the_table", asset=THING),
]


@dg.asset(key=THING, partitions_def=HOURS, backfill_policy=dg.BackfillPolicy.single_run(), code_version="1")
def thing(context: dg.AssetExecutionContext) -> None:
    for number, key in enumerate(context.partition_keys):
        more = {"picture": dg.MetadataValue.md("![](data:image/png)")} if number == 5 else {}
        context.add_asset_metadata({"rows": number, "share": number / 3, "none": None, **more}, partition_key=key)
    context.log.info("six hours")


def evaluations(broken: str | None) -> dg.AssetChecksDefinition:
    """An hour of `odd` does not pass, one of the blocking `fine` if it is named; what comes after it is not said."""

    @dg.multi_asset_check(name="judge", specs=SPECS, can_subset=True)
    def judge(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
        for key in KEYS:
            yield dg.AssetCheckEvaluation(
                THING, "fine", key != broken, partition=key, blocking=True, severity=dg.AssetCheckSeverity.ERROR
            )
        yield dg.Output(None, output_name="layer__thing_fine")
        if broken:
            raise dg.Failure("the others are not judged")
        for key in KEYS:
            passed = key != KEYS[2]
            yield dg.AssetCheckEvaluation(
                THING,
                "odd",
                passed,
                metadata={} if passed else {"findings": dg.MetadataValue.text("too much")},
                description=None if passed else "one finding",
                severity=dg.AssetCheckSeverity.WARN,
                blocking=False,
                partition=key,
            )
        yield dg.Output(None, output_name="layer__thing_odd")
        yield dg.AssetCheckResult(asset_key=THING, check_name="of_the_table", passed=True)

    return judge


def a_run(instance: dg.DagsterInstance, broken: str | None = None) -> str:
    job = dg.define_asset_job("hours", selection=dg.AssetSelection.all())
    definitions = dg.Definitions(assets=[thing], asset_checks=[evaluations(broken)], jobs=[job])
    tags = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]}
    result = definitions.resolve_job_def("hours").execute_in_process(
        instance=instance, tags=tags, raise_on_error=False, run_config={"loggers": {"console": {"config": {}}}}
    )
    assert result.success == (broken is None)
    return result.run_id


@pytest.fixture(params=[None, KEYS[3]], ids=["all_well", "broken"])
def broken(request: pytest.FixtureRequest) -> str | None:
    return request.param  # type: ignore[no-any-return]


Made = Callable[[str | None], tuple[tuple[Path, str], tuple[Path, str]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Home and run of ours and of Dagster's own, by the hour that is broken; they are only read."""

    @cache
    def make(broken: str | None) -> tuple[tuple[Path, str], tuple[Path, str]]:
        folder = tmp_path_factory.mktemp("homes")
        ours, dagsters = prepare(folder / "ours"), folder / "dagsters"
        dagsters.mkdir()
        (dagsters / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        runs = []
        for home in (ours, dagsters):
            with dg.DagsterInstance.from_config(str(home)) as instance:
                assert isinstance(instance.event_log_storage, OpenSqliteEventLog) == (home == ours)
                runs.append(a_run(instance, broken))
        return (ours, runs[0]), (dagsters, runs[1])

    return make


def both(made: Made, look: Callable[[dg.DagsterInstance, str], Any], broken: str | None) -> tuple[Any, Any]:
    """Our storage and Dagster's return the same after the same run, and Dagster's reads ours with the same result."""
    (ours, run), (dagsters, its_run) = made(broken)
    with dg.DagsterInstance.from_config(str(ours)) as instance:
        told = look(instance, run)
    with dg.DagsterInstance.from_config(str(dagsters)) as instance:
        expected = look(instance, its_run)
    settings = (ours / "dagster.yaml").read_text()
    as_dagster_comes(ours)
    with dg.DagsterInstance.from_config(str(ours)) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        assert look(instance, run) == told
    (ours / "dagster.yaml").write_text(settings)
    return told, expected


def statuses(instance: dg.DagsterInstance, _run: str) -> dict[str, list[tuple[Any, ...]]]:
    storage = instance.event_log_storage
    told = {}
    for check in (FINE, ODD, WHOLE):
        records = storage.get_asset_check_execution_history(check, limit=100)
        told[check.name] = sorted(
            (
                str(record.partition),
                record.status.value,
                evaluation.passed,
                evaluation.description,
                evaluation.metadata,
                evaluation.severity.value,
                evaluation.blocking,
                (evaluation.target_materialization_data is not None),
                record.event.step_key if record.event else None,
            )
            for record in records
            if record.status != AssetCheckExecutionRecordStatus.PLANNED and (evaluation := record.evaluation)
        )
    return told


def test_each_hour_of_each_check_has_the_status_and_the_words_that_dagster_stores(
    made: Made, broken: str | None
) -> None:
    told, expected = both(made, statuses, broken)
    assert told == expected
    assert [row[1] for row in told["fine"]] == ["FAILED" if key == broken else "SUCCEEDED" for key in KEYS]
    assert [row[1] for row in told["odd"]] == ([] if broken else ["SUCCEEDED"] * 2 + ["FAILED"] + ["SUCCEEDED"] * 3)


def colours(instance: dg.DagsterInstance, run: str) -> list[tuple[Any, ...]]:
    """What the page of a check draws for its partitions, and whether each is of the present materialization."""
    infos = instance.event_log_storage.get_asset_check_partition_info([FINE, ODD])
    return sorted(
        (
            info.check_key.name,
            info.partition_key,
            info.latest_execution_status.value,
            info.latest_planned_run_id == run,
            info.is_current,
        )
        for info in infos
    )


def test_the_colour_of_each_hour_is_dagsters_and_what_was_not_judged_is_still_planned(
    made: Made, broken: str | None
) -> None:
    told, expected = both(made, colours, broken)
    assert told == expected
    judged = ["SUCCEEDED"] * 2 + ["FAILED"] + ["SUCCEEDED"] * 3
    assert [row[2] for row in told if row[0] == "odd"] == (["PLANNED"] * 6 if broken else judged)


def materializations(instance: dg.DagsterInstance, _run: str) -> list[tuple[Any, ...]]:
    records = instance.fetch_materializations(THING, limit=100).records
    return [
        (
            record.partition_key,
            record.asset_materialization.metadata if record.asset_materialization else None,
            sorted((record.asset_materialization.tags or {}).keys()) if record.asset_materialization else None,
            record.event_log_entry.message,
            record.event_log_entry.step_key,
            instance.get_latest_data_version_record(THING, partition_key=record.partition_key) is not None,
        )
        for record in records
    ]


def test_each_materialization_has_its_numbers_pictures_and_tags(made: Made) -> None:
    told, expected = both(made, materializations, None)
    assert told == expected
    assert [row[0] for row in told] == KEYS[::-1]
    assert told[0][1]["picture"] == dg.MetadataValue.md("![](data:image/png)")
    assert told[1][1]["share"] == dg.MetadataValue.float(4 / 3)


def retried(instance: dg.DagsterInstance, run: str) -> Any:
    record = instance.get_run_by_id(run)
    assert record is not None
    assert record.execution_plan_snapshot_id is not None
    plan = instance.get_execution_plan_snapshot(record.execution_plan_snapshot_id)
    return RunDomain(instance).get_keys_to_reexecute(run, plan)


def test_a_retry_from_the_failure_takes_up_what_it_would_with_dagsters_log(made: Made, broken: str | None) -> None:
    told, expected = both(made, retried, broken)
    assert told == expected
    assert told == ((set(), set()) if broken is None else ({THING}, {FINE, ODD, WHOLE}))


def test_the_log_of_a_run_has_its_lines_its_failures_and_the_first_pass_of_each_check(made: Made) -> None:
    def log(instance: dg.DagsterInstance, run: str) -> list[tuple[Any, ...]]:
        return [
            (entry.dagster_event and entry.dagster_event.event_type_value, entry.message, entry.level, entry.step_key)
            for entry in instance.all_logs(run)
        ]

    told, expected = both(made, log, None)
    passes = ("ASSET_CHECK_EVALUATION", "Asset check 'fine' on 'layer/thing' passed.", 10, "judge")
    assert (expected.count(passes), told.count(passes)) == (6, 1)
    # What is left out are passes and plans of further hours; processes and times differ from run to run.
    said, theirs = ({row for row in rows if not re.search(r"\(pid:| in \d", row[1])} for rows in (told, expected))
    assert said == theirs
    judged = sorted(row[1] for row in told if row[0] == "ASSET_CHECK_EVALUATION" and "odd" in row[1])
    assert len(judged) == 2
    assert [sentence.endswith("passed.") for sentence in judged].count(True) == 1
    assert (None, "six hours", 20, "layer__thing") in said


def test_a_check_of_the_whole_table_leaves_no_plan_behind_and_the_index_one_row_of_all_checks(tmp_path: Path) -> None:
    home = prepare(tmp_path / "home")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = [a_run(instance), a_run(instance)]
        history = instance.event_log_storage.get_asset_check_execution_history(WHOLE, limit=100)
    assert [record.status.value for record in history] == ["SUCCEEDED"] * 2
    with sqlite3.connect(home / "history" / "runs" / "index.db") as index:
        events = "SELECT run_id, id FROM event_logs WHERE dagster_event_type LIKE 'ASSET_CHECK%' ORDER BY id"
        rows = index.execute(events).fetchall()
        ids = [row[0] for row in index.execute("SELECT evaluation_event_storage_id FROM asset_check_executions")]
    assert [row[0] for row in rows] == runs
    # Each has an id of its own, by which Dagster tells what came after what.
    assert len(ids) == len(set(ids)) == 2 * 13
    assert max(ids) == rows[-1][1]


def test_every_event_of_a_run_is_read_back_with_all_that_its_class_can_say(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = a_run(instance, KEYS[3])
        entries = list(instance.all_logs(run))
    assert len({entry.dagster_event_type for entry in entries}) > 12
    shared = ("message", "level", "run_id", "timestamp", "step_key", "job_name", "error_info")
    for entry in entries:
        again = dg.deserialize_value(text_of(entry), dg.EventLogEntry)
        assert [getattr(again, name) for name in shared] == [getattr(entry, name) for name in shared]
        if entry.dagster_event:
            assert again.dagster_event is not None
            for name in ("event_type", "job_name", "step_key", "event_specific_data", "partition", "asset_key"):
                assert getattr(again.dagster_event, name) == getattr(entry.dagster_event, name), entry
        assert len(text_of(entry)) < len(entry.to_json())
