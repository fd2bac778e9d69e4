"""Bronze to forecasting rows: for each (zone, issued_at, horizon) the features known at issued_at.

The parsing and the choice of records are silver's, the sums and the calendar gold's. docs/adr/0017 has the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from emaps_dagster.contracts import windows
from emaps_dagster.contracts.forecast_plan import (
    BASELINES,
    DAY,
    LAST_KNOWN_HOURS,
    WEEK,
    ForecastPlan,
    age_column,
    count_column,
    lag_column,
    lag_hours,
    mean_column,
    same_hour_column,
    value_column,
    week_hours,
)
from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.transforms.gold import is_estimated, values
from emaps_dagster.transforms.issued_records import latest_of_issues, seen_at_issues
from emaps_dagster.transforms.silver import (
    energy_data,
)
from emaps_dagster.transforms.time_features import with_time_features

_MICRO = 1_000_000
_KEY = ("zone", "issued_at")
_ISSUES = pa.schema(
    [("zone", pa.string()), ("issued_at", pa.timestamp("us", "UTC")), ("origin", pa.timestamp("us", "UTC"))]
)
# The group of an issue time itself; the groups of its horizons are 1, 2, ...
_ITSELF = 0


def issues_table(issues: Iterable[tuple[str, datetime]]) -> pa.Table:
    """Issue times of zones as the rows that `training_rows` takes: zone, issued_at, origin."""
    rows = [(zone, at, origin_of(at)) for zone, at in issues]
    return pa.table([list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []], schema=_ISSUES)


def hours_table(zones: Iterable[str], hours: windows.Window) -> pa.Table:
    """Hours of zones as rows for `with_time_features`: zone, datetime."""
    rows = [(zone, hour) for zone in zones for hour in hours.hours()]
    schema = pa.schema([("zone", pa.string()), ("datetime", pa.timestamp("us", "UTC"))])
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema)


def origin_of(issued_at: datetime) -> datetime:
    """The last hour that was over at a moment."""
    return windows.floor_hour(issued_at) - HOUR


def training_rows(
    power: DataFrame,
    carbon: DataFrame,
    issues: DataFrame,
    origins: windows.Window,
    plan: ForecastPlan,
    *,
    mix: DataFrame | None = None,
    final: bool = False,
) -> DataFrame:
    """The forecasting rows of some issue times.

    Args:
        power: rows of bronze.power_data; all that overlap the `lookback` hours up to each origin must be there.
        carbon: rows of bronze.carbon_data, likewise.
        issues: zone, issued_at and origin, as `issues_table`; one row per zone and issue time.
        origins: the hours of all origins.
        plan: the features.
        mix: rows of bronze.mix_data, likewise; None without the table.
        final: computes each row from all responses, also those ingested after its issue time.

    Returns:
        One row for each row of `issues` and each horizon: zone, issued_at, horizon, target_time, `plan.features`,
        `_<baseline>_<target>` for each baseline and target, and `_age_power` and `_age_carbon`, the hours from the
        last known record of a feed to the origin, null without one in a week.
    """
    pick = latest_of_issues(issues, origins, plan) if final else seen_at_issues(issues, origins, plan)
    start = origins.start - timedelta(hours=plan.lookback - 1)
    silver = energy_data(power, carbon, start, origins.end, mix=mix, pick=pick, more_keys=("issued_at",))
    percentages = [name for name in plan.base_columns if name.endswith("_percentage")]
    known = values(silver, plan.zones, "issued_at", "ingested_at_power", "ingested_at_carbon", *percentages)
    roles = issues.sparkSession.createDataFrame(_roles(plan))
    rows = known.withColumn("age", _age()).join(roles, on="age", how="inner")
    names = list(plan.base_columns)
    seen = rows.select(
        *_KEY,
        "horizon",
        "age",
        *(name for name in roles.columns if name not in ("age", "horizon")),
        *names,
        is_estimated().alias("_estimated"),
        *(F.col(f"ingested_at_{feed}").isNotNull().alias(f"_{feed}") for feed in ("power", "carbon")),
    )
    grouped = _with_every_group(seen, issues, plan).groupBy(*map(F.col, (*_KEY, "horizon"))).agg(*_aggregates(plan))
    return _finished(_one_row_per_horizon(grouped, plan), origins, plan)


def final_targets(silver: DataFrame, plan: ForecastPlan) -> DataFrame:
    """The targets of silver's hours: zone, target_time and `_target_<name>` for each target."""
    percentages = [name for name in plan.targets if name.endswith("_percentage")]
    return values(silver, plan.zones, *percentages).select(
        "zone",
        F.col("datetime").alias("target_time"),
        *(F.col(name).alias(f"_target_{name}") for name in plan.targets),
    )


def _origin() -> Column:
    return F.date_trunc("hour", "issued_at") - F.lit(HOUR)


def _age() -> Column:
    """Hours from a row's hour to its origin."""
    seconds = F.unix_timestamp(_origin()) - F.unix_timestamp("datetime")
    return (seconds / F.lit(3600)).cast("int")


def _roles(plan: ForecastPlan) -> pa.Table:
    """For which groups an hour of an age counts, and as what; group 0 is the issue time itself.

    `last` to its last known value, `day` to its last day, `mean_<n>` to a mean, `lag_<n>` as a lag of a horizon,
    `same` to the mean of its hour of the day, `week` as its hour of a week before.
    """
    flags = [
        "last",
        "day",
        *(f"mean_{n}" for n in plan.means),
        *(f"lag_{n}" for n in plan.present_lags),
        "same",
        "week",
    ]
    rows = []
    for age in range(plan.lookback):
        itself = {"last": age < LAST_KNOWN_HOURS, "day": age < DAY, **{f"mean_{n}": age < n for n in plan.means}}
        groups: list[tuple[int, dict[str, bool]]] = [(_ITSELF, itself)]
        for horizon in plan.horizons:
            lags = {f"lag_{lag}": lag_hours(lag, horizon) == age + horizon for lag in plan.present_lags}
            same = age < WEEK and (age + horizon) % DAY == 0
            groups.append((horizon, {**lags, "same": same, "week": age + horizon == week_hours(horizon)}))
        rows += [
            {"age": age, "horizon": group, **dict.fromkeys(flags, False), **of}
            for group, of in groups
            if any(of.values())
        ]
    schema = pa.schema([("age", pa.int32()), ("horizon", pa.int32()), *((flag, pa.bool_()) for flag in flags)])
    return pa.Table.from_pylist(rows, schema=schema)


def _with_every_group(seen: DataFrame, issues: DataFrame, plan: ForecastPlan) -> DataFrame:
    """Adds an empty row to each group, so that an issue time without known hours has its rows as well."""
    groups = F.explode(F.array(*(F.lit(group) for group in (_ITSELF, *plan.horizons))))
    empty = issues.select(*_KEY, groups.alias("horizon"))
    types = {name: type_ for name, type_ in seen.dtypes if name not in (*_KEY, "horizon")}
    return seen.unionByName(empty.select("*", *(F.lit(None).cast(type_).alias(name) for name, type_ in types.items())))


def _aggregates(plan: ForecastPlan) -> list[Column]:
    def when(flag: str, value: Column | str) -> Column:
        return F.when(F.col(flag), F.col(value) if isinstance(value, str) else value)

    def micros(name: str) -> Column:
        return F.round(F.col(name) * F.lit(float(_MICRO))).cast("bigint")

    def newest(name: str, flag: str) -> Column:
        return F.max_by(F.col(name), F.when(F.col(flag) & F.col(name).isNotNull(), -F.col("age")))

    def mean(name: str, flag: str, alias: str, count: str | None = None) -> Iterable[Column]:
        # Sums of whole millionths are exact, so that a mean does not depend on the order of its values (docs/adr/0004).
        total, number = F.sum(when(flag, micros(name))), F.count(when(flag, name))
        yield (total.cast("double") / (F.nullif(number, F.lit(0)).cast("double") * F.lit(float(_MICRO)))).alias(alias)
        if count:
            yield number.cast("int").alias(count)

    found = [
        F.count(when("day", F.lit(1))).cast("int").alias("hours_known_24h"),
        F.count(F.when(F.col("day") & F.col("_estimated"), F.lit(1))).alias("_estimated"),
        *(
            F.min(F.when(F.col("last") & F.col(f"_{feed}"), F.col("age"))).alias(f"_age_{feed}")
            for feed in ("power", "carbon")
        ),
    ]
    for name in plan.base_columns:
        found += [newest(name, "last").alias(value_column(name))]
    for name in plan.columns:
        found += [
            F.min(F.when(F.col("last") & F.col(name).isNotNull(), F.col("age"))).cast("double").alias(age_column(name))
        ]
        found += [F.max(when(f"lag_{lag}", name)).alias(lag_column(name, lag)) for lag in plan.present_lags]
        for hours in plan.means:
            found += mean(name, f"mean_{hours}", mean_column(name, hours), count_column(name, hours))
        found += mean(name, "same", same_hour_column(name))
    for name in plan.targets:
        found += [newest(name, "same").alias(f"_daily_{name}"), F.max(when("week", name)).alias(f"_weekly_{name}")]
    return found


def _one_row_per_horizon(grouped: DataFrame, plan: ForecastPlan) -> DataFrame:
    """Joins the group of each issue time itself to the groups of its horizons, without reading the groups twice."""
    own = [lag_column(name, lag) for name in plan.columns for lag in plan.present_lags]
    own += [same_hour_column(name) for name in plan.columns]
    own += [f"_{kind}_{name}" for kind in BASELINES[1:] for name in plan.targets]
    shared = [name for name in grouped.columns if name not in (*_KEY, "horizon", *own)]
    itself = F.col("horizon") == F.lit(_ITSELF)
    collected = grouped.groupBy(*map(F.col, _KEY)).agg(
        *(F.max(F.when(itself, F.col(name))).alias(name) for name in shared),
        F.collect_list(F.when(~itself, F.struct("horizon", *own))).alias("_horizons"),
    )
    return collected.select(*_KEY, *shared, F.explode("_horizons").alias("_row")).select(
        *_KEY, *shared, *(F.col(f"_row.{name}").alias(name) for name in ("horizon", *own))
    )


def _finished(rows: DataFrame, origins: windows.Window, plan: ForecastPlan) -> DataFrame:
    horizon = F.col("horizon").cast("bigint") * F.lit(3600)
    target = F.timestamp_seconds(F.unix_timestamp(_origin()) + horizon)
    hours = origins.widen(timedelta(0), plan.horizons[-1] * HOUR)
    known = F.nullif(F.col("hours_known_24h"), F.lit(0)).cast("double")
    return with_time_features(rows.withColumn("datetime", target), hours.start, hours.end).select(
        *_KEY,
        "horizon",
        F.col("datetime").alias("target_time"),
        *(_feature(name, known) for name in (feature.name for feature in plan.features) if name != "horizon"),
        *(F.col(value_column(name)).alias(f"_persistence_{name}") for name in plan.targets),
        *(f"_{kind}_{name}" for kind in BASELINES[1:] for name in plan.targets),
        "_age_power",
        "_age_carbon",
    )


def _feature(name: str, known: Column) -> Column:
    if name == "estimated_share_24h":
        return (F.col("_estimated").cast("double") / known).alias(name)
    return F.col(name).cast("int").alias(name) if name in ("is_weekend", "is_holiday") else F.col(name)
