"""Converts check outcomes to Dagster evaluations: one for each hour of the run, or one for the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import Any

import dagster as dg

from emaps_dagster.contracts.partition_keys import partition_key
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.defs.instance.materializations import Target
from emaps_dagster.defs.partitions import hours_of
from emaps_dagster.transforms.quality.outcome import Finding, Outcome

_SHOWN = 10


def hourly_evaluations(
    spec: dg.AssetCheckSpec, run: Window, outcome: Outcome, targets: dict[str, Target]
) -> Iterator[dg.AssetCheckEvaluation]:
    """One evaluation for each hour of the run, so that every partition shows its own status.

    An hour outside the run that the outcome covers (`beside`) gets one as well if its partition is materialized.

    Args:
        spec: the check.
        run: the run's own hours.
        outcome: of all hours that the run touched.
        targets: the evaluated materialization, by partition.
    """
    beside = {
        hour: partition_key(hour)
        for hour in sorted(set(outcome.beside))
        if hour not in run and partition_key(hour) in targets
    }
    found = _by_hour(run, outcome.findings, beside)
    for hour, partition in {**hours_of(run), **beside}.items():
        findings = found.get(hour, [])
        yield dg.AssetCheckEvaluation(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=not findings,
            severity=_severity(spec),
            blocking=spec.blocking,
            partition=partition,
            description=_summary(findings),
            # A passed hour needs its status only; metadata of the whole run is attached once, to the last hour.
            metadata=_metadata(spec, outcome, findings) if findings or hour + HOUR == run.end else {},
            target_materialization_data=targets.get(partition),
        )


def table_evaluation(spec: dg.AssetCheckSpec, outcome: Outcome) -> dg.AssetCheckResult:
    """One result for the table as a whole, whatever hours the run had."""
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=outcome.passed,
        severity=_severity(spec),
        description=_summary(outcome.findings),
        metadata=_metadata(spec, outcome, outcome.findings),
    )


def _by_hour(run: Window, findings: Iterable[Finding], beside: Container[object] = ()) -> dict[object, list[Finding]]:
    """The findings by hour of the run; findings of hours outside it are charged to its nearest hour."""
    found: dict[object, list[Finding]] = defaultdict(list)
    last = run.end - HOUR
    for finding in findings:
        if finding.hour in beside:
            found[finding.hour].append(finding)
            continue
        start, end = finding.hour or run.start, finding.end or run.end
        hour = min(max(start, run.start), last)
        found[hour].append(finding)
        while (hour := hour + HOUR) < min(end, run.end):
            found[hour].append(finding)
    return found


def _severity(spec: dg.AssetCheckSpec) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if spec.blocking else dg.AssetCheckSeverity.WARN


def _summary(findings: Iterable[Finding]) -> str | None:
    found = list(findings)
    if not found:
        return None
    return f"{len(found)} finding{'s' * (len(found) > 1)}, the first: {found[0].what}"


def _metadata(
    spec: dg.AssetCheckSpec, outcome: Outcome, findings: Iterable[Finding]
) -> dict[str, dg.MetadataValue[Any]]:
    shown = [
        dg.TableRecord({"zone": f.zone, "datetime": f"{f.hour:%Y-%m-%dT%H:%MZ}" if f.hour else "", "finding": f.what})
        for f in list(findings)[:_SHOWN]
    ]
    metadata: dict[str, dg.MetadataValue[Any]] = {"rows_checked": dg.MetadataValue.int(outcome.checked)}
    if shown:
        metadata["findings"] = dg.MetadataValue.table(shown)
        # The page of an hour does not show the description of its check. Dagster shows Markdown behind a link here.
        metadata["remediation"] = dg.MetadataValue.text(spec.description or "")
    return metadata
