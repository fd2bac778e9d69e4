"""`emaps-task rebuild` and `emaps-task withdraw`: the remedies that checks name, without Dagster.

They run the code of the jobs `rebuild` and `withdraw` and print the results.
"""

from __future__ import annotations

import argparse
from datetime import datetime

from emaps_dagster.lakehouse.base import Lakehouse
from emaps_dagster.lakehouse.reports import RebuildReport
from emaps_dagster.pipeline.rebuild import hours_to_rebuild, rebuild_gold, rebuild_silver
from emaps_dagster.pipeline.withdraw import gold_without, select, selection_of, sentence, silver_without, withdraw

REMEDIES = ("rebuild", "withdraw")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the two remedies, the same as in the jobs' launchpads."""
    parser.add_argument("--dry-run", action="store_true", help="rebuild, withdraw: count and list, write nothing")
    parser.add_argument("--payload-sha256", default="", help="withdraw: responses with this body")
    parser.add_argument("--ingested-in-the-future", action="store_true", help="withdraw: received later than now")
    parser.add_argument("--ingested-from", default="", help="withdraw: received at this time or later")
    parser.add_argument("--ingested-until", default="", help="withdraw: received before this time")
    parser.add_argument("--zone", default="", help="withdraw: only responses of this zone")
    parser.add_argument("--reason", default="", help="withdraw: why")


def apply(lakehouse: Lakehouse, zones: tuple[str, ...], options: argparse.Namespace, now: datetime) -> None:
    """Run the remedy that the options select."""
    dry_run = options.dry_run
    if options.layer == "rebuild":
        bounds = {name: value for name in ("start", "end") if (value := getattr(options, name))}
        hours = hours_to_rebuild(lakehouse, zones, **bounds)
        print(f"rebuild of {hours} from bronze alone")
        _print(
            rebuild_silver(lakehouse, hours, dry_run=dry_run), rebuild_gold(lakehouse, zones, hours, dry_run=dry_run)
        )
        return
    selection = selection_of(
        payload_sha256=options.payload_sha256,
        ingested_in_the_future=options.ingested_in_the_future,
        ingested_from=options.ingested_from,
        ingested_until=options.ingested_until,
        zone=options.zone,
    )
    selected = select(lakehouse, selection, now, options.reason)
    if not dry_run:
        withdraw(lakehouse, selected)
    print(sentence(selected, dry_run=dry_run))
    for row in selected.fresh.to_pylist():
        print(f"  {row['bronze_table']} {row['zone']} {row['ingested_at']:%Y-%m-%dT%H:%M:%SZ} {row['payload_sha256']}")
    _print(
        silver_without(lakehouse, selected, dry_run=dry_run), gold_without(lakehouse, zones, selected, dry_run=dry_run)
    )


def _print(silver: RebuildReport, gold: RebuildReport) -> None:
    for layer, report in (("silver.energy_data", silver), ("gold.ml_features", gold)):
        total = report.differences.total
        print(
            f"{layer}: {total.differing} rows differ from the {total.rows} that bronze gives ({total.missing} missing, "
            f"{total.wrong} wrong, {total.surplus} surplus, {total.duplicate} duplicate)"
        )
