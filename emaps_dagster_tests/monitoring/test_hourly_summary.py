"""The numbers of each hour that Dagster plots over partitions."""

from __future__ import annotations

from pyspark.sql import SparkSession

from emaps_dagster.contracts.windows import HOUR
from emaps_dagster.monitoring.hourly_summary import hourly_summary, numbers_by_hour
from emaps_dagster_tests.support.builders import silver, utc

T = utc(2024, 5, 4, 6)


def test_an_hour_has_its_means_over_zones_and_what_was_not_reported_is_absent(spark: SparkSession) -> None:
    rows = [
        {"zone": "GR", "datetime": T, "carbon_intensity": 300.0, "consumption_total": 5000.0},
        {"zone": "BG", "datetime": T, "carbon_intensity": 400.5, "is_estimated_carbon": True},
        {"zone": "GR", "datetime": T + HOUR, "is_estimated_power": True},
    ]
    assert hourly_summary(numbers_by_hour(silver(spark, rows)).toArrow()) == {
        T: {"estimated": 1, "estimated_share": 0.5, "carbon_intensity_mean": 350.25, "consumption_mean": 5000.0},
        T + HOUR: {"estimated": 1, "estimated_share": 1.0},
    }
