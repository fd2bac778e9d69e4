"""What a person reads on an asset's page in Dagster: origin of columns, what to do, how old is too old."""

from __future__ import annotations

import dagster as dg
import pytest

from emaps_dagster.contracts.settings import Settings
from emaps_dagster.contracts.table_contract import Table
from emaps_dagster.contracts.tables import CARBON_DATA, ENERGY_DATA, POWER_DATA, ml_features
from emaps_dagster.definitions import build_definitions
from emaps_dagster.defs.assets.descriptions import PROVIDER_DOCS

TABLES = (POWER_DATA, CARBON_DATA, ENERGY_DATA, ml_features(("GR",)))


def test_dagster_knows_where_each_column_of_gold_and_silver_comes_from() -> None:
    definitions = build_definitions(Settings(_env_file=None))

    def deps(table: Table) -> dict[str, list[str]]:
        key = dg.AssetKey(table.asset_key)
        lineage = definitions.resolve_assets_def(key).get_asset_spec(key).metadata["dagster/column_lineage"]
        return {
            name: [f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in of]
            for name, of in lineage.deps_by_column.items()
        }

    gold, silver_ = deps(ml_features(("GR",))), deps(ENERGY_DATA)
    assert gold["rolling_avg_production_solar_24h"] == ["silver/energy_data.production_solar"]
    assert gold["lag_import_IT_SO_1h"] == ["silver/energy_data.import_by_zone"]
    assert silver_["production_solar"] == ["bronze/power_data.raw_json"]
    assert silver_["ingested_at_carbon"] == ["bronze/carbon_data.ingested_at"]
    for table in (POWER_DATA, CARBON_DATA):
        key = dg.AssetKey(table.asset_key)
        assert "dagster/column_lineage" not in definitions.resolve_assets_def(key).get_asset_spec(key).metadata
    key = dg.AssetKey(["gold", "ml_features"])
    schema = definitions.resolve_assets_def(key).get_asset_spec(key).metadata["dagster/column_schema"]
    tags = {column.name: column.tags for column in schema.columns}
    assert tags["lag_import_IT_SO_1h"]["source"] == "energy_data.import_by_zone"
    assert tags["is_holiday"]["source"] == "energy_data.datetime_and_zone"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_page_says_what_the_table_is_whether_it_is_well_and_what_to_do_if_not(table: Table) -> None:
    key = dg.AssetKey(table.asset_key)
    spec = build_definitions(Settings(_env_file=None)).resolve_assets_def(key).get_asset_spec(key)
    assert spec.description is not None
    assert spec.description.startswith(f"{table.meaning}.\n\n")
    for part in ("**Is it well?**", "**If not:**", "docs/operations.md"):
        assert part in spec.description
    links = [value.url for value in spec.metadata.values() if isinstance(value, dg.UrlMetadataValue)]
    assert links == ([PROVIDER_DOCS] if table.layer == "bronze" else [])
    assert spec.freshness_policy is not None
