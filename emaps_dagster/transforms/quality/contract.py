"""Checks of every table: the columns of its contract, one row per key, and freshness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

import pyarrow as pa

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.quality.outcome import Finding, Outcome

# /history carries 24 hours: on a plan without past-range an hour missed for longer is lost permanently. Six hours
# leave eighteen for a repair, and a restart or two missed ticks cause no warning.
FRESH_FOR = timedelta(hours=6)


def schema_matches_the_contract(stored: Mapping[str, str] | None, table: Table) -> Outcome:
    """The stored columns and types are those of the contract.

    Args:
        stored: Spark's simple type of each stored column, by name; None without a table.
        table: the contract.
    """
    if stored is None:
        return Outcome(0, (Finding("", None, f"{table.qualified_name} does not exist"),))
    findings = tuple(Finding("", None, difference) for difference in column_differences(stored, table))
    return Outcome(len(stored), findings)


def column_differences(stored: Mapping[str, str], table: Table) -> list[str]:
    """Differences of stored columns from the contract, one phrase each; empty without any.

    Args:
        stored: Spark's simple type of each stored column, by name.
        table: the contract.
    """
    wanted = {column.name: column.type for column in table.columns}
    return [
        *(f"column {name} is missing" for name in wanted if name not in stored),
        *(f"column {name} is not in the contract" for name in stored if name not in wanted),
        *(
            f"column {name} is {stored[name]}, must be {type_}"
            for name, type_ in wanted.items()
            if stored.get(name, type_) != type_
        ),
    ]


def primary_key_is_unique(rows: pa.Table) -> Outcome:
    """No two rows of silver or gold share zone and datetime, and every row has both."""
    keys = list(zip(rows.column("zone").to_pylist(), rows.column("datetime").to_pylist(), strict=True))
    findings = [
        Finding(zone or "", hour, "a row without its zone or hour") for zone, hour in keys if None in (zone, hour)
    ]
    findings += [
        Finding(zone, hour, f"{count} rows with this key")
        for (zone, hour), count in Counter(keys).items()
        if count > 1 and None not in (zone, hour)
    ]
    return Outcome(len(keys), tuple(findings))


def table_is_fresh(latest: Mapping[str, datetime | None], now: datetime) -> Outcome:
    """The latest hour of every zone ended no longer than `FRESH_FOR` ago.

    Checks the table and not the run: a backfill of old hours causes no warning while the latest ones are fresh.

    Args:
        latest: the latest hour in the table by configured zone, None without one.
        now: the run's clock.
    """
    findings = []
    for zone, hour in latest.items():
        if hour is None:
            findings.append(Finding(zone, None, "no hour of the last month is in the table"))
        elif now - (hour + HOUR) > FRESH_FOR:
            behind = (now - (hour + HOUR)) // HOUR
            findings.append(
                Finding(zone, None, f"the latest hour is {hour:%Y-%m-%dT%H:%MZ}: it ended {behind} hours ago")
            )
    return Outcome(len(latest), tuple(findings))
