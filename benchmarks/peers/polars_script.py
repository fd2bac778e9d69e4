"""Bronze to silver and gold as a hand-written script of Polars and delta-rs does it, in one go and in memory.

Its author knows the zones and their neighbours, trusts the bodies, and cares for nothing but this job. The tables
are ours: same rows, columns, types, comments, months; `benchmarks.compare_peers` asserts it before it prints a time.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import holidays
import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import (
    ENERGY_DATA,
    count_column,
    key_columns,
    lag_column,
    ml_features,
    rolling_column,
)
from emaps_dagster.contracts.zones import MODE_KEYS, ZONES, mode_column, neighbours_of, zone_column
from emaps_dagster.lakehouse.local_files import files_of

_UTC = pl.Datetime("us", "UTC")
_HOUR = timedelta(hours=1)
_ORDER = ("ingested_at", "updated_at", "payload_sha256")


def silver(warehouse: Path, start: datetime, end: datetime) -> pa.Table:
    """The rows of silver whose hours lie in [start, end)."""
    neighbours = _every_neighbour()
    modes = pl.Struct(dict.fromkeys(MODE_KEYS, pl.Float64))
    flows = pl.Struct(dict.fromkeys(neighbours, pl.Float64))
    numbers = {
        "fossilFreePercentage": "fossil_free_percentage",
        "renewablePercentage": "renewable_percentage",
        **{f"power{what.title()}Total": f"{what}_total" for what in ("production", "consumption", "import", "export")},
    }
    power = _records(
        warehouse / "bronze" / "power_data",
        {
            "powerConsumptionBreakdown": modes,
            "powerProductionBreakdown": modes,
            "powerImportBreakdown": flows,
            "powerExportBreakdown": flows,
            **dict.fromkeys(numbers, pl.Float64),
        },
        [
            *(pl.col(field).alias(name) for field, name in numbers.items()),
            *(
                pl.col(f"power{side.title()}Breakdown").struct.field(key).alias(f"{side}_{mode_column(key)}")
                for side in ("production", "consumption")
                for key in MODE_KEYS
            ),
            pl.col("powerImportBreakdown").alias("import_by_zone"),
            pl.col("powerExportBreakdown").alias("export_by_zone"),
            pl.col("source").str.replace("/[^/]*$", "").alias("source_power"),
        ],
        start,
        end,
    )
    carbon = _records(
        warehouse / "bronze" / "carbon_data",
        {"carbonIntensity": pl.Float64, "emissionFactorType": pl.String},
        [
            pl.col("carbonIntensity").alias("carbon_intensity"),
            pl.col("emissionFactorType").alias("emission_factor_type"),
        ],
        start,
        end,
    )
    provenance = ("is_estimated", "estimation_method", "updated_at", "created_at", "ingested_at")
    joined = power.rename({name: f"{name}_power" for name in provenance}).join(
        carbon.rename({name: f"{name}_carbon" for name in provenance}),
        on=["zone", "datetime"],
        how="full",
        coalesce=True,
    )
    rows = joined.with_columns(
        pl.col("datetime").dt.strftime("%Y-%m").alias("year_month"),
        # Only electricity-mix, which this script does not read, comes in parts.
        pl.lit(None, dtype=pl.Boolean).alias("is_superseded_power"),
    )
    maps = {name: _map(rows[name], neighbours) for name in ("import_by_zone", "export_by_zone")}
    plain = rows.drop(*maps).to_arrow()
    return pa.table({name: maps[name] if name in maps else plain[name] for name in ENERGY_DATA.column_names})


def gold(silver_rows: pa.Table, zones: tuple[str, ...], start: datetime, end: datetime) -> pa.Table:
    """The rows of gold of [start, end) from silver's of [start - 23 h, end)."""
    maps = {name: silver_rows[name] for name in ("import_by_zone", "export_by_zone")}
    frame = pl.from_arrow(silver_rows.drop_columns(list(maps)))
    assert isinstance(frame, pl.DataFrame)
    neighbours = neighbours_of(zones)
    names = [column.name for column in key_columns(zones)]
    rows = frame.with_columns(
        column
        for direction in ("import", "export")
        for column in _columns_of(maps[f"{direction}_by_zone"], neighbours, direction)
    ).with_columns(
        (
            pl.col("is_estimated_power").fill_null(value=False) | pl.col("is_estimated_carbon").fill_null(value=False)
        ).alias("estimated"),
        pl.lit(value=True).alias("present"),
    )
    grid = rows.select("zone").unique().join(_hours(start - 23 * _HOUR, end), how="cross")
    dense = grid.join(rows, on=["zone", "datetime"], how="left").sort("zone", "datetime")
    # By differences of running sums in micro-units: exact, so that no mean depends on where its window began.
    micro = [(pl.col(name) * 1e6).round(mode="half_away_from_zero").cast(pl.Int64) for name in names]
    counted = [pl.col(name).is_not_null().cast(pl.Int64) for name in names]

    def last_24(column: pl.Expr) -> pl.Expr:
        total = column.fill_null(0).cum_sum()
        return (total - total.shift(24, fill_value=0)).over("zone")

    features = dense.with_columns(
        *(pl.col(name).shift(1).over("zone").alias(lag_column(name)) for name in names),
        *(
            (last_24(value).cast(pl.Float64) / (pl.when(last_24(count) > 0).then(last_24(count)) * 1e6)).alias(
                rolling_column(name)
            )
            for name, value, count in zip(names, micro, counted, strict=True)
        ),
        *(last_24(count).cast(pl.Int32).alias(count_column(name)) for name, count in zip(names, counted, strict=True)),
        last_24(pl.col("present").cast(pl.Int64)).cast(pl.Int32).alias("hours_observed_24h"),
        last_24(pl.col("estimated").cast(pl.Int64)).cast(pl.Int32).alias("hours_estimated_24h"),
    ).filter(pl.col("present") & (pl.col("datetime") >= start))
    return _with_calendar(features, start, end).select(ml_features(zones).column_names).to_arrow()


def backfill(
    warehouse: Path, zones: tuple[str, ...], start: datetime, end: datetime, gold_end: datetime, target: Path
) -> None:
    """Silver of [start, end) and gold of [start, gold_end) written as new tables in `target`."""
    rows = silver(warehouse, start, end)
    _write(target, ENERGY_DATA, rows)
    _write(target, ml_features(zones), gold(rows, zones, start, gold_end))


def tick(
    warehouse: Path, zones: tuple[str, ...], start: datetime, end: datetime, gold_end: datetime, target: Path
) -> None:
    """Silver of [start, end) and gold of [start, gold_end) merged, whether they changed or not."""
    _merge(target, ENERGY_DATA, silver(warehouse, start, end))
    first = start - 23 * _HOUR
    months = sorted({f"{day:%Y-%m}" for day in _days(first, gold_end)})
    stored = DeltaTable(target / "silver" / "energy_data")
    context = stored.to_pyarrow_table(
        filters=[("year_month", "in", months), ("datetime", ">=", first), ("datetime", "<", gold_end)],
        filesystem=files_of(stored),
    )
    _merge(target, ml_features(zones), gold(context, zones, start, gold_end))


def _records(
    bronze: Path,
    fields: dict[str, pl.DataType | type[pl.DataType]],
    columns: list[pl.Expr],
    start: datetime,
    end: datetime,
) -> pl.DataFrame:
    """The latest record of each hour, with the time since when its content is known."""
    record = pl.Struct(
        {
            "datetime": pl.String,
            "updatedAt": pl.String,
            "createdAt": pl.String,
            "isEstimated": pl.Boolean,
            "estimationMethod": pl.String,
            **fields,
        }
    )
    months = sorted({f"{day:%Y-%m}" for day in _days(start - timedelta(days=12), end)})
    table = DeltaTable(bronze)
    stored = table.to_pyarrow_table(
        columns=["zone", "raw_json", "trusted_json", "ingested_at", "payload_sha256", "source"],
        filters=[("year_month", "in", months), ("window_start", "<", end), ("window_end", ">", start)],
        # Else the process may abort at its end (local_files.py).
        filesystem=files_of(table),
    )
    bodies = pl.from_arrow(stored)
    assert isinstance(bodies, pl.DataFrame)
    times = {"updated_at": "updatedAt", "created_at": "createdAt"}
    records = (
        bodies.with_columns(
            pl.coalesce("trusted_json", "raw_json")
            .str.json_decode(pl.Struct({"history": pl.List(record), "data": pl.List(record)}))
            .alias("raw_json")
        )
        .with_columns(
            pl.coalesce(pl.col("raw_json").struct.field("history"), pl.col("raw_json").struct.field("data")).alias(
                "record"
            )
        )
        .drop("raw_json", "trusted_json")
        .explode("record", empty_as_null=True)
        .unnest("record")
        .with_columns(_moment("datetime"))
        .filter(
            (pl.col("datetime") >= start)
            & (pl.col("datetime") < end)
            & (pl.col("datetime") + _HOUR <= pl.col("ingested_at"))
        )
        .select(
            "zone",
            "datetime",
            pl.col("ingested_at").cast(_UTC),
            "payload_sha256",
            pl.col("isEstimated").alias("is_estimated"),
            pl.col("estimationMethod").alias("estimation_method"),
            *(_moment(field).alias(name) for name, field in times.items()),
            *columns,
        )
        .with_row_index("position")
        .sort("zone", "datetime", *_ORDER, "position", nulls_last=False)
    )
    key = ["zone", "datetime"]
    # Of one response's records of an hour the last; of consecutive ones that say the same, the first; then the newest.
    content = [name for name in records.columns if name not in (*key, "ingested_at", "payload_sha256", "position")]
    spoken = records.unique([*key, "ingested_at", "payload_sha256"], keep="last", maintain_order=True)
    if spoken.height > spoken.select(pl.struct(key).n_unique()).item():
        same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in (*key, *content))
        spoken = spoken.filter(~same)
    return spoken.unique(key, keep="last", maintain_order=True).drop("payload_sha256", "position")


def _moment(field: str) -> pl.Expr:
    # The API's own form; a script is written for the answers its author has seen.
    return pl.col(field).str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="us", time_zone="UTC", strict=True)


def _map(structs: pl.Series, keys: list[str]) -> pa.MapArray:
    """A struct of known keys as Arrow's map of those that have a value."""
    values = structs.struct.unnest().to_numpy()
    has = ~np.isnan(values)
    lengths = has.sum(axis=1)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    names = pa.array(keys).take(pa.array(np.nonzero(has)[1]))
    missing = structs.is_null().to_numpy()
    starts = pa.array(offsets, mask=np.append(missing, [False]))
    return pa.MapArray.from_arrays(starts, names, pa.array(values[has]))


def _columns_of(maps: pa.ChunkedArray, neighbours: tuple[str, ...], direction: str) -> list[pl.Series]:
    flat = maps.combine_chunks()
    row = np.repeat(np.arange(len(flat)), np.diff(flat.offsets.to_numpy()))
    first, last = flat.offsets[0].as_py(), flat.offsets[len(flat)].as_py()
    keys = flat.keys.slice(first, last - first).dictionary_encode()
    values, code = flat.items.slice(first, last - first).to_numpy(zero_copy_only=False), keys.indices.to_numpy()
    place = {key: number for number, key in enumerate(keys.dictionary.to_pylist())}
    columns = []
    for neighbour in neighbours:
        column = np.full(len(flat), np.nan)
        named = code == place.get(neighbour, -1)
        column[row[named]] = values[named]
        columns.append(pl.Series(f"{direction}_{zone_column(neighbour)}", column, nan_to_null=True))
    return columns


def _with_calendar(rows: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    hour = pl.col("datetime")
    days = pl.DataFrame(
        [(key, day) for key, zone in ZONES.items() for day in _holidays(zone.country, start, end)],
        schema={"zone": pl.String, "local_day": pl.Date},
        orient="row",
    ).with_columns(pl.lit(value=True).alias("listed"))
    local = pl.concat(
        part.with_columns(
            hour.dt.convert_time_zone(ZONES[zone].time_zone or "UTC").dt.replace_time_zone(None).alias("local")
        )
        for (zone,), part in rows.select("zone", "datetime").partition_by("zone", as_dict=True).items()
        if zone in ZONES
    )
    known = [key for key, zone in ZONES.items() if _holidays(zone.country, start, end)]
    return (
        rows.join(local, on=["zone", "datetime"], how="left")
        .with_columns(pl.col("local").dt.date().alias("local_day"))
        .join(days, on=["zone", "local_day"], how="left")
        .with_columns(
            hour.dt.hour().cast(pl.Int32).alias("hour"),
            (hour.dt.weekday() % 7 + 1).cast(pl.Int32).alias("day_of_week"),
            hour.dt.month().cast(pl.Int32).alias("month"),
            pl.col("local").dt.hour().cast(pl.Int32).alias("local_hour"),
            (pl.col("local").dt.weekday() % 7 + 1).cast(pl.Int32).alias("local_day_of_week"),
            (pl.col("local").dt.weekday() >= 6).alias("is_weekend"),
            pl.when(pl.col("zone").is_in(known)).then(pl.col("listed").fill_null(value=False)).alias("is_holiday"),
            hour.dt.strftime("%Y-%m").alias("year_month"),
        )
    )


def _holidays(country: str | None, start: datetime, end: datetime) -> list[date]:
    if country is None or country not in holidays.list_supported_countries():
        return []
    years = range((start - timedelta(days=1)).year, (end + timedelta(days=1)).year + 1)
    return sorted(holidays.country_holidays(country, years=years))


def _every_neighbour() -> list[str]:
    return sorted(neighbours_of(tuple(ZONES)))


def _hours(start: datetime, end: datetime) -> pl.DataFrame:
    hours = pl.datetime_range(start, end, "1h", closed="left", time_unit="us", time_zone="UTC", eager=True)
    return hours.alias("datetime").to_frame()


def _days(start: datetime, end: datetime) -> list[datetime]:
    return [*(start + timedelta(days=number) for number in range((end - start).days + 1)), end]


def _write(target: Path, table: Table, rows: pa.Table) -> None:
    write_deltalake(target / table.layer / table.name, rows, mode="overwrite", partition_by=[table.partition])


def _merge(target: Path, table: Table, rows: pa.Table) -> None:
    months = ", ".join(f"'{month}'" for month in sorted(set(rows[table.partition].to_pylist())))
    DeltaTable(target / table.layer / table.name).merge(
        rows,
        f"t.year_month IN ({months}) AND t.zone = s.zone AND t.datetime = s.datetime",
        source_alias="s",
        target_alias="t",
    ).when_matched_update_all().when_not_matched_insert_all().execute()
