"""Checks gold against silver: lags and means with pandas on time, all other columns in plain Python, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from emaps_dagster.contracts.tables import count_column, key_columns, lag_column, rolling_column
from emaps_dagster.contracts.windows import HOUR, Window
from emaps_dagster.contracts.zones import neighbours_of, zone_column, zone_facts
from emaps_dagster.transforms.public_holidays import public_holidays
from emaps_dagster.transforms.quality.outcome import Finding, Outcome, differing
from emaps_dagster.transforms.quality.silver_evidence import Key, differences, rows_of

if TYPE_CHECKING:
    # Imported lazily: it costs every start of Dagster a second, and only a check needs it.
    import numpy as np
    import pandas as pd

# Gold's sums round each value to a millionth; a larger difference of a mean is an error.
_MEAN_TOLERANCE = 2e-6


@dataclass(frozen=True)
class GoldEvidence:
    """The gold rows of `window`, and silver's rows of [window.start - 23 h, window.end).

    Args:
        window: the hours that were collected.
        zones: the configured zones, which decide gold's columns.
        gold: rows as `tables.ml_features(zones)`.
        silver: rows as `tables.ENERGY_DATA`.
    """

    window: Window
    zones: tuple[str, ...]
    gold: pa.Table
    silver: pa.Table

    @cached_property
    def names(self) -> list[str]:
        return [column.name for column in key_columns(self.zones)]

    @cached_property
    def expected(self) -> dict[Key, dict[str, Any]]:
        """Expected values of gold's plain columns for each hour of silver, by (zone, hour)."""
        flows = {
            f"{direction}_{zone_column(neighbour)}": (f"{direction}_by_zone", neighbour)
            for direction in ("import", "export")
            for neighbour in neighbours_of(self.zones)
        }
        plain = [name for name in self.names if name not in flows] + [
            "is_estimated_power",
            "is_estimated_carbon",
            "emission_factor_type",
        ]
        known = ["zone", "datetime", *plain, "import_by_zone", "export_by_zone"]
        return {
            (row["zone"], row["datetime"]): {
                **{name: row[name] for name in plain},
                **{name: (row[map_] or {}).get(neighbour) for name, (map_, neighbour) in flows.items()},
            }
            for row in rows_of(self.silver.select(known))
        }

    @cached_property
    def values(self) -> dict[str, pd.DataFrame]:
        """The key columns of each zone of silver, by hour, sorted; null is NaN."""
        import pandas as pd

        hours: dict[str, dict[datetime, list[Any]]] = {}
        for (zone, hour), row in self.expected.items():
            hours.setdefault(zone, {})[hour] = [row[name] for name in self.names]
        return {
            zone: pd.DataFrame(
                list(rows.values()), index=pd.DatetimeIndex(list(rows)), columns=self.names, dtype="float64"
            ).sort_index()
            for zone, rows in hours.items()
        }

    @cached_property
    def plain_rows(self) -> list[dict[str, Any]]:
        """Gold's rows without lags and means, which are compared with the pandas frames."""
        judged = {derived(name) for name in self.names for derived in (lag_column, rolling_column, count_column)}
        return rows_of(self.gold.select([name for name in self.gold.column_names if name not in judged]))


def lag_1h_is_the_previous_hour(evidence: GoldEvidence) -> Outcome:
    """Every lag equals silver's value exactly one hour earlier; null when that hour is missing or null."""
    return _judge_derived(evidence, {lag_column: lambda frame: frame.shift(freq="1h")}, tolerance=0.0)


def rolling_avg_24h_is_the_mean_of_the_window(evidence: GoldEvidence) -> Outcome:
    """Every mean and count equals that of silver's values in (datetime - 24 h, datetime], nulls skipped."""
    recomputed: dict[Callable[[str], str], Callable[[pd.DataFrame], pd.DataFrame]] = {
        rolling_column: lambda frame: frame.rolling("24h", min_periods=1).mean(),
        count_column: lambda frame: frame.rolling("24h", min_periods=0).count(),
    }
    return _judge_derived(evidence, recomputed, tolerance=_MEAN_TOLERANCE)


def gold_equals_silver(evidence: GoldEvidence) -> Outcome:
    """Each gold row has a silver row, equals its values, and has correct time columns and counts.

    Lags and means have checks of their own; `gold_is_not_stale` finds hours of silver that gold lacks.
    """
    estimated = {
        key for key, row in evidence.expected.items() if row["is_estimated_power"] or row["is_estimated_carbon"]
    }
    findings = []
    for row in evidence.plain_rows:
        zone, hour = row["zone"], row["datetime"]
        must = evidence.expected.get((zone, hour))
        if must is None:
            findings.append(Finding(zone, hour, "silver has no row of this hour"))
            continue
        last_24 = [(zone, hour - number * HOUR) for number in range(24)]
        counts = {
            "hours_observed_24h": sum(key in evidence.expected for key in last_24),
            "hours_estimated_24h": sum(key in estimated for key in last_24),
        }
        wrong = list(differences(row, {**must, **time_features(zone, hour), **counts}))
        if wrong:
            findings.append(Finding(zone, hour, differing(wrong)))
    return Outcome(len(evidence.plain_rows), tuple(findings))


def gold_is_not_stale(evidence: GoldEvidence) -> Outcome:
    """Every hour of silver is in gold with its present values and flags: gold ran after silver changed.

    `gold_equals_silver` iterates over gold's rows and cannot find hours that gold lacks. This check iterates over
    silver's rows and ignores columns that gold computes: it fails if gold's step did not run, not if it ran wrongly,
    so the two checks distinguish the two causes.
    """
    findings = []
    gold = {(row["zone"], row["datetime"]): row for row in evidence.plain_rows}
    hours = [key for key in evidence.expected if key[1] in evidence.window]
    for zone, hour in hours:
        row = gold.get((zone, hour))
        if row is None:
            findings.append(Finding(zone, hour, "silver holds this hour, gold does not"))
        elif wrong := list(differences(row, evidence.expected[zone, hour])):
            findings.append(Finding(zone, hour, f"gold does not carry what silver says now: {differing(wrong)}"))
    return Outcome(len(hours), tuple(findings))


def time_features(zone_key: str, hour: datetime) -> dict[str, Any]:
    """UTC and local time columns of an hour by Python's calendar; local columns are null for an unknown time zone."""
    zone = zone_facts(zone_key)
    local = hour.astimezone(ZoneInfo(zone.time_zone)) if zone.time_zone else None
    days = public_holidays(zone.country, range(local.year, local.year + 1)) if local else None
    return {
        "hour": hour.hour,
        "day_of_week": hour.isoweekday() % 7 + 1,
        "month": hour.month,
        "local_hour": local.hour if local else None,
        "local_day_of_week": local.isoweekday() % 7 + 1 if local else None,
        "is_weekend": local.weekday() >= 5 if local else None,
        "is_holiday": local.date() in days if local and days is not None else None,
        "year_month": f"{hour:%Y-%m}",
    }


def _judge_derived(
    evidence: GoldEvidence,
    recomputed: Mapping[Callable[[str], str], Callable[[pd.DataFrame], pd.DataFrame]],
    tolerance: float,
) -> Outcome:
    """Compares lags or means of gold with those that pandas computes from silver's values, zone by zone.

    Args:
        evidence: gold and silver.
        recomputed: for each function from a key column to its column of gold, the computation in pandas.
        tolerance: largest allowed difference of a value.
    """
    import numpy as np
    import pandas as pd

    columns = [derived(name) for derived in recomputed for name in evidence.names]
    zones = np.array(evidence.gold.column("zone").to_pylist(), dtype=object)
    hours = evidence.gold.column("datetime").to_pylist()
    findings: list[Finding] = []
    for zone, frame in evidence.values.items():
        places = np.flatnonzero(zones == zone)
        index = pd.DatetimeIndex([hours[place] for place in places], tz="UTC")
        must = np.hstack([recompute(frame).reindex(index).to_numpy() for recompute in recomputed.values()])
        for row, wrong in _unequal(evidence.gold.select(columns).take(places), must, tolerance):
            text = differing((columns[column], is_, must_) for column, is_, must_ in wrong)
            findings.append(Finding(zone, hours[places[row]], text))
    # gold_equals_silver reports rows of a zone that silver does not hold at all.
    return Outcome(len(hours), tuple(findings))


def _unequal(
    rows: pa.Table, must: np.ndarray[Any, Any], tolerance: float
) -> Iterator[tuple[int, list[tuple[int, object, object]]]]:
    """Rows with a wrong cell: their index, and (column, is, must) of each. NaN is not null, and always wrong."""
    import numpy as np

    if not rows.num_rows:
        return
    is_ = np.column_stack([column.to_numpy() for column in rows.itercolumns()]).astype("float64")
    null = np.column_stack([column.is_null().to_numpy() for column in rows.itercolumns()])
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(is_ - must) <= tolerance)
    wrong = np.where(np.isnan(must), ~null, null | off)
    for row in np.flatnonzero(wrong.any(axis=1)):
        yield (
            int(row),
            [
                (
                    int(c),
                    None if null[row, c] else float(is_[row, c]),
                    None if np.isnan(must[row, c]) else float(must[row, c]),
                )
                for c in np.flatnonzero(wrong[row])
            ],
        )
