"""Ten bugs and more that a pipeline like this one has had, as changes of one function's source.

`planted` puts one in place for a test; a change whose text is no longer in the source fails, so the table stays true.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """`function` is `module:qualified.name` below emaps_dagster; `old` becomes `new` in its source."""

    name: str
    function: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "row-based lag",
        "transforms.gold:features",
        "gather(observed, carrier, start)",
        'gather(observed, carrier, start).drop(*carrier.columns("lag")).join(observed.select('
        '*_KEY, *(F.expr(f"lag({value}) OVER (PARTITION BY zone ORDER BY datetime)").alias(lag) '
        'for value, lag in zip(carrier.columns("value"), carrier.columns("lag"), strict=True))), _KEY, "left")',
    ),
    Mutant(
        "nulls filled with 0",
        "transforms.gold:features",
        "values(silver.where(in_context), zone_keys)",
        "values(silver.where(in_context), zone_keys).na.fill(0.0)",
    ),
    Mutant("inner join of the feeds", "transforms.silver:energy_data", 'how="full_outer"', 'how="inner"'),
    Mutant(
        "context rows written with a cut-off window",
        "pipeline.gold:merge_gold",
        "lakehouse.scan_hours(ENERGY_DATA, gold_context(part))",
        "lakehouse.scan_hours(ENERGY_DATA, part)",
    ),
    Mutant(
        "older ingestion wins",
        "transforms.silver:latest_records",
        'F.lead("datetime")',
        'F.lag("datetime")',
    ),
    Mutant(
        "mean by a float sum",
        "transforms.gold:features",
        'carrier.unpacked(gather(observed, carrier, start), "sum", {"mean": unpack_mean, "count": values_in})',
        '_beside(gather(observed, carrier, start), observed.select("*", '
        'F.explode(F.sequence("datetime", F.col("datetime") + F.lit(LOOKBACK), F.expr("INTERVAL 1 HOUR")))'
        '.alias("_hour")).groupBy("zone", F.col("_hour").alias("datetime")).agg('
        '*carrier.carried(map(F.avg, carrier.values("value")), "mean"), '
        '*carrier.carried((F.count(value).cast("int") for value in carrier.values("value")), "count")), "float"), '
        '{group: carrier.values(group) for group in ("mean", "count")}',
    ),
    Mutant(
        "hours counted as the values of a mean",
        "transforms.gold:features",
        'count_column: of_sums["count"]',
        'count_column: [F.col("_observed").cast("int")] * len(names)',
    ),
    Mutant(
        "a quarantined record let through",
        "transforms.records:parsed_records",
        'F.coalesce("trusted_json", "raw_json")',
        'F.col("raw_json")',
    ),
    Mutant(
        "one bad record costs its body",
        "transforms.records:parsed_records",
        'F.coalesce("trusted_json", "raw_json")',
        'F.when(F.col("trusted_json").isNull(), F.col("raw_json"))',
    ),
    Mutant(
        "the record beside a bad one is lost",
        "electricity_maps.admission:_admitted_one_by_one",
        "for part, _ in trusted)",
        "for part, _ in trusted[:-1])",
    ),
    Mutant(
        "hours read as local time",
        "transforms.records:parsed_records",
        'F.to_timestamp("record.datetime")',
        'F.to_utc_timestamp(F.to_timestamp("record.datetime"), "Europe/Athens")',
    ),
    Mutant(
        "long numbers as Sail's JSON parser reads them",
        "transforms.numbers:parsed_exactly",
        "F.when(body.rlike(_LONG_NUMBER), exact).otherwise(F.from_json(body, schema))",
        "F.from_json(body, schema)",
    ),
    Mutant(
        "no ripple to the hours after a changed one",
        "contracts.windows:gold_window",
        "silver_window(run).widen(timedelta(0), LOOKBACK)",
        "run.widen(LOOKBACK, timedelta(0))",
    ),
    Mutant(
        "merge without a guard against other writers",
        "lakehouse.delta_rs:FolderLakehouse._write",
        "self._delta(table, version)",
        "self._delta(table)",
    ),
    Mutant(
        "running hour taken",
        "transforms.records:parsed_records",
        '& (F.col("datetime") + F.expr("INTERVAL 1 HOUR") <= F.col("ingested_at"))',
        "",
    ),
    Mutant(
        "the provider's update time decides before the ingestion",
        "transforms.silver:_oldest_first",
        "*INGESTION_ORDER",
        '"updated_at", "ingested_at", "payload_sha256"',
    ),
    Mutant(
        "only this run's hours of silver",
        "contracts.windows:silver_window",
        "run.widen(LATE_DATA_MARGIN, LATE_DATA_MARGIN)",
        "run",
    ),
)


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The bug in place wherever its function is used, until the block ends."""
    module_name, _, qualified = mutant.function.partition(":")
    module = importlib.import_module(f"emaps_dagster.{module_name}")
    owner: Any = module
    *path, name = qualified.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(mutant.old) == 1, f"{mutant.name}: {mutant.function} does not say {mutant.old!r} once"
    made: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    exec(compile(source.replace(mutant.old, mutant.new), module.__file__ or "", "exec", flags), module.__dict__, made)
    loaded = [m for n, m in sys.modules.items() if n.startswith("emaps_dagster")]
    # A module that imported the function by name holds it itself; another function may have it as a default.
    holders = [owner] if path else [m for m in loaded if getattr(m, name, None) is original]
    defaults = [
        (function.__kwdefaults__, key)
        for m in loaded
        for function in vars(m).values()
        if inspect.isfunction(function)
        for key, value in (function.__kwdefaults__ or {}).items()
        if value is original
    ]

    def put(function: Any) -> None:
        for holder in holders:
            setattr(holder, name, function)
        for kept, key in defaults:
            kept[key] = function

    put(made[name])
    try:
        yield
    finally:
        put(original)
