"""Events of steps that ran elsewhere say what those of steps that run here say: provenance, and what a check judged.

`Elsewhere` runs a step as a cluster does, on a storage of its own that is thrown away, and replays what it told;
`Together` does so with all steps of a run.
"""

# No postponed annotations: Dagster reads the type of `context` when it decorates.

from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus
from dagster._core.definitions.step_launcher import StepLauncher
from dagster._core.execution.plan.external_step import external_instance_from_step_run_ref, run_step_from_ref
from dagster._serdes import serialize_value

from emaps_dagster.contracts.errors import LauncherError
from emaps_dagster.defs.asset_checks.evaluations import hourly_evaluations, table_evaluation
from emaps_dagster.defs.instance import versions
from emaps_dagster.defs.instance.versions import check_launcher_versions
from emaps_dagster.defs.partitions import hourly_partitions, run_window
from emaps_dagster.defs.resources.databricks.cluster_main import execute
from emaps_dagster.defs.resources.databricks.event_provenance import EventProvenance
from emaps_dagster.defs.resources.databricks.step_batch import steps_that_follow
from emaps_dagster.defs.resources.step_launcher import launchable
from emaps_dagster.transforms.quality.outcome import Outcome
from emaps_dagster_tests.support.builders import utc

PARTITIONS = hourly_partitions(utc(2024, 5, 4))
BELOW, ABOVE = dg.AssetKey("below"), dg.AssetKey("above")


class Elsewhere(StepLauncher):
    """A step launcher whose cluster is this process."""

    def __init__(self, *, tied: bool) -> None:
        self.tied = tied

    def launch_step(self, step_context: dg.StepExecutionContext) -> Iterator[dg.DagsterEvent]:
        rebind = EventProvenance([step_context]).rebind if self.tied else lambda entry: entry
        told: list[dg.EventLogEntry] = []
        reference = dg.step_context_to_step_run_ref(step_context)
        with external_instance_from_step_run_ref(reference, told.append) as instance:
            list(run_step_from_ref(reference, instance))
        for entry in dg.deserialize_value(serialize_value(told), list):
            here = rebind(entry)
            step_context.instance.handle_new_event(here)
            if here.dagster_event is not None:
                yield here.dagster_event


class Together(StepLauncher):
    """All steps at once in this process; before each is replayed, another run materializes everything."""

    on_cluster = False

    def __init__(self) -> None:
        self.told: list[dg.EventLogEntry] = []
        self.provenance: EventProvenance | None = None

    def launch_step(self, step_context: dg.StepExecutionContext) -> Iterator[dg.DagsterEvent]:
        if self.provenance is None:
            contexts = steps_that_follow(step_context, set(), set())
            self.provenance = EventProvenance(contexts)
            reference = dg.step_context_to_step_run_ref(step_context)
            Together.on_cluster = True
            try:
                with external_instance_from_step_run_ref(reference, self.told.append) as instance:
                    execute(reference, [context.step.key for context in contexts], instance)
            finally:
                Together.on_cluster = False
        for key in (BELOW, ABOVE):
            _materialize_by_another_run(step_context.instance, key)
        for entry in dg.deserialize_value(dg.serialize_value(self.told), list):
            if entry.step_key == step_context.step.key:
                here = self.provenance.rebind(entry)
                step_context.instance.handle_new_event(here)
                if here.dagster_event is not None:
                    yield here.dagster_event


def _materialize_by_another_run(instance: dg.DagsterInstance, key: dg.AssetKey) -> None:
    tags = {"dagster/data_version": "of another run"}
    for hour in ("2024-05-04-00:00", "2024-05-04-01:00", "2024-05-04-02:00"):
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=hour, tags=tags))


@dg.resource(config_schema={"where": str})
def launcher(context: dg.InitResourceContext) -> StepLauncher | None:
    where = context.resource_config["where"]
    if where == "here" or Together.on_cluster:
        return None
    return Together() if where == "together" else Elsewhere(tied=where == "elsewhere, tied")


@dg.asset(partitions_def=PARTITIONS, backfill_policy=dg.BackfillPolicy.single_run(), code_version="1")
@launchable
def below(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    return dg.MaterializeResult()


@dg.asset(partitions_def=PARTITIONS, backfill_policy=dg.BackfillPolicy.single_run(), code_version="1", deps=[below])
@launchable
def above(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    for key in context.partition_keys:
        context.add_asset_metadata({"hour": key}, partition_key=key)
    return dg.MaterializeResult(tags={"mine": "kept"})


OF_EACH_HOUR = dg.AssetCheckSpec("of_each_hour", asset=above, partitions_def=PARTITIONS)
OF_THE_TABLE = dg.AssetCheckSpec("of_the_table", asset=above)


@dg.multi_asset_check(specs=[OF_EACH_HOUR, OF_THE_TABLE])
@launchable
def check_above(context: dg.AssetCheckExecutionContext) -> Iterator[object]:
    yield from hourly_evaluations(OF_EACH_HOUR, run_window(context), Outcome(1), {})
    yield dg.Output(None, output_name=OF_EACH_HOUR.get_python_identifier())
    yield table_evaluation(OF_THE_TABLE, Outcome(1))


@dg.asset(partitions_def=PARTITIONS, check_specs=[dg.AssetCheckSpec("of_itself", asset="judged")])
@launchable
def judged(context: dg.AssetExecutionContext) -> Iterator[object]:
    yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])


DEFINITIONS = dg.Definitions(
    assets=[below, above, judged],
    asset_checks=[check_above],
    jobs=[
        dg.define_asset_job("everything", selection=dg.AssetSelection.all() - dg.AssetSelection.assets("judged")),
        dg.define_asset_job("by_itself", selection=dg.AssetSelection.assets("judged")),
    ],
    resources={"step_launcher": launcher},
    executor=dg.in_process_executor,
)


def everything() -> dg.JobDefinition:
    return DEFINITIONS.resolve_job_def("everything")


def by_itself() -> dg.JobDefinition:
    return DEFINITIONS.resolve_job_def("by_itself")


HOUR = {"dagster/partition": "2024-05-04-01:00"}
RANGE = {
    "dagster/asset_partition_range_start": "2024-05-04-00:00",
    "dagster/asset_partition_range_end": "2024-05-04-02:00",
}


def _run(
    instance: dg.DagsterInstance, where: str, tags: dict[str, str], job: Callable[[], dg.JobDefinition] = everything
) -> None:
    config = {"resources": {"step_launcher": {"config": {"where": where}}}}
    assert dg.execute_job(dg.reconstructable(job), instance, run_config=config, tags=tags).success


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _materialized(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, dg.EventLogRecord]:
    records = instance.fetch_materializations(key, limit=100, ascending=True).records
    return {record.partition_key or "": record for record in records}


def _tags(record: dg.EventLogRecord) -> dict[str, str]:
    assert record.asset_materialization is not None
    return dict(record.asset_materialization.tags or {})


def _without_pointers(tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if not name.startswith("dagster/input_event_pointer")}


@pytest.mark.parametrize("tags", [HOUR, RANGE], ids=["hour", "range"])
def test_a_launched_materialization_has_the_provenance_of_one_that_was_made_here(
    instance: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    with dg.DagsterInstance.ephemeral() as other:
        # Twice: the second run refers to what the first one stored.
        for _ in range(2):
            _run(other, "here", tags)
            _run(instance, "elsewhere, tied", tags)
        here = {key: _tags(record) for key, record in _materialized(other, ABOVE).items()}
    launched = _materialized(instance, ABOVE)
    assert {key: _without_pointers(_tags(record)) for key, record in launched.items()} == {
        key: _without_pointers(of) for key, of in here.items()
    }
    # Dagster points at the latest event of the input, of whatever partition.
    last = max(record.storage_id for record in _materialized(instance, BELOW).values())
    assert {_tags(record)["dagster/input_event_pointer/below"] for record in launched.values()} == {str(last)}
    assert {_tags(record)["mine"] for record in launched.values()} == {"kept"}
    hours = {record.asset_materialization.metadata["hour"].value for record in launched.values()}  # type: ignore[union-attr]
    assert hours == set(launched)


def _staleness(instance: dg.DagsterInstance) -> StaleStatus:
    from dagster._core.definitions.data_version import CachingStaleStatusResolver
    from dagster._core.loader import LoadingContextForTest

    graph = DEFINITIONS.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return resolver.get_status(ABOVE, "2024-05-04-01:00")


@pytest.mark.parametrize("where", ["here", "elsewhere, tied"])
def test_a_launched_asset_is_fresh_until_its_input_changes(instance: dg.DagsterInstance, where: str) -> None:
    _run(instance, where, HOUR)
    assert _staleness(instance) is StaleStatus.FRESH
    instance.report_runless_asset_event(
        dg.AssetMaterialization(BELOW, partition=HOUR["dagster/partition"], tags={"dagster/data_version": "other"})
    )
    assert _staleness(instance) is StaleStatus.STALE


def _judged(instance: dg.DagsterInstance) -> dict[str | None, tuple[bool, int | None]]:
    """Of each partition the latest evaluation: whether it passed, and which materialization it judged."""
    found: dict[str | None, tuple[bool, int | None]] = {}
    for run in reversed(instance.get_runs()):
        for record in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            assert record.dagster_event is not None
            said = record.dagster_event.asset_check_evaluation_data
            target = said.target_materialization_data
            found[said.partition] = (said.passed, target.storage_id if target else None)
    return found


@pytest.mark.parametrize("tags", [HOUR, RANGE], ids=["hour", "range"])
def test_a_launched_check_judges_the_materialization_of_its_hour(
    instance: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    _run(instance, "elsewhere, tied", tags)
    stored = {key: record.storage_id for key, record in _materialized(instance, ABOVE).items()}
    assert _judged(instance) == {
        **{key: (True, stored[key]) for key in stored},
        # The table as a whole: its latest materialization, as Dagster has it for checks that run here.
        None: (True, max(stored.values())),
    }


def test_a_launched_check_of_the_step_itself_judges_what_the_step_made(instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        _run(instance, "elsewhere, tied", HOUR, by_itself)
    latest = instance.fetch_materializations(dg.AssetKey("judged"), limit=1).records[0]
    assert _judged(instance) == {None: (True, latest.storage_id)}


def _pointers(instance: dg.DagsterInstance, run_id: str) -> tuple[set[str], dict[str | None, int]]:
    """Where the materializations of a run say that their input is, and what its checks judged."""
    of_run = [
        entry.dagster_event
        for entry in instance.all_logs(run_id)
        if entry.dagster_event and entry.dagster_event.is_step_materialization
    ]
    made = [event.step_materialization_data.materialization for event in of_run]
    name = "dagster/input_event_pointer/below"
    targets = {}
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        assert entry.dagster_event is not None
        said = entry.dagster_event.asset_check_evaluation_data
        assert said.target_materialization_data is not None
        targets[said.partition] = said.target_materialization_data.storage_id
    return {(one.tags or {})[name] for one in made if one.asset_key == ABOVE}, targets


@pytest.mark.parametrize("tags", [HOUR, RANGE], ids=["hour", "range"])
def test_what_another_run_stores_after_the_submit_is_neither_an_input_nor_judged(
    instance: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    with dg.DagsterInstance.ephemeral() as other:
        _run(other, "here", tags)
        here = {key: _without_pointers(_tags(record)) for key, record in _materialized(other, ABOVE).items()}
    _run(instance, "together", tags)
    (run,) = instance.get_runs()
    mine = {
        key: {
            record.partition_key: record
            for record in instance.fetch_materializations(key, limit=100).records
            if record.run_id == run.run_id
        }
        for key in (BELOW, ABOVE)
    }
    assert {key: _without_pointers(_tags(record)) for key, record in mine[ABOVE].items()} == here
    pointers, targets = _pointers(instance, run.run_id)
    assert pointers == {str(max(record.storage_id for record in mine[BELOW].values()))}
    stored = {key: record.storage_id for key, record in mine[ABOVE].items()}
    assert targets == {**stored, None: max(stored.values())}


def test_an_input_that_the_run_does_not_make_is_that_of_the_submit(instance: dg.DagsterInstance) -> None:
    _run(instance, "here", HOUR)
    (before,) = instance.fetch_materializations(BELOW, limit=1).records
    config = {"resources": {"step_launcher": {"config": {"where": "together"}}}}
    above = dg.reconstructable(everything).get_subset(asset_selection={ABOVE})
    with dg.execute_job(above, instance, run_config=config, tags=HOUR) as result:
        assert result.success
        pointers, targets = _pointers(instance, result.run_id)
    assert pointers == {str(before.storage_id)}
    (latest,) = (
        record for record in instance.fetch_materializations(ABOVE, limit=100).records if record.run_id == result.run_id
    )
    assert targets == {HOUR["dagster/partition"]: latest.storage_id, None: latest.storage_id}


def test_without_being_tied_a_launched_check_would_judge_nothing(instance: dg.DagsterInstance) -> None:
    _run(instance, "elsewhere", HOUR)
    assert _judged(instance) == {HOUR["dagster/partition"]: (True, None), None: (True, None)}
    (record,) = _materialized(instance, ABOVE).values()
    assert _tags(record)["dagster/input_event_pointer/below"] == "NULL"


def test_another_release_of_dagster_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    check_launcher_versions()
    there = metadata.version
    monkeypatch.setattr(versions, "version", lambda name: "0.30.0" if name == "dagster-databricks" else there(name))
    with pytest.raises(LauncherError) as caught:
        check_launcher_versions()
    assert "dagster 1.13.27, dagster-databricks 0.29.27 only, and this machine has dagster-databricks 0.30.0" in str(
        caught.value
    )


def test_the_versions_that_were_tried_are_those_that_are_pinned() -> None:
    pins = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()
    for name, tried in versions.TESTED_VERSIONS.items():
        assert f'"{name}=={tried}"' in pins
